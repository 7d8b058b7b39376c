# SPDX-License-Identifier: LGPL-2.1-or-later
"""WAV headers and the samples behind them, from files and pipes alike.

Read here and not by a library, for the sake of pipes: their headers tell no true length, each
sample is wanted as it arrives, and a recording that is cut should be noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_error

FULL_SCALE = 32768.0
"""What a sample of 1.0 in a float file becomes: the scale of int16, which Codec 2 works in."""

READ_BYTES = 1 << 20
"""Most bytes read at once."""

_HEADER_CHUNK_BYTES = 64 << 20  # no real chunk before the samples comes near it


class HeaderReader:
    """Reads the head of a file and keeps what it read, for a second reader."""

    def __init__(self, handle: IO[bytes], name: str) -> None:
        self.handle = handle
        self.name = name
        self.seen = bytearray()

    def take(self, n_bytes: int) -> bytes:
        """Return the next n_bytes, fewer at the end of the file."""
        try:
            data = self.handle.read(n_bytes)
        except OSError as error:
            raise read_error(self.name, error) from error
        self.seen += data
        return data

    def take_all(self, n_bytes: int) -> bytes:
        """Return the next n_bytes; raise Codec2EqError if the file ends before."""
        data = self.take(n_bytes)
        if len(data) < n_bytes:
            raise Codec2EqError(
                f"{self.name}: ends within its WAV header, after {len(self.seen)} bytes; "
                "fetch or record it again"
            )
        return data


@dataclass(frozen=True)
class Wav:
    """What a WAV header tells about its samples."""

    encoding: str  # "int", "float", "alaw" or "ulaw"
    channels: int
    rate: int
    width: int  # bytes of a sample
    data_bytes: int | None  # None: unknown, up to the end
    data_start: int


_WAV_ENCODINGS = {1: "int", 3: "float", 6: "alaw", 7: "ulaw"}
_WAV_WIDTHS = {"int": (1, 2, 3, 4), "float": (4, 8), "alaw": (1,), "ulaw": (1,)}
_WAV_EXTENSIBLE = 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # after the two bytes of the tag


def read_wav_header(header: HeaderReader, file_bytes: int | None) -> Wav | None:
    """Read up to the first sample; None if it is no WAV or of an encoding for libsndfile."""
    magic = header.take(12)
    if not magic:
        raise Codec2EqError(
            f"{header.name}: is empty (0 bytes); a recording with a header expected"
        )
    if magic[:4] not in (b"RIFF", b"RF64") or not b"WAVE".startswith(magic[8:]):
        return None
    if len(magic) < 12:
        header.take_all(1)
    riff_bytes = int.from_bytes(magic[4:8], "little")
    wide_bytes = None
    wav = None
    while True:
        tag, size = struct.unpack("<4sI", header.take_all(8))
        if tag == b"data":
            break
        if size > _HEADER_CHUNK_BYTES:
            raise Codec2EqError(
                f"{header.name}: its WAV header has a chunk of {size} bytes, more than "
                f"{_HEADER_CHUNK_BYTES}: damaged; fetch or record it again"
            )
        chunk = header.take_all(size + size % 2)
        if tag == b"fmt ":
            wav = _parse_format(header.name, chunk)
            if wav is None:
                return None
        elif tag == b"ds64" and size >= 16:
            wide_bytes = int.from_bytes(chunk[8:16], "little")
    if wav is None:
        raise Codec2EqError(
            f"{header.name}: its WAV header does not tell the sample format (no 'fmt ' chunk "
            "before 'data'); fetch or record it again"
        )
    if size == 0xFFFFFFFF and wide_bytes:
        size = wide_bytes
    start = len(header.seen)
    known = _is_length(size, riff_bytes, start, file_bytes)
    return Wav(wav[0], *wav[1:], size if known else None, start)


_PLAIN_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
_PLAIN_FORMAT = (16, 1, 1)  # bytes of the format chunk, integers, one channel


def plain_samples(data: bytes) -> tuple[NDArray[np.int16], int] | None:
    """Return samples (n,) and rate [Hz] of a whole WAV file if there is nothing to it: 16-bit mono.

    None for all else: other encodings, further chunks, a length that does not fit, samples at full
    scale. Of a corpus of short recordings most are plain, and opening them otherwise costs more
    than reading them.
    """
    if len(data) < _PLAIN_HEADER.size:
        return None
    riff, _, wave, *form, rate, byte_rate, frame_bytes, bits, tag, n_bytes = (
        _PLAIN_HEADER.unpack_from(data)
    )
    size = len(data) - _PLAIN_HEADER.size
    told = (riff, wave, tuple(form), byte_rate, frame_bytes, bits, tag, n_bytes)
    if told != (b"RIFF", b"WAVEfmt ", _PLAIN_FORMAT, 2 * rate, 2, 16, b"data", size):
        return None
    if size == 0 or size % 2:
        return None
    samples = np.frombuffer(data, "<i2", offset=_PLAIN_HEADER.size)
    at_full_scale = samples.max() == 32767 or samples.min() <= -32767
    return None if at_full_scale else (samples, rate)


def _parse_format(name: str, chunk: bytes) -> tuple[str, int, int, int] | None:
    """Return encoding, channels, rate [Hz] and bytes a sample; None if it is for libsndfile."""
    if len(chunk) < 16:
        raise Codec2EqError(
            f"{name}: its WAV format chunk has {len(chunk)} bytes, at least 16 needed: damaged; "
            "fetch or record it again"
        )
    tag, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _WAV_EXTENSIBLE and len(chunk) >= 40 and chunk[26:40] == _GUID_TAIL:
        (tag,) = struct.unpack("<H", chunk[24:26])
    encoding = _WAV_ENCODINGS.get(tag)
    if encoding is None:
        return None
    width = frame_bytes // channels if channels else 0
    if (
        width not in _WAV_WIDTHS[encoding]
        or width != (bits + 7) // 8
        or width * channels != frame_bytes
    ):
        raise Codec2EqError(
            f"{name}: its WAV header tells {channels} channels of {bits} bits in {frame_bytes} "
            "bytes, which do not fit: damaged; fetch or record it again"
        )
    return encoding, channels, rate, width


def _is_length(size: int, riff_bytes: int, start: int, file_bytes: int | None) -> bool:
    """Whether the size of a data chunk is a real one, and not what is written before it is known.

    Who writes WAV to a pipe puts 0 (GStreamer), about 2^31 (sox, arecord) or 2^32-1 (ffmpeg).
    """

    def placeholder(value: int) -> bool:
        return 0x7FFE0000 <= value <= 0x80010000 or 0xFFFE0000 <= value <= 0xFFFFFFFF

    if size == 0:
        # No samples for sure if the header tells of further chunks behind the empty one.
        return riff_bytes > start - 8 and not placeholder(riff_bytes)
    fits = file_bytes is not None and start + size <= file_bytes
    return fits or not placeholder(size)


class PcmSource:
    """Samples as they lie in a WAV or headerless file or pipe."""

    def __init__(self, handle: IO[bytes], name: str, wav: Wav, file_bytes: int | None) -> None:
        self.rate = wav.rate
        self.channels = wav.channels
        # A file gives all that is asked for at once, a pipe what has arrived.
        self._take = handle.read1 if file_bytes is None else handle.read  # type: ignore[attr-defined]
        self._name = name
        self._decode = _decoder(wav.encoding, wav.width)
        self._frame_bytes = wav.width * wav.channels
        self._data_bytes = wav.data_bytes
        self.told_frames = None if wav.data_bytes is None else wav.data_bytes // self._frame_bytes
        self.slack_frames = 0
        self.duration_s = None
        if file_bytes is not None:
            n_bytes = file_bytes - wav.data_start
            if wav.data_bytes is not None:
                n_bytes = min(n_bytes, wav.data_bytes)
            self.duration_s = n_bytes // self._frame_bytes / max(1, wav.rate)

    def blocks(self, block_frames: int) -> Iterator[NDArray[Any]]:
        """Yield block_frames at a time from a file, from a pipe what has arrived of them."""
        frame_bytes = self._frame_bytes
        block_bytes = max(1, min(block_frames, READ_BYTES // frame_bytes)) * frame_bytes
        n_read = 0
        rest = b""
        while self._data_bytes is None or n_read < self._data_bytes:
            data = self._read(block_bytes - len(rest), n_read)
            if not data:
                break
            n_read += len(data)
            data = rest + data if rest else data
            whole = len(data) - len(data) % frame_bytes
            rest = data[whole:]
            if whole:
                samples = self._decode(memoryview(data)[:whole])
                yield samples.reshape(-1, self.channels)

    def _read(self, n_bytes: int, n_read: int) -> bytes:
        if self._data_bytes is not None:
            n_bytes = min(n_bytes, self._data_bytes - n_read)
        try:
            return self._take(n_bytes)
        except OSError as error:
            raise read_error(self._name, error) from error


Decoder = Callable[[memoryview], NDArray[Any]]


def _decoder(encoding: str, width: int) -> Decoder:
    """Return the function that turns bytes into samples, int16 or float32 in its scale."""
    if encoding in ("alaw", "ulaw"):
        table = _alaw_table() if encoding == "alaw" else _ulaw_table()
        return lambda data: table[np.frombuffer(data, np.uint8)]
    return {
        ("int", 1): _decode_u8,
        ("int", 2): lambda data: np.frombuffer(data, "<i2"),
        ("int", 3): _decode_s24,
        ("int", 4): lambda data: to_scale(np.frombuffer(data, "<i4"), 2.0**-16),
        ("float", 4): lambda data: to_scale(np.frombuffer(data, "<f4"), FULL_SCALE),
        ("float", 8): lambda data: to_scale(np.frombuffer(data, "<f8"), FULL_SCALE),
    }[encoding, width]


def to_scale(samples: NDArray[Any], factor: float) -> NDArray[np.float32]:
    """Return samples times a power of two, in float32; what overflows becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return samples.astype(np.float32) * np.float32(factor)


def _decode_u8(data: memoryview) -> NDArray[np.int16]:
    return (np.frombuffer(data, np.uint8).astype(np.int16) - 128) * np.int16(256)


def _decode_s24(data: memoryview) -> NDArray[np.float32]:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return to_scale(wide.view("<i4")[:, 0], 2.0**-16)


def _ulaw_table() -> NDArray[np.int16]:
    """Return the 256 values of ITU-T G.711 mu-law in the scale of int16."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int16), (code & 15).astype(np.int16)
    magnitude = ((2 * mantissa + 33) << exponent) - 33  # 14 bits
    return (np.where(code & 0x80, -magnitude, magnitude) * 4).astype(np.int16)


def _alaw_table() -> NDArray[np.int16]:
    """Return the 256 values of ITU-T G.711 A-law in the scale of int16."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int16), (code & 15).astype(np.int16)
    linear = 2 * mantissa + 1  # the first segment has no leading one
    magnitude = np.where(exponent == 0, linear, (linear + 32) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) * 8).astype(np.int16)  # of 13 bits
