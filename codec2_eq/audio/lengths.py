# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a file should be by its header.

libsndfile takes most files that are cut for shorter ones, and says nothing. The formats are
described in its sources and in their specifications.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from codec2_eq.audio.window import FileWindow
from codec2_eq.errors import Codec2EqError

_UNKNOWN = -1
"""Length of a file whose header marks it as unknown, or has no place for it."""

_UNKNOWN_32 = 0xFFFFFFFF
_LEFT_BY_PIPES = range(0x7F000000, _UNKNOWN_32 + 1)  # as the length of samples
_MOST_CHUNKS = 100_000
_FORMAT_CHUNK = re.compile(rb"fmt \0\0\0")
_MOST_HEAD_BYTES = 1 << 16
_INTEGERS = (1, 0xFFFE)  # tags of a format chunk
_TITLES = (b"TAG", b"ID3", b"APETAGEX")  # as in MP3, after the samples


def find_wrong_end(data: FileWindow) -> str:
    """Return what is wrong with or unknown about the end of a file; empty if nothing is."""
    stated = _stated_bytes(data)
    if stated is None:
        return ""
    if stated == _UNKNOWN:
        return "states no length, so a cut end would go unnoticed"
    if stated > len(data):
        return f"has {len(data)} bytes, but its header states {stated}; processed as far as it goes"
    behind = data[stated : stated + 4096]
    if behind.strip(b"\0") and not behind.startswith(_TITLES):
        return (
            f"has {len(data) - stated} bytes after the end stated in its header; is it two files?"
        )
    return ""


def _stated_bytes(data: FileWindow) -> int | None:
    """Return the length of the whole file, _UNKNOWN if it is unknown; None for other formats."""
    head = data[0:64]
    for pattern, length in _FORMATS:
        if pattern.match(head):
            try:
                return length(data)
            except (struct.error, IndexError):
                return _UNKNOWN  # cut within its header, or nonsense: for libsndfile to report
    return None


def _number(data: FileWindow, at: int, kind: str) -> int:
    """Return the integer at an offset, of a type of `struct`."""
    (number,) = struct.unpack(kind, data[at : at + struct.calcsize(kind)])
    return int(number)


def _iff(data: FileWindow) -> int | None:
    return _walk(data, ">I", (b"SSND", b"BODY"))


def _riff(data: FileWindow) -> int | None:
    if data[0:4] != b"RIFX":
        return _walk(data, "<I", (b"data",))
    at = data.search(_FORMAT_CHUNK, 12, _MOST_HEAD_BYTES)
    tag, channels, frame_bytes, bits = struct.unpack(">HH8xHH", data[at + 8 : at + 24])
    if tag in _INTEGERS and 16 < bits <= 24 and frame_bytes == 4 * channels:
        raise Codec2EqError(
            "",
            f"is RIFX with samples of {bits} bits in 4 bytes, which libsndfile reads as noise",
            "convert it to WAV of 16 or 24 bits, say with ffmpeg",
        )
    return _walk(data, ">I", (b"data",))


def _walk(data: FileWindow, size_kind: str, samples: tuple[bytes, ...]) -> int | None:
    """Go from chunk to chunk: what the first states of the file's length is wrong more often."""
    wide = data[12:16] == b"ds64"
    at, found = 12, False
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return at
        name, size = data[at : at + 4], _number(data, at + 4, size_kind)
        if not _is_name(name) or (found and name in samples):
            return at
        found = found or name in samples
        if name in samples and (size in _LEFT_BY_PIPES or (size == 0 and name == b"SSND")):
            if not wide or size != _UNKNOWN_32:
                return None
            size = _number(data, 28, "<Q")
        at += 8 + size
        # Some writers omit the padding.
        at += size % 2 if at < len(data) and not _is_name(data[at : at + 4]) else 0
    return _UNKNOWN


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and name.isascii() and name.replace(b" ", b"0").isalnum()


def _au(data: FileWindow) -> int:
    start, size = struct.unpack(">II" if data[0:4] == b".snd" else "<II", data[4:12])
    return _UNKNOWN if size == _UNKNOWN_32 else start + size


def _wave64(data: FileWindow) -> int:
    size = _number(data, 16, "<q")
    return size if size >= 0 else _UNKNOWN  # as pipes leave it


def _caf(data: FileWindow) -> int:
    at = 8
    while at + 12 <= len(data):
        name, size = data[at : at + 4], _number(data, at + 4, ">q")
        if not name.isalnum() or name == b"caff":  # another file
            break
        if size < 0:
            return _UNKNOWN
        at += 12 + size
    return at


