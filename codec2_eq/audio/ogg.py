# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ogg: walks over the pages, as decoders pass over damaged and missing ones in silence."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from codec2_eq.audio.extent import AS_FAR, Extent, Part, check_marks, strange
from codec2_eq.audio.window import FileWindow

_PAGE_START = re.compile(b"OggS")
_FLAC = b"\x7fFLAC"
_FLAC_HEAD_BYTES = 9  # in Ogg, before the file proper
_AUDIO = (b"\x01vorbis", b"OpusHead", _FLAC, b"Speex   ")
_FIRST, _LAST = 2, 4  # flags of a page
_PAGE_BYTES = 27  # its header before the table of segments
_CHECKSUM = slice(22, 26)
_DAMAGED = f"has damaged pages, skipped{AS_FAR}"
_UNFINISHED = f"has no end mark{AS_FAR}"
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_extent(data: FileWindow) -> Extent:
    """Find the recordings: a first page behind others begins another one."""
    starts: list[int] = []
    problems: list[str] = []
    at, n_strange, n_damaged, in_heads, n_audio = 0, 0, 0, False, 0
    numbers: dict[bytes, int] = {}  # of the next page of each stream that is not at its end
    while at < len(data):
        page = _page_at(data, at)
        if not page:
            following = data.search(_PAGE_START, at + 1)
            check_marks(n_damaged)
            if data[at : at + 4] == b"OggS":
                n_damaged += 1
                last = following == len(data)
                problems += [f"is cut within its last page{AS_FAR}" if last else _DAMAGED]
            else:
                n_strange += following - at
            at = following
            continue
        flags, serial, number = page[5], page[14:18], int.from_bytes(page[18:22], "little")
        if flags & _FIRST:
            if not in_heads:
                problems += [_UNFINISHED] * bool(numbers)
                starts.append(at)
                numbers, n_audio = {}, 0
            n_audio += _body(page).startswith(_AUDIO)
            if n_audio == 2:
                problems.append("holds several streams at once, of which only one is read")
        elif numbers.get(serial, number) != number:
            problems.append(f"lacks pages in the middle{AS_FAR}")
        in_heads = bool(flags & _FIRST)
        numbers[serial] = number + 1
        if flags & _LAST:
            del numbers[serial]
        at += len(page)
    problems += [_UNFINISHED] * bool(numbers) + strange(n_strange, "Ogg")
    wrapped = data[28:33] == _FLAC
    parts: tuple[Part, ...] = ()
    if len(starts) > 1 or wrapped:
        parts = tuple(map(Part, starts, [*starts[1:], len(data)]))
    return Extent(parts, wrapped, tuple(dict.fromkeys(problems))[:1])


def _page_at(data: FileWindow, at: int) -> bytes:
    """Return the whole page that begins at an offset, empty if none does or its sum is wrong."""
    head = data[at : at + _PAGE_BYTES + 255]
    if head[:5] != b"OggS\0" or len(head) < _PAGE_BYTES:
        return b""
    n_segments = head[26]
    n_bytes = _PAGE_BYTES + n_segments + sum(head[_PAGE_BYTES:][:n_segments])
    page = data[at : at + n_bytes]
    if len(page) < n_bytes or _checksum(page) != page[_CHECKSUM]:
        return b""
    return page


def _checksum(page: bytes) -> bytes:
    """Return the sum of a page: the polynomial of ZIP, begun at 0 and with all bits mirrored."""
    zeroed = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    mirrored = zlib.crc32(zeroed.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return mirrored.to_bytes(4, "big").translate(_MIRRORED)


def _body(page: bytes) -> bytes:
    return page[_PAGE_BYTES + page[26] :]


def unwrapped(descriptor: int, part: Part) -> Iterator[bytes]:
    """Yield the bytes of a FLAC file within Ogg pages; pages of other streams are skipped."""
    data = FileWindow(descriptor)
    at, serial = part.start, data[part.start + 14 : part.start + 18]
    n_head = _FLAC_HEAD_BYTES
    while at < part.end:
        page = _page_at(data, at)
        if not page:
            at = data.search(_PAGE_START, at + 1)
            continue
        at += len(page)
        if page[14:18] == serial:
            yield _body(page)[n_head:]
            n_head = 0
