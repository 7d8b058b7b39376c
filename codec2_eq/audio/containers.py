# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds what libsndfile does not report: further recordings after the first, and cut ends.

Files of Ogg, MP3 and FLAC may be joined by cat; libsndfile stops after the first. Of many formats
it reads a file that is cut as if it had been shorter all along.
"""

from __future__ import annotations

import itertools
import re

from codec2_eq.audio.extent import Extent, Part, check_marks
from codec2_eq.audio.flac import restated
from codec2_eq.audio.lengths import find_wrong_end
from codec2_eq.audio.mpeg import is_mpeg, mpeg_extent, tag_bytes
from codec2_eq.audio.ogg import ogg_extent
from codec2_eq.audio.window import FileWindow

_FLAC_START = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""Magic, and the head of the block that is always first."""

_MOST_TITLE_BYTES = 1 << 20  # looked for before the end of a recording
_MOST_TITLES = 4
_FOOT_BYTES = 32  # at the start and end of titles of one kind
_OLD_TITLE_BYTES = 128  # of another


def find_extent(descriptor: int) -> Extent:
    """Look through a regular file for further recordings and for its end.

    Raises Codec2EqError if libsndfile would take other bytes for samples.
    """
    data = FileWindow(descriptor)
    head = data[0:4]
    if head == b"OggS":
        return ogg_extent(data)
    start = n_titles = 0
    while data[start : start + 3] == b"ID3":
        start += tag_bytes(data[start : start + 10]) or len(data)
        check_marks(n_titles := n_titles + 1)
    if data[start : start + 4] == b"fLaC":
        return _flac(data)
    if head[:3] == b"ID3" or is_mpeg(head):
        return mpeg_extent(data)
    problem = find_wrong_end(data)
    return Extent(problems=(problem,) if problem else ())


def _flac(data: FileWindow) -> Extent:
    """Find the recordings, without the titles behind them: libFLAC takes these for damage."""
    starts: list[int] = []
    at = data.search(_FLAC_START, 0)
    while at < len(data):
        starts.append(at)
        check_marks(len(starts))
        at = data.search(_FLAC_START, at + 1)
    ends = [_before_id3(data, *span) for span in itertools.pairwise([*starts, len(data)])]
    parts = [Part(a, _before_titles(data, a, z)) for a, z in zip(starts, ends, strict=True)]
    as_it_is = parts == [Part(0, len(data))] and not restated(data)
    return Extent(() if as_it_is else tuple(parts))


def _before_id3(data: FileWindow, start: int, end: int) -> int:
    """Return where titles begin that reach from within a recording to its end, or that."""
    start = max(start, end - _MOST_TITLE_BYTES)
    tail = data[start:end]
    at = tail.find(b"ID3")
    while at >= 0:
        behind = at
        for _ in range(_MOST_TITLES):
            behind += tag_bytes(tail[behind : behind + _FOOT_BYTES])
        if behind == len(tail):
            return start + at
        at = tail.find(b"ID3", at + 1)
    return end


def _before_titles(data: FileWindow, start: int, end: int) -> int:
    """Return where the titles begin that end at `end`, or that offset itself."""
    while end - start > _OLD_TITLE_BYTES:
        foot = data[end - _FOOT_BYTES : end]
        n_bytes = 0
        if data[end - _OLD_TITLE_BYTES : end].startswith(b"TAG"):
            n_bytes = _OLD_TITLE_BYTES
        elif foot.startswith(b"APETAGEX"):
            has_head = foot[23] & 0x80
            n_bytes = int.from_bytes(foot[12:16], "little") + (_FOOT_BYTES if has_head else 0)
        if not 0 < n_bytes < end - start:
            break
        end -= n_bytes
    return end