def _nist(data: FileWindow) -> int:
    fields = dict(re.findall(rb"^(\w+) -\w+ (\d{1,12})$", data[0:1024], re.MULTILINE))
    try:
        frame_bytes = int(fields[b"channel_count"]) * int(fields[b"sample_n_bytes"])
        return int(data[8:16]) + int(fields[b"sample_count"]) * frame_bytes
    except (KeyError, ValueError):
        return _UNKNOWN


def _voc(data: FileWindow) -> int:
    """Go through the blocks to the end of the samples.

    libsndfile takes all that follows the first of them for samples, heads of further blocks too.
    """
    at, n_blocks = _number(data, 20, "<H"), 0
    while at + 4 <= len(data) and (kind := _number(data, at, "B")):
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "little")
        n_blocks += bool(n_blocks) or kind in (1, 9)
    if n_blocks > 1:
        raise Codec2EqError(
            "",
            f"is a Creative Voice File of {n_blocks} blocks, only files of one block can be read",
            "convert it to WAV",
        )
    return at


def _avr(data: FileWindow) -> int:
    stereo, bits = struct.unpack(">hH", data[12:16])
    return 128 + _number(data, 26, ">I") * (2 if stereo else 1) * (bits // 8)


def _mpc2k(data: FileWindow) -> int:
    return 42 + _number(data, 30, "<I") * 2 * (2 if _number(data, 21, "B") else 1)


def _wve(data: FileWindow) -> int:
    return 32 + _number(data, 18, ">I")


def _xi(data: FileWindow) -> int:
    n_samples = _number(data, 296, "<H")
    sizes = [_number(data, 298 + 40 * each, "<I") for each in range(n_samples)]
    return 298 + 40 * n_samples + sum(sizes) if all(sizes) else _UNKNOWN


def _sds(data: FileWindow) -> int:
    """Count packets of 127 bytes with 40, 60 or 120 samples of 7 bits to a byte."""
    bits = _number(data, 6, "B")
    samples = _number(data, 10, "B") | _number(data, 11, "B") << 7 | _number(data, 12, "B") << 14
    per_packet = 120 // max(2, -(-bits // 7))
    return 21 + 127 * -(-samples // per_packet)


_MAT4_BYTES = (8, 4, 4, 2, 2, 1)


def _mat4(data: FileWindow) -> int:
    order = "<" if data[0:4] == bytes(4) else ">"
    at = 0
    for _ in range(2):  # the rate, and the samples
        kind, rows, columns, complex_, name = struct.unpack(order + "5I", data[at : at + 20])
        at += 20 + name + rows * columns * _MAT4_BYTES[kind // 10 % 10] * (2 if complex_ else 1)
    return at


def _mat5(data: FileWindow) -> int:
    """Add up the parts of two arrays, rate and samples; their own sizes are sometimes too large."""
    order = "<" if data[126:128] == b"IM" else ">"
    at = end = 128
    for _ in range(2):
        at += 8
        for _ in ("flags", "dimensions", "name", "samples"):
            kind, size = struct.unpack(order + "II", data[at : at + 8])
            end = at + 8 + (0 if kind > 0xFFFF else size)  # short ones lie in their heads
            at += -(-(end - at) // 8) * 8
    return end


_FORMATS: tuple[tuple[re.Pattern[bytes], Callable[[FileWindow], int | None]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), length)
    for pattern, length in (
        (rb"FORM....(AIF[FC]|8SVX|16SV)", _iff),
        (rb"(RIFF|RIFX|RF64|BW64)....WAVE", _riff),
        (rb"\.snd|dns\.", _au),
        (rb"riff.{20}wave", _wave64),
        (rb"caff", _caf),
        (rb"NIST_1A\n", _nist),
        (rb"Creative Voice File\x1a", _voc),
        (rb"2BIT", _avr),
        (rb"\x01\x04", _mpc2k),
        (rb"ALawSoundFile\*\*\0", _wve),
        (rb"Extended Instrument: ", _xi),
        (rb"\xf0\x7e.\x01", _sds),
        (rb"\0\0\x03\xe8\0\0\0\x01|\0\0\0\0\x01\0\0\0", _mat4),
        (rb"MATLAB 5\.0", _mat5),
        (rb" paf|fap |PVF1|\x64\xa3.\0|\0.\xa3\x64", lambda data: _UNKNOWN),  # PAF, PVF, IRCAM
    )
)
"""The first bytes of each format, and the function that finds its length in the header."""
