# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds what libsndfile does not report: further recordings after the first, and cut ends.

Files of Ogg, MP3 and FLAC may be joined by cat; libsndfile stops after the first. Of many formats
it reads a file that is cut as if it had been shorter all along.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codec2_eq.audio.lengths import find_wrong_end
from codec2_eq.audio.window import FileWindow

_FLAC_START = b"fLaC\0\0\0\x22"  # magic, and the head of the block that is always first
_FLAC_IN_OGG = b"\x7fFLAC"
_FLAC_HEAD_BYTES = 9  # in Ogg, before the file proper
_OGG_FIRST, _OGG_LAST = 2, 4  # flags of a page
_OGG_PAGE_BYTES = 27  # its header before the table of segments
_MPEG_HEAD_BYTES = 64  # up to the end of the length that a first frame states
_STRANGE_BYTES = 1024  # not worth a warning: notes and padding of other programs
_AS_FAR = "; processed as far as it goes"


@dataclass(frozen=True)
class Extent:
    """Where the recordings of a file are, and what is wrong with its end.

    parts : first and last offset of each, if libsndfile cannot read the file as it is; else empty
    wrapped : whether it is FLAC in pages of Ogg, which `unwrapped` takes out
    problem : empty if the end is as it should be
    """

    parts: tuple[tuple[int, int], ...] = ()
    wrapped: bool = False
    problem: str = ""


def find_extent(descriptor: int) -> Extent:
    """Look through a regular file for further recordings and for its end.

    Raises Codec2EqError if libsndfile would take other bytes for samples.
    """
    data = FileWindow(descriptor)
    head = data[0:4]
    if head == b"OggS":
        return _ogg(data)
    if head == b"fLaC":
        return Extent(_between(_all_of(data, _FLAC_START), len(data)))
    if head[:3] == b"ID3" or is_mpeg(head):
        return _mpeg(data)
    return Extent(problem=find_wrong_end(data))


def _all_of(data: FileWindow, magic: bytes) -> list[int]:
    found = []
    at = data.find(magic, 0)
    while at >= 0:
        found.append(at)
        at = data.find(magic, at + 1)
    return found


def _between(starts: list[int], end: int, *, single: bool = False) -> tuple[tuple[int, int], ...]:
    if not starts or (len(starts) == 1 and not single):
        return ()
    return tuple(zip(starts, [*starts[1:], end], strict=True))


def _ogg(data: FileWindow) -> Extent:
    """Walk over the pages: a first page behind others begins another recording."""
    starts = [0]
    at, n_strange, in_heads = 0, 0, True
    open_streams: set[bytes] = set()
    while at < len(data):
        page = data[at : at + _OGG_PAGE_BYTES + 255]
        if page[:4] != b"OggS":
            following = _or_end(data.find(b"OggS", at), data)
            n_strange += following - at
            at = following
            continue
        if len(page) < _OGG_PAGE_BYTES:
            at += _OGG_PAGE_BYTES  # beyond the end
            break
        flags, serial, n_segments = page[5], page[14:18], page[26]
        if flags & _OGG_FIRST:
            if not in_heads:
                starts.append(at)
                open_streams.clear()
            open_streams.add(serial)
        in_heads = bool(flags & _OGG_FIRST)
        if flags & _OGG_LAST:
            open_streams.discard(serial)
        at += _OGG_PAGE_BYTES + n_segments + sum(page[_OGG_PAGE_BYTES:][:n_segments])
    problem = _of_strange(n_strange, "Ogg")
    if at > len(data):
        problem = f"is cut within its last page{_AS_FAR}"
    elif open_streams:
        problem = f"has no end mark{_AS_FAR}"
    wrapped = data[28:33] == _FLAC_IN_OGG
    return Extent(_between(starts, len(data), single=wrapped), wrapped, problem)


def unwrapped(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of a FLAC file within Ogg pages; pages of other streams are skipped."""
    data = FileWindow(descriptor)
    at, serial = start, data[start + 14 : start + 18]
    n_head = _FLAC_HEAD_BYTES
    while at < end:
        page = data[at : at + _OGG_PAGE_BYTES + 255]
        if page[:4] != b"OggS" or len(page) < _OGG_PAGE_BYTES:
            at = _or_end(data.find(b"OggS", at + 1), data)
            continue
        body = at + _OGG_PAGE_BYTES + page[26]
        at = body + sum(page[_OGG_PAGE_BYTES:][: page[26]])
        if page[14:18] == serial:
            yield data[body + n_head : at]
            n_head = 0


def _or_end(found: int, data: FileWindow) -> int:
    """Return an offset from `find`, or the end of the file where it found nothing."""
    return found if found >= 0 else len(data)


def _of_strange(n_bytes: int, kind: str) -> str:
    return f"holds {n_bytes} bytes that are not {kind}, skipped" if n_bytes > _STRANGE_BYTES else ""


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


def _mpeg(data: FileWindow) -> Extent:
    """Walk over the frames: one with a table of contents begins a recording of known length.

    libsndfile decodes that many frames and stops, whatever follows.
    """
    parts: list[list[int]] = []
    at, n_strange = 0, 0
    n_left = -1  # frames still to come of a recording that states its length; -1: it does not
    title = None  # offset of the one before the next frame
    end = 0  # of the last frame
    while at < len(data):
        head = data[at : at + _MPEG_HEAD_BYTES]
        if tag_bytes := _tag_bytes(head):
            title = at if head[:3] == b"ID3" else title
            at += tag_bytes
            continue
        length, stated_at = _mpeg_frame(head)
        if not length:
            following = _next_mpeg(data, at + 1)
            n_strange += following - at if end else 0
            at = following
            continue
        stated = _stated_frames(head[stated_at:])
        if stated is not None or n_left == 0 or not parts:
            parts.append([at if title is None else title, 0])
            n_left = -1 if stated is None else stated + 1
        n_left -= n_left > 0
        title = None
        at += length
        end = at
        parts[-1][1] = min(end, len(data))
    problem = _of_strange(n_strange, "MPEG audio")
    if end > len(data) or n_left > 0:
        problem = f"is cut{_AS_FAR}"
    joined = tuple((start, end) for start, end in parts) if len(parts) > 1 else ()
    return Extent(joined, problem=problem)


def _next_mpeg(data: FileWindow, at: int) -> int:
    """Return the offset of what may be a frame or a title, the end if nothing may be."""
    frame = _or_end(data.find(b"\xff", at), data)
    title = data[at : min(frame, at + 4096)].find(b"ID3")
    return frame if title < 0 else at + title


def _tag_bytes(head: bytes) -> int:
    """Return the length of the titles that begin here, 0 if none do."""
    if head[:3] == b"ID3" and len(head) >= 10:
        return 10 + _int28(head[6:10])
    if head[:8] == b"APETAGEX" and len(head) >= 16:
        return 32 + int.from_bytes(head[12:16], "little")
    return 128 if head[:3] == b"TAG" else 0


def _int28(data: bytes) -> int:
    """Return a number of four bytes of seven bits each."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def _mpeg_frame(head: bytes) -> tuple[int, int]:
    """Return the bytes of the frame that begins here, or 0; and where a length may be in it."""
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
        return (12 * bits // rate + padding) * 4, len(head)
    samples = 1152 if version == 3 or layer == 2 else 576
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return samples // 8 * bits // rate + padding, 4 + side


def _stated_frames(head: bytes) -> int | None:
    """Return the number of frames in a table of contents, None if this is none."""
    if head[:4] not in (b"Xing", b"Info") or len(head) < 12 or not head[7] & 1:
        return None
    return int.from_bytes(head[8:12], "big")
