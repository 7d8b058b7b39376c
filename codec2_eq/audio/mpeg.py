# SPDX-License-Identifier: LGPL-2.1-or-later
"""MPEG audio: counts the frames of each recording, as libsndfile reads no more than it expects.

A recording may begin with a frame that states its length. Where none does, libsndfile guesses it
from the first frame, and leaves out half of a recording whose later frames are smaller; it is then
given a frame made here that states the length.

Source of the frames and rates: ISO 11172-3 and 13818-3.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

from codec2_eq.audio.extent import AS_FAR, Extent, Part, check_marks, strange
from codec2_eq.audio.window import FileWindow

_HEAD_BYTES = 64  # up to the end of the length that a first frame states
_MOST_STRANGE_BYTES = 4 << 20  # searched through for further frames
_KBPS = {  # by version 1 or later, and layer; 0 is a free format
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_FIRST_KBPS = 8  # index of the bit rate of a frame made here, large enough at each rate
_START = re.compile(rb"ID3|APETAGEX|\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]", re.DOTALL)


def is_mpeg(head: bytes | bytearray) -> bool:
    """Whether an MPEG audio frame starts here: eleven bits set, layer and version not reserved."""
    return (
        len(head) >= 2
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[1] & 0x06 != 0
    )


class _Frame(NamedTuple):
    """What the head of a frame says.

    layout : what all frames of a recording have in common: version, layer, rate, mono or not
    side : bytes of the side information after the head, where layer III has it
    """

    n_bytes: int
    n_samples: int
    layout: tuple[int, int, int, bool]
    side: int


def _frame(data: bytes) -> _Frame | None:
    return _parse(data[:4])


@functools.lru_cache(256)
def _parse(head: bytes) -> _Frame | None:
    if len(head) < 4 or not is_mpeg(head):
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, hz_index = head[2] >> 4, head[2] >> 2 & 3
    if rate_index in (0, 15) or hz_index == 3:
        return None
    bits = 1000 * _KBPS[version == 3, layer][rate_index]
    rate, padding = _MPEG_HZ[version][hz_index], head[2] >> 1 & 1
    mono = head[3] >> 6 == 3
    layout = version, layer, rate, mono
    if layer == 1:
        return _Frame((12 * bits // rate + padding) * 4, 384, layout, 0)
    samples = 1152 if version == 3 or layer == 2 else 576
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Frame(samples // 8 * bits // rate + padding, samples, layout, side)


@dataclass
class _Recording:
    """Frames that belong together.

    title : the frame that states their number, and is silent itself
    stated : that number, None without such a frame
    read_by_others : whether libsndfile knows such frames: Xing's, not Fraunhofer's
    """

    start: int
    frame: _Frame
    stated: int | None
    read_by_others: bool
    first: int = 0
    n_frames: int = 0
    end: int = 0

    def part(self, data: FileWindow) -> Part:
        """Return where it is, and a head for it if it has none, or one that states too little."""
        end = min(self.end, len(data))
        if self.read_by_others and self.n_frames <= (self.stated or 0):
            return Part(self.start, end)
        n_samples = self.n_frames * self.frame.n_samples
        head = data[self.first : self.first + 4] if self.n_frames else b""
        return Part(self.first, end, n_samples, _first_frame(head, self.n_frames))


def mpeg_extent(data: FileWindow) -> Extent:
    """Walk over the frames: one that states a length, or is of another kind, begins a recording."""
    found: list[_Recording] = []
    at, n_strange, n_titles, in_step, cut = 0, 0, 0, False, False
    while at < len(data):
        head = data[at : at + _HEAD_BYTES]
        if n_bytes := tag_bytes(head):
            check_marks(n_titles := n_titles + 1)
            at += n_bytes
            continue
        frame = _frame(head)
        follows = frame is not None and _goes_on(data, at + frame.n_bytes, frame)
        alike = frame is not None and in_step and found[-1].frame.layout == frame.layout
        if frame is None or not (follows or alike):
            following = _next_start(data, at + 1) if n_strange < _MOST_STRANGE_BYTES else len(data)
            n_strange += following - at if found else 0
            at, in_step = following, False
            continue
        end = at + frame.n_bytes
        if not follows:  # it may be cut, and another recording begin within it
            end = _next_confirmed(data, at + 4, end)
            cut = cut or end < at + frame.n_bytes
        _add(found, at, end, frame, head)
        at, in_step = end, True
    problems = strange(n_strange, "MPEG audio")
    cut = cut or any(each.n_frames < (each.stated or 0) for each in found)
    if cut or (found and found[-1].end > len(data)):
        problems = [f"is cut{AS_FAR}"]
    parts = tuple(each.part(data) for each in found if each.n_frames)
    as_it_is = len(parts) == 1 and parts[0].n_samples is None
    return Extent(() if as_it_is else parts, problems=tuple(problems))


def _add(found: list[_Recording], at: int, end: int, frame: _Frame, head: bytes) -> None:
    """Count a frame as one of the last recording, or begin another."""
    stated = _stated_frames(head, frame)
    if stated is not None:
        found.append(_Recording(at, frame, *stated, first=end, end=end))
        return
    if not found or found[-1].frame.layout != frame.layout:
        found.append(_Recording(at, frame, None, False, first=at))
    found[-1].n_frames += 1
    found[-1].end = end


def _goes_on(data: FileWindow, at: int, frame: _Frame) -> bool:
    """Whether what is at `at` may follow a frame: one of its kind, a title, or the end."""
    if at >= len(data):
        return True
    head = data[at : at + _HEAD_BYTES]
    following = _frame(head)
    return (following is not None and following.layout == frame.layout) or tag_bytes(head) > 0


def _next_start(data: FileWindow, at: int) -> int:
    """Return the offset of what may be a frame or a title; the end if nothing near may be."""
    return data.search(_START, at, at + _MOST_STRANGE_BYTES)


def _next_confirmed(data: FileWindow, at: int, end: int) -> int:
    """Return the first offset before `end` of a title, or of a frame that a frame follows."""
    while (at := _next_start(data, at)) < end:
        head = data[at : at + _HEAD_BYTES]
        frame = _frame(head)
        if tag_bytes(head) or (frame and _goes_on(data, at + frame.n_bytes, frame)):
            return at
        at += 1
    return end


def tag_bytes(head: bytes) -> int:
    """Return the length of the titles that begin here, 0 if none do."""
    if head[:3] == b"ID3" and len(head) >= 10:
        return 10 + _int28(head[6:10])
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        is_head = head[23] & 0x20
        return 32 + (int.from_bytes(head[12:16], "little") if is_head else 0)
    return 128 if head[:3] == b"TAG" else 0


def _int28(data: bytes) -> int:
    """Return a number of four bytes of seven bits each."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def _stated_frames(head: bytes, frame: _Frame) -> tuple[int | None, bool] | None:
    """Return the number of frames that this one states, and whether libsndfile knows its kind.

    None if it is none that states anything.
    """
    table = head[4 + frame.side :]
    if table[:4] in (b"Xing", b"Info") and len(table) >= 12:
        stated = int.from_bytes(table[8:12], "big") if table[7] & 1 else 0
        return stated or None, True
    if head[36:40] == b"VBRI" and len(head) >= 54:
        return int.from_bytes(head[50:54], "big") or None, False
    return None


def _first_frame(head: bytes, n_frames: int) -> bytes:
    """Return a frame for before one with this head: it states the number of frames to come."""
    if not head:
        return b""
    head = bytes([head[0], head[1] | 1, _FIRST_KBPS << 4 | head[2] & 0x0C, head[3]])  # no checksum
    frame = _frame(head)
    if frame is None or frame.layout[1] != 3:  # other layers have none
        return b""
    table = b"Info" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    return (head + bytes(frame.side) + table).ljust(frame.n_bytes, b"\0")
