# SPDX-License-Identifier: LGPL-2.1-or-later
"""WAV: headers and the samples behind them, in files and pipes alike.

WAV is read here rather than by a library for the sake of pipes: their headers have no true length,
each sample is wanted as it arrives, and a cut recording should be noticed. Lengths in headers are
often wrong, so the bytes after the samples are examined, and further samples are read, not lost.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio import pcm
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_bytes, read_error

READ_BYTES = 1 << 20
"""Most bytes read at once."""

UNKNOWN = 0xFFFFFFFF
"""Length in the header of a file that is longer than 32 bits can say, or written to a pipe."""

_HEADER_BYTES = 64 << 20  # no real header comes near it
_MOST_CHUNKS = 100_000  # of a file, after the first samples
_MOST_CHANNELS = 1024  # as in libsndfile
_WRAP = 1 << 32  # where lengths of 32 bits begin again
_OTHERS = (b"fLaC", b"OggS", b"ID3", b"FORM", b"riff", b"caff", b".snd")
_TITLES = (b"TAG", b"APETAGEX")  # as in MP3
_CHUNK_TAG = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_ ]{3}")


class HeaderReader:
    """Reads the head of a file and keeps what it read, for a second reader.

    held : bytes that were read already and come first
    """

    def __init__(self, handle: IO[bytes], name: str, held: bytes = b"") -> None:
        self.handle = handle
        self.name = name
        self.seen = bytearray()
        self._held = held

    def take(self, n_bytes: int) -> bytes:
        """Return the next n_bytes, fewer at the end of the file."""
        data, self._held = self._held[:n_bytes], self._held[n_bytes:]
        if len(data) < n_bytes:
            data += read_bytes(self.handle, self.name, n_bytes - len(data))
        self.seen += data
        return data

    def take_all(self, n_bytes: int) -> bytes:
        """Return the next n_bytes; raise Codec2EqError if the file ends before."""
        if len(self.seen) + n_bytes > _HEADER_BYTES:
            raise _header_too_long(self.name, f"{len(self.seen) + n_bytes}")
        data = self.take(n_bytes)
        if len(data) < n_bytes:
            raise Codec2EqError(
                self.name,
                f"ends within its WAV header, after {len(self.seen)} bytes",
                "fetch or record it again",
            )
        return data


def _header_too_long(name: str, what: str) -> Codec2EqError:
    return Codec2EqError(
        name,
        f"its WAV header has {what} bytes, more than {_HEADER_BYTES}: damaged",
        "fetch or record it again",
    )


@dataclass(frozen=True)
class Wav:
    """The sample format in a WAV header."""

    encoding: str  # one of those of `pcm.decoder`
    channels: int
    rate: int
    width: int  # bytes of a sample
    data_bytes: int | None  # None: unknown, up to the end
    data_start: int

    @property
    def layout(self) -> tuple[str, int, int, int]:
        """All that samples must have in common to follow each other."""
        return self.encoding, self.channels, self.rate, self.width

    @property
    def sample_format(self) -> str:
        """Encoding to write the samples in without losing any of their bits."""
        if self.encoding == "float":
            return "f32"
        return "s16" if self.width <= 2 else "s24" if self.width == 3 else "f32"


_ENCODINGS = {1: "int", 3: "float", 6: "alaw", 7: "ulaw"}
_WIDTHS = {"int": (1, 2, 3, 4), "float": (4, 8), "alaw": (1,), "ulaw": (1,)}
_EXTENSIBLE = 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # after the two bytes of the tag
_RIFF_MAGICS = (b"RIFF", b"RF64", b"BW64")


def read_wav_header(header: HeaderReader, file_bytes: int | None) -> Wav | None:
    """Read up to the first sample; None if it is no WAV or of an encoding for libsndfile."""
    magic = header.take(12)
    if not magic:
        raise Codec2EqError(header.name, "is empty (0 bytes)", "a recording with a header expected")
    if magic[:4] not in _RIFF_MAGICS or not b"WAVE".startswith(magic[8:]):
        return None
    if len(magic) < 12:
        header.take_all(1)
    wide_bytes = None
    wav = None
    while True:
        tag, size = struct.unpack("<4sI", header.take_all(8))
        if tag == b"data":
            break
        if size > _HEADER_BYTES:
            raise _header_too_long(header.name, f"a chunk of {size}")
        chunk = header.take_all(size + size % 2)
        if tag == b"fmt ":
            wav = _parse_format(header.name, chunk)
            if wav is None:
                return None
        elif tag == b"ds64" and size >= 16:
            wide_bytes = int.from_bytes(chunk[8:16], "little")
    if wav is None:
        raise Codec2EqError(
            header.name,
            "its WAV header does not give the sample format (no 'fmt ' chunk before 'data')",
            "fetch or record it again",
        )
    if size == UNKNOWN and wide_bytes is not None:
        size = wide_bytes
    start = len(header.seen)
    n_bytes = _true_length(size, start, header.handle, file_bytes)
    return Wav(*wav, n_bytes, start)


def _true_length(size: int, start: int, handle: IO[bytes], file_bytes: int | None) -> int | None:
    """Return the length of the samples; None where the header marks it as unknown.

    Programs that write WAV to a pipe put about 2^31 (sox, arecord) or 2^32-1 (ffmpeg); those that
    write more than 4 GiB often put the length modulo 4 GiB.
    """
    if file_bytes is None:
        return None if _is_placeholder(size) else size
    behind = file_bytes - start - size
    if behind < 0:
        return None if _is_placeholder(size) else size
    if (_is_placeholder(size) and behind) or behind >= _WRAP:
        handle.seek(start + size)
        next_bytes = handle.read(9)
        handle.seek(start)
        if not _is_chunk(next_bytes[:8]) and not _is_chunk(next_bytes[size % 2 :]):
            return size + behind // _WRAP * _WRAP if behind >= _WRAP else None
    return size


def _is_placeholder(size: int) -> bool:
    return 0x7FFE0000 <= size <= 0x80010000 or 0xFFFE0000 <= size <= 0xFFFFFFFF


def _is_chunk(head: bytes) -> bool:
    """Whether 8 bytes are the head of a chunk; one in 10^5 of random samples looks like one."""
    return len(head) == 8 and (
        head[:4] in (*_RIFF_MAGICS, b"data")
        or (
            _CHUNK_TAG.fullmatch(head[:4]) is not None
            and int.from_bytes(head[4:], "little") <= _HEADER_BYTES
        )
    )


PLAIN_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
"""A header of the two chunks that each WAV has, of formats that need no more."""

_PLAIN_FORMAT = (16, 1, 1)  # bytes of the format chunk, integers, one channel


def plain_samples(data: bytes) -> tuple[NDArray[np.int16], int] | None:
    """Return samples (n,) and rate [Hz] of a whole WAV file if there is nothing to it: 16-bit mono.

    None for all else: other encodings, further chunks, a length that does not fit. Most short
    recordings of a corpus are plain, and opening them in any other way costs more than reading
    them.
    """
    if len(data) < PLAIN_HEADER.size:
        return None
    riff, _, wave, *form, rate, byte_rate, frame_bytes, bits, tag, n_bytes = (
        PLAIN_HEADER.unpack_from(data)
    )
    size = len(data) - PLAIN_HEADER.size
    stated = (riff, wave, tuple(form), byte_rate, frame_bytes, bits, tag, n_bytes)
    if stated != (b"RIFF", b"WAVEfmt ", _PLAIN_FORMAT, 2 * rate, 2, 16, b"data", size):
        return None
    if size == 0 or size % 2:
        return None
    return np.frombuffer(data, "<i2", offset=PLAIN_HEADER.size), rate


def _parse_format(name: str, chunk: bytes) -> tuple[str, int, int, int] | None:
    """Return encoding, channels, rate [Hz] and bytes a sample; None if it is for libsndfile.

    Where the bytes of a frame contradict bits and channels, these win, as with other readers.
    """
    if len(chunk) < 16:
        raise Codec2EqError(
            name,
            f"its WAV format chunk has {len(chunk)} bytes, at least 16 needed: damaged",
            "fetch or record it again",
        )
    tag, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= 40 and chunk[26:40] == _GUID_TAIL:
        (tag,) = struct.unpack("<H", chunk[24:26])
    encoding = _ENCODINGS.get(tag)
    if encoding is None:
        return None
    width = 1 if encoding in ("alaw", "ulaw") else (bits + 7) // 8
    if not 0 < channels <= _MOST_CHANNELS or width not in _WIDTHS[encoding]:
        raise Codec2EqError(
            name,
            f"its WAV header states {channels} channels of {bits} bits in {frame_bytes} bytes, "
            f"which is impossible (at most {_MOST_CHANNELS} channels): damaged",
            "fetch or record it again",
        )
    if encoding == "int" and 16 < bits <= 24 and frame_bytes == 4 * channels:
        return f"int{bits}", channels, rate, 4
    return encoding, channels, rate, width


class PcmSource:
    """Samples as they lie in a WAV or headerless file or pipe; blocks (n, channels).

    stated_frames : length by the headers so far, None if unknown
    warnings : anything odd, one line each
    """

    slack_frames = 0

    def __init__(self, handle: IO[bytes], name: str, wav: Wav, file_bytes: int | None) -> None:
        self.rate = wav.rate
        self.channels = wav.channels
        self.sample_format = wav.sample_format
        self.warnings: list[str] = []
        # A file gives all that is asked for at once, a pipe what has arrived.
        self._take = handle.read1 if file_bytes is None else handle.read  # type: ignore[attr-defined]
        self._handle = handle
        self._name = name
        self._wav = wav
        self._decode = pcm.decoder(wav.encoding, wav.width)
        self._frame_bytes = wav.width * wav.channels
        self._n_chunks = 0
        self.stated_frames = None if wav.data_bytes is None else wav.data_bytes // self._frame_bytes
        self.duration_s = None
        if file_bytes is not None:
            n_bytes = file_bytes - wav.data_start
            if wav.data_bytes:
                n_bytes = min(n_bytes, wav.data_bytes)
            self.duration_s = n_bytes // self._frame_bytes / max(1, wav.rate)

    def blocks(self, block_frames: int) -> Iterator[NDArray[Any]]:
        """Yield block_frames at a time from a file, from a pipe what has arrived of them."""
        block_bytes = max(1, min(block_frames, READ_BYTES // self._frame_bytes)) * self._frame_bytes
        head, size = b"", self._wav.data_bytes
        while True:
            n_read, rest = yield from self._run(head, size, block_bytes)
            if size is None or n_read < size:
                return
            following = self._following(size, rest)
            if following is None:
                return
            head, size = following

    def _run(
        self, head: bytes, size: int | None, block_bytes: int
    ) -> Generator[NDArray[Any], None, tuple[int, bytes]]:
        """Yield the samples of `size` bytes, of all that comes if it is None; `head` is first.

        Returns the number of bytes read, and the last ones if they are no whole frame.
        """
        frame_bytes = self._frame_bytes
        n_read = 0
        rest = b""
        while size is None or n_read < size:
            wanted = block_bytes - len(rest)
            data, head = head, b""
            data = data or self._read(wanted if size is None else min(wanted, size - n_read))
            if not data:
                break
            n_read += len(data)
            data = rest + data if rest else data
            whole = len(data) - len(data) % frame_bytes
            rest = data[whole:]
            if whole:
                yield self._samples(memoryview(data)[:whole])
        return n_read, rest

    def _samples(self, data: memoryview) -> NDArray[Any]:
        try:
            return self._decode(data).reshape(-1, self.channels)
        except Codec2EqError as error:
            raise error.of(self._name) from error

    def _read(self, n_bytes: int) -> bytes:
        try:
            return self._take(n_bytes)
        except OSError as error:
            raise read_error(self._name, error) from error

    def _following(self, size: int, rest: bytes) -> tuple[bytes, int | None] | None:
        """Look after `size` bytes of samples: return first bytes and length of more, or None.

        rest : the last of them, if they begin a frame
        """
        pad = size % 2
        while True:
            self._n_chunks += 1
            if self._n_chunks > _MOST_CHUNKS:
                raise Codec2EqError(
                    self._name, f"has over {_MOST_CHUNKS:,} chunks: damaged", "fetch it again"
                )
            head = read_bytes(self._handle, self._name, 8 + pad)
            if len(head) < 8 and size:
                return None
            if head.startswith(_TITLES) or head[pad:].startswith(_TITLES):
                return None
            if head.startswith(_OTHERS) or head[pad:].startswith(_OTHERS):
                self.warnings.append("a file of another format after its samples is left out")
                return None
            if len(head) > pad and _is_chunk(head[pad:]):
                head = head[pad:]
            elif pad and _is_chunk(head[:8]):  # some writers omit the padding
                pad = 0
            if not _is_chunk(head[:8]):
                return self._more_samples(head, size, rest)
            tag, n_bytes = head[:4], int.from_bytes(head[4:8], "little")
            extra = head[8:]
            if tag == b"data":
                length = None if _is_placeholder(n_bytes) else n_bytes
                self._expect_more(length)
                return extra, length
            if tag in _RIFF_MAGICS:
                return self._next_recording(head)
            pad = n_bytes % 2
            self._skip(n_bytes - len(extra))

    def _more_samples(self, head: bytes, size: int, rest: bytes) -> tuple[bytes, None] | None:
        """Go on with what is not a chunk: the length was wrong, if it was not simply left at 0."""
        if not head:
            return None
        if size:
            seconds = size // self._frame_bytes / self.rate
            self.warnings.append(
                f"continues beyond the {seconds:.3f} s stated in its header; read to its end"
            )
        self.stated_frames = None
        return rest + head, None

    def _next_recording(self, head: bytes) -> tuple[bytes, int | None] | None:
        """Go on with a second WAV in the same file; only warn if it is of another kind."""
        try:
            wav = read_wav_header(HeaderReader(self._handle, self._name, head), None)
        except Codec2EqError as error:
            self.warnings.append(f"a second recording in it cannot be read: {error.problem}")
            return None
        if wav is None or wav.layout != self._wav.layout:
            self.warnings.append(
                "a second recording in it, of another rate or encoding, is left out; split the file"
            )
            return None
        self._expect_more(wav.data_bytes)
        return b"", wav.data_bytes

    def _expect_more(self, n_bytes: int | None) -> None:
        known = n_bytes is not None and self.stated_frames is not None
        self.stated_frames = self.stated_frames + n_bytes // self._frame_bytes if known else None  # type: ignore[operator]

    def _skip(self, n_bytes: int) -> None:
        while n_bytes > 0:
            n_read = len(self._read(min(n_bytes, READ_BYTES)))
            if not n_read:
                return
            n_bytes -= n_read
