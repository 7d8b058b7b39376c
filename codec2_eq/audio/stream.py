# SPDX-License-Identifier: LGPL-2.1-or-later
"""Any audio file or stream to blocks of mono 8 kHz float32 samples in the scale of int16.

WAV and headerless samples are read here, from files and pipes alike, so that a pipe hands on each
sample as it arrives and the libraries for other formats are loaded only for them. All else is
decoded by libsndfile; from a pipe it is first spooled to an unnamed temporary file, since those
formats need to seek.

16-bit samples come out as they are, bit for bit at 8 kHz mono. All others are scaled so that full
scale is 32768, neither rounded nor clipped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.resample import RATE_HZ, Resampler
from codec2_eq.audio.wav import (
    FULL_SCALE,
    READ_BYTES,
    HeaderReader,
    PcmSource,
    Wav,
    read_wav_header,
    to_scale,
)
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, display_name, is_pipe, open_input
from codec2_eq.messages import warn

if TYPE_CHECKING:
    import soundfile

MOST_FRAMES = 1 << 62
"""No file has as many."""

RAW_SUFFIXES = (".raw", ".sw", ".s16")
"""Headerless signed 16-bit little-endian mono 8 kHz, the suffixes that sox and Codec 2 use."""

BLOCK_S = 5.12
"""Longest block handed on from a file [s], a full block of the analysis; from a pipe blocks are as
they arrive."""

CLIPPED_SHARE = 0.001
"""Share of samples at full scale that is worth a warning; normalised recordings stay below."""

MOST_FULL_SCALES = 1_000_000
"""Float samples beyond this many times full scale are no sound: the analysis would overflow."""

_CLIP = 32767  # the largest int16
_MOST = MOST_FULL_SCALES * FULL_SCALE


def read_audio(
    path: PathLike, *, channel: int | str = "mix", raw: bool = False
) -> NDArray[np.float32]:
    """Read a whole file or stdin (`-`) as mono 8 kHz float32 (n,) in the scale of int16.

    It is `stream_audio` run to its end; see there for the parameters and errors.
    """
    with stream_audio(path, channel=channel, raw=raw) as stream:
        blocks = list(stream)
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)


def stream_audio(
    path: PathLike, *, channel: int | str = "mix", raw: bool = False, block_s: float = BLOCK_S
) -> AudioStream:
    """Open a file, fifo or stdin (`-`) as an iterator of mono 8 kHz float32 blocks (n,), n > 0.

    channel : "mix" for the mean of all channels, or the number of one, from 1
    raw : take it as headerless s16le mono 8 kHz whatever its name; an odd last byte is dropped
    block_s : longest block from a file, s; from a pipe a block is what has arrived

    The header is read here, the samples as the iterator goes on. Memory does not depend on the
    length of the file. Recordings that are cut short are processed as far as they go; that, and
    clipping, is told to the logger "codec2_eq".

    Raises Codec2EqError, here or on the way, if the file cannot be read, is not audio, has too low
    a rate, not that channel, or samples that are NaN or infinite.
    """
    return AudioStream(path, channel=channel, raw=raw, block_s=block_s)


def audio_duration(path: PathLike, *, raw: bool = False) -> float | None:
    """Return the length of an audio file in s as its header tells, None if it does not.

    Raises Codec2EqError if the file cannot be read or is not audio.
    """
    with stream_audio(path, raw=raw) as stream:
        return stream.duration_s


class AudioStream:
    """Iterator over mono 8 kHz float32 blocks in the scale of int16; closes itself at the end.

    name : the name that messages use
    rate : sample rate of the file, Hz
    channels : number of channels of the file
    duration_s : length in s as the header tells, None on a pipe or where it does not tell
    """

    def __init__(self, path: PathLike, *, channel: int | str, raw: bool, block_s: float) -> None:
        if not block_s > 0:
            raise ValueError(f"block_s {block_s}: must be above 0")
        self.name = display_name(path)
        self._files = contextlib.ExitStack()
        try:
            source = _open_source(path, self.name, raw, self._files)
            self._channel = _channel_index(self.name, channel, source.channels)
            try:
                self._resampler = Resampler(source.rate)
            except Codec2EqError as error:
                raise Codec2EqError(f"{self.name}: {error}") from None
        except BaseException:
            self.close()
            raise
        self.rate = source.rate
        self.channels = source.channels
        self.duration_s = source.duration_s
        self._monitor = _LevelMonitor(self.name, source.rate)
        self._blocks = self._run(source, max(1, int(block_s * source.rate)))

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self._blocks

    def __next__(self) -> NDArray[np.float32]:
        return next(self._blocks)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the iterator must not be used any more."""
        self._files.close()

    @property
    def clipped_share(self) -> float:
        """Share of the file's samples read so far that are at full scale or beyond."""
        return self._monitor.n_clipped / max(1, self._monitor.n_samples)

    def _run(self, source: _Source, block_frames: int) -> Iterator[NDArray[np.float32]]:
        monitor = self._monitor
        with self._files:
            for block in source.blocks(block_frames):
                if self._channel is not None:
                    block = block[:, self._channel : self._channel + 1]
                monitor.check(block)
                samples = self._resampler.process(_mix(block))
                if len(samples):
                    yield samples
            tail = self._resampler.flush()
            if len(tail):
                yield tail
            monitor.report()
            self._report_cut(source, monitor.n_frames)

    def _report_cut(self, source: _Source, n_frames: int) -> None:
        told = source.told_frames
        if told is not None and told - n_frames > source.slack_frames:
            warn(
                f"{self.name}: ends after {n_frames / self.rate:.3f} s, its header tells "
                f"{told / self.rate:.3f} s; processed as far as it goes"
            )


