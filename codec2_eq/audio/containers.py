# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libsndfile does not tell of a file: further recordings behind the first, and cut ends.

Files of Ogg, MP3 and FLAC may be joined by cat; libsndfile stops after the first. Of many formats
it reads a file that is cut as if it had been shorter all along.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass

_FLAC_START = b"fLaC\0\0\0\x22"  # magic, and the head of the block that is always first
_OGG_FIRST, _OGG_LAST = 2, 4  # flags of a page
_OGG_PAGE_BYTES = 27  # its header before the table of segments


@dataclass(frozen=True)
class Extent:
    """Where the recordings of a file are, and what is wrong with its end.

    parts : first and last offset of each, if there are several; else empty
    problem : empty if the end is as it should be
    """

    parts: tuple[tuple[int, int], ...] = ()
    problem: str = ""


def find_extent(descriptor: int) -> Extent:
    """Look through a regular file for further recordings and for its end."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        head = data[:4]
        if head == b"OggS":
            return _ogg(data)
        if head == b"fLaC":
            return Extent(_between(_all_of(data, _FLAC_START), len(data)))
        if head[:3] == b"ID3" or is_mpeg(head):
            return Extent(_mpeg_parts(data))
        told = _told_bytes(data)
        if told is not None and told > len(data):
            return Extent(problem=f"has {len(data)} bytes, its header tells {told}")
        if told is not None and len(data) - told > 4096:
            return Extent(problem=f"has {len(data) - told} bytes behind its end, left out")
        return Extent()


def _all_of(data: mmap.mmap, magic: bytes) -> list[int]:
    found = []
    at = data.find(magic)
    while at >= 0:
        found.append(at)
        at = data.find(magic, at + 1)
    return found


def _between(starts: list[int], end: int) -> tuple[tuple[int, int], ...]:
    return tuple(zip(starts, [*starts[1:], end], strict=True)) if len(starts) > 1 else ()


def _ogg(data: mmap.mmap) -> Extent:
    """Walk over the pages: a first page behind others begins another recording."""
    starts = [0]
    at, in_heads = 0, True
    open_streams: set[bytes] = set()
    while at + _OGG_PAGE_BYTES <= len(data):
        if data[at : at + 4] != b"OggS":
            at = _min_found(data.find(b"OggS", at))
            continue
        flags = data[at + 5]
        serial = data[at + 14 : at + 18]
        if flags & _OGG_FIRST:
            if not in_heads:
                starts.append(at)
                open_streams.clear()
            open_streams.add(serial)
        in_heads = bool(flags & _OGG_FIRST)
        if flags & _OGG_LAST:
            open_streams.discard(serial)
        n_segments = data[at + 26]
        body = data[at + _OGG_PAGE_BYTES : at + _OGG_PAGE_BYTES + n_segments]
        end = at + _OGG_PAGE_BYTES + n_segments + sum(body)
        if end > len(data):
            return Extent(_between(starts, len(data)), "is cut within its last page")
        at = end
    problem = "has no mark at its end" if open_streams else ""
    return Extent(_between(starts, len(data)), problem)


# MPEG audio


def is_mpeg(head: bytes | bytearray) -> bool:
    """Whether an MPEG audio frame starts here: eleven bits set, layer and version not reserved."""
    return (
        len(head) >= 2
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[1] & 0x06 != 0
    )


_KBPS = {  # by version 1 or later, and layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of ISO 11172-3 and 13818-3 [kbit/s], by index; 0 is a free format."""

_MPEG_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _mpeg_parts(data: mmap.mmap) -> tuple[tuple[int, int], ...]:
    """Walk over the frames: one with a table of contents begins a recording of a told length.

    libsndfile decodes that many frames and stops, whatever follows.
    """
    parts: list[list[int]] = []
    at, n_left = 0, -1  # frames still to come of a recording that tells; -1: it does not
    title = None  # offset of the one before the next frame
    while at + 10 <= len(data):
        if data[at : at + 3] == b"ID3":
            title = at
            at += 10 + _int28(data[at + 6 : at + 10])
            continue
        length, told_at = _mpeg_frame(data, at)
        if not length:
            at = _min_found(data.find(b"\xff", at + 1), data.find(b"ID3", at + 1, at + 4096))
            continue
        told = _told_frames(data, told_at)
        if told is not None or n_left == 0 or not parts:
            parts.append([at if title is None else title, 0])
            n_left = -1 if told is None else told + 1
        n_left -= n_left > 0
        title = None
        at += length
        parts[-1][1] = min(at, len(data))
    return tuple((start, end) for start, end in parts) if len(parts) > 1 else ()


def _int28(data: bytes) -> int:
    """Return a number of four bytes of seven bits each."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def _min_found(*offsets: int) -> int:
    """Return the first of offsets that `find` has given; beyond any file if there is none."""
    return min((offset for offset in offsets if offset >= 0), default=1 << 62)


def _mpeg_frame(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Return the bytes of the frame at an offset, 0 if none is, and where it may tell a length."""
    head = data[at : at + 4]
    if len(head) < 4 or not is_mpeg(head):
        return 0, 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, hz_index = head[2] >> 4, head[2] >> 2 & 3
    if rate_index in (0, 15) or hz_index == 3:
        return 0, 0
    bits = 1000 * _KBPS[version == 3, layer][rate_index]
    rate, padding = _MPEG_HZ[version][hz_index], head[2] >> 1 & 1
    mono = head[3] >> 6 == 3
    if layer == 1:
        return (12 * bits // rate + padding) * 4, 0
    samples = 1152 if version == 3 or layer == 2 else 576
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return samples // 8 * bits // rate + padding, at + 4 + side


def _told_frames(data: mmap.mmap, at: int) -> int | None:
    """Return the number of frames that a table of contents at this place tells."""
    head = data[at : at + 12]
    if head[:4] not in (b"Xing", b"Info") or len(head) < 12 or not head[7] & 1:
        return None
    return int.from_bytes(head[8:12], "big")


# Lengths in headers


def _told_bytes(data: mmap.mmap) -> int | None:
    """Return the length of the file as its header tells; None where it does not."""
    head = data[:40]
    if len(head) < 40:
        return None
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return 8 + int.from_bytes(head[4:8], "big")
    if head[:4] == b".snd":
        offset, size = struct.unpack(">II", head[4:12])
        return None if size == 0xFFFFFFFF else offset + size
    if head[:4] == b"riff" and head[24:28] == b"wave":  # Wave64
        return int.from_bytes(head[16:24], "little")
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        size = int.from_bytes(head[4:8], "little")
        return 8 + size if 36 < size < 0x7FFE0000 else None
    if head[:8] == b"NIST_1A\n":
        return _told_by_nist(data[:1024])
    if head[:20] == b"Creative Voice File\x1a":
        start = int.from_bytes(head[20:22], "little")
        return start + 4 + int.from_bytes(data[start + 1 : start + 4], "little")
    return None


def _told_by_nist(header: bytes) -> int | None:
    """Return the length of a NIST SPHERE file of plain samples."""
    fields = dict(re.findall(rb"^(\w+) -i (\d{1,12})$", header, re.MULTILINE))
    try:
        frame_bytes = int(fields[b"channel_count"]) * int(fields[b"sample_n_bytes"])
        return len(header) + int(fields[b"sample_count"]) * frame_bytes
    except KeyError:
        return None