def _channel_index(name: str, channel: int | str, channels: int) -> int | None:
    """Return the index of the wanted channel, None for the mix of all."""
    if channel == "mix":
        return None
    try:
        number = int(channel)
    except ValueError:
        raise Codec2EqError(f"channel {channel!r}: expected 'mix' or a number from 1") from None
    if not 1 <= number <= channels:
        plural = "channel" if channels == 1 else "channels"
        raise Codec2EqError(
            f"{name}: channel {number} asked for, has {channels} {plural}; "
            f"pass --channel 1{f' to {channels}' if channels > 1 else ''}, or mix"
        )
    return number - 1


def _mix(block: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean of the channels of a block (n, channels).

    One channel is added after another, so that a sample's value does not depend on where its
    block begins and ends, as the order within numpy's own sum may.
    """
    mixed = block[:, 0].astype(np.float32)
    for index in range(1, block.shape[1]):
        mixed += block[:, index]
    if block.shape[1] > 1:
        mixed /= np.float32(block.shape[1])
    return mixed


class _LevelMonitor:
    """Refuses samples that are no numbers; counts those at full scale."""

    def __init__(self, name: str, rate: float) -> None:
        self.name = name
        self.rate = rate
        self.n_frames = 0
        self.n_samples = 0
        self.n_clipped = 0
        self.peak = 0.0

    def check(self, block: NDArray[Any]) -> None:
        """Look at a block (n, channels) of the chosen channels, int16 or float32."""
        low, high = float(block.min()), float(block.max())  # NaN if any sample is
        if block.dtype != np.int16 and not (low >= -_MOST and high <= _MOST):
            self._refuse(block)
        if high >= _CLIP or low <= -_CLIP:
            self.n_clipped += int(np.count_nonzero((block >= _CLIP) | (block <= -_CLIP)))
        self.peak = max(self.peak, high, -low)
        self.n_frames += len(block)
        self.n_samples += block.size

    def _refuse(self, block: NDArray[Any]) -> None:
        first = int(np.argmin((np.abs(block) <= _MOST).all(axis=1)))
        finite = np.isfinite(block[first]).all()
        what = f"over {MOST_FULL_SCALES:,} times full scale" if finite else "NaN or infinite"
        frame = self.n_frames + first
        raise Codec2EqError(
            f"{self.name}: sample {frame} (at {frame / self.rate:.3f} s) is {what}; "
            "only finite samples can be processed, repair or cut the recording"
        )

    def report(self) -> None:
        """Log a warning if the recording seems clipped or wrongly scaled."""
        if self.peak > 16 * FULL_SCALE:
            warn(
                f"{self.name}: float samples reach {self.peak / FULL_SCALE:.0f} times full scale; "
                "1.0 is full scale, scale them down if they were made from integers"
            )
        elif self.n_clipped > CLIPPED_SHARE * self.n_samples:
            warn(
                f"{self.name}: {self.n_clipped / self.n_samples:.1%} of the samples are at full "
                "scale or beyond; the recording seems clipped, which distorts its spectra"
            )


# Sources: where samples come from.


class _Source(Protocol):
    """Blocks (n, channels), n > 0, of int16, or of float32 in the scale of int16.

    told_frames : the length that the header tells, None if it does not
    slack_frames : how many of these may be missing from a whole file
    """

    rate: int
    channels: int
    duration_s: float | None
    told_frames: int | None
    slack_frames: int

    def blocks(self, block_frames: int) -> Iterator[NDArray[Any]]: ...


def _open_source(path: PathLike, name: str, raw: bool, files: contextlib.ExitStack) -> _Source:
    handle = files.enter_context(open_input(path))
    file_bytes = None if is_pipe(path) else os.fstat(handle.fileno()).st_size
    if raw or os.fspath(path).lower().endswith(RAW_SUFFIXES):
        return PcmSource(handle, name, Wav("int", 1, RATE_HZ, 2, file_bytes, 0), file_bytes)
    header = HeaderReader(handle, name)
    wav = read_wav_header(header, file_bytes)
    if wav is not None:
        return PcmSource(handle, name, wav, file_bytes)
    if file_bytes is not None:
        return _DecodedSource(os.fsencode(path), name, files)  # a name may be no UTF-8
    if not header.seen.startswith(_SPOOLED_MAGIC) and not _is_mpeg(header.seen):
        raise Codec2EqError(
            f"{name}: not WAV, FLAC, OGG, MP3 or other audio with a header; "
            "pass --raw for headerless 16-bit 8 kHz samples"
        )
    return _DecodedSource(_spool(header, files), name, files)


def _spool(header: HeaderReader, files: contextlib.ExitStack) -> int:
    """Copy a pipe to an unnamed temporary file; return its descriptor, at the beginning."""
    import shutil
    import tempfile

    spool = files.enter_context(tempfile.TemporaryFile())
    try:
        spool.write(header.seen)
        shutil.copyfileobj(header.handle, spool, READ_BYTES)
        spool.seek(0)
    except OSError as error:
        raise Codec2EqError(
            f"{header.name}: cannot be kept in {tempfile.gettempdir()}: {error.strerror}; "
            "set TMPDIR to a folder with room, or pipe WAV, which needs none"
        ) from error
    return spool.fileno()


# All other formats, through libsndfile.

_SPOOLED_MAGIC = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"riff",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b".snd",
    b"caff",
    b"NIST_1A",
    b"Creative Voi",
)

_INT16_SUBTYPES = frozenset(
    "PCM_S8 PCM_U8 PCM_16 ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32 G723_24 G723_40 VOX_ADPCM "
    "NMS_ADPCM_16 NMS_ADPCM_24 NMS_ADPCM_32 DWVW_12 DWVW_16 DPCM_8 DPCM_16 ALAC_16".split()
)
"""What libsndfile decodes to 16 bits or fewer: read as int16, exactly as it is."""


def _is_mpeg(head: bytes | bytearray) -> bool:
    """Whether an MPEG audio frame starts here: eleven bits set, layer and version not reserved."""
    return (
        len(head) >= 2
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[1] & 0x06 != 0
    )


class _DecodedSource:
    """Samples that libsndfile decodes, from a path or the descriptor of a regular file."""

    def __init__(self, file: bytes | int, name: str, files: contextlib.ExitStack) -> None:
        self._name = name
        try:
            import soundfile

            self._file = files.enter_context(_open_forward(file, soundfile))
        except soundfile.LibsndfileError as error:
            raise Codec2EqError(
                f"{name}: not audio that libsndfile reads ({error.error_string.rstrip('.')}); "
                "convert it to WAV or FLAC; if it is headerless 16-bit 8 kHz samples, name it .raw "
                "or pass --raw"
            ) from error
        self.rate = self._file.samplerate
        self.channels = self._file.channels
        # A FLAC made on a pipe tells no length, for which libsndfile has the largest number.
        told = self._file.frames
        self.told_frames = told if told < MOST_FRAMES else None
        # MP3 may but estimate its length.
        self.slack_frames = 0 if self._file.format != "MP3" else self.rate // 10
        self.duration_s = None if self.told_frames is None else told / self.rate

    def blocks(self, block_frames: int) -> Iterator[NDArray[Any]]:
        """Yield blocks of at most block_frames until the decoder gives no more."""
        exact = self._file.subtype in _INT16_SUBTYPES
        limit = max(1, min(block_frames, READ_BYTES // (4 * self.channels)))
        n_read = 0
        while True:
            block = self._read(limit, "int16" if exact else "float32", n_read)
            if not len(block):
                break
            n_read += len(block)
            yield block if exact else to_scale(block, FULL_SCALE)

    def _read(self, n_frames: int, dtype: str, n_read: int) -> NDArray[Any]:
        import soundfile

        try:
            return self._file.read(n_frames, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.removeprefix("Error : ").rstrip(".")
            raise Codec2EqError(
                f"{self._name}: cannot be decoded between {n_read / self.rate:.1f} and "
                f"{(n_read + n_frames) / self.rate:.1f} s ({reason}): cut or damaged; "
                "fetch or record it again"
            ) from error


def _open_forward(file: bytes | int, soundfile_module: Any) -> soundfile.SoundFile:
    """Open a file to be read from beginning to end.

    soundfile seeks to where it is after each read of a file that can seek. In MP3 that loses the
    decoder's memory, and with it the sound of the next frames; it is wasted time anywhere.
    """

    class Forward(soundfile_module.SoundFile):
        def seekable(self) -> bool:
            return False

    return Forward(file, closefd=False)
