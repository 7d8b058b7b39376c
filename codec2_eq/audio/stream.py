# SPDX-License-Identifier: LGPL-2.1-or-later
"""Any audio file or stream in blocks: at its own rate and channels, or mono at 8 kHz.

WAV and headerless samples are read by `codec2_eq.audio.wav`, from files and pipes alike, so that a
pipe hands on each sample as it arrives and the libraries for other formats are loaded only for
them. Everything else is decoded by libsndfile; from a pipe it is first spooled to an unnamed
temporary file, since those formats need to seek.

16-bit samples come out as they are, bit for bit at 8 kHz mono. All others are scaled so that full
scale is 32768, neither rounded nor clipped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.declip import declipped
from codec2_eq.audio.levels import LevelMonitor, Mixer
from codec2_eq.audio.resample import Resampler, check_rate
from codec2_eq.audio.wav import HeaderReader, PcmSource, Wav, read_wav_header
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, display_name, open_input, regular_size
from codec2_eq.messages import counted, warn

RAW_SUFFIXES = (".raw", ".sw", ".s16")
"""Headerless signed 16-bit little-endian mono 8 kHz, the suffixes that sox and Codec 2 use."""

BLOCK_S = 5.12
"""Longest block handed on from a file [s], a full block of the analysis; from a pipe blocks are as
they arrive."""


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
    path: PathLike,
    *,
    channel: int | str = "mix",
    raw: bool = False,
    declip: bool = False,
    block_s: float = BLOCK_S,
    log: bool = True,
) -> AudioStream:
    """Open a file, fifo or stdin (`-`) as an iterator of mono 8 kHz float32 blocks (n,), n > 0.

    channel : "mix" for the mean of all channels, or the number of one, from 1
    raw : take it as headerless s16le mono 8 kHz whatever its name; an odd last byte is dropped
    declip : restore clipped peaks, see `codec2_eq.audio.declip`
    block_s : longest block from a file, s; from a pipe a block is what has arrived
    log : whether its warnings go to the logger "codec2_eq"; they are in `warnings` in any case

    The header is read here, the samples as the iterator goes on. Memory does not depend on the
    length of the file. Recordings that are cut short are processed as far as they go; there
    are warnings about that, clipping, and channels that cancel each other.

    Raises Codec2EqError, here or on the way, if the file cannot be read, is not audio, has too low
    a rate, not that channel, or samples that are NaN or infinite.
    """
    return AudioStream(path, channel=channel, raw=raw, declip=declip, block_s=block_s, log=log)


def open_native(
    path: PathLike,
    *,
    channel: int | str | None = None,
    raw: bool = False,
    block_s: float = BLOCK_S,
    log: bool = True,
) -> NativeStream:
    """Open audio as an iterator of blocks (n, channels), n > 0, at its own rate.

    channel : the number of one, from 1; None for all
    Blocks are int16, or float32 in the scale of int16. Other parameters and errors as for
    `stream_audio`.
    """
    return NativeStream(path, channel=channel, raw=raw, block_s=block_s, log=log)


def audio_duration(path: PathLike, *, raw: bool = False) -> float | None:
    """Return the length of an audio file in s by its header, None if unknown.

    Raises Codec2EqError if the file cannot be read or is not audio.
    """
    with stream_audio(path, raw=raw) as stream:
        return stream.duration_s


class _Stream:
    """Iterator that closes its files at the end; also a context manager."""

    def __init__(self) -> None:
        self._files = contextlib.ExitStack()
        self._blocks: Iterator[NDArray[Any]] = iter(())

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return self._blocks

    def __next__(self) -> NDArray[Any]:
        return next(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the iterator must not be used any more."""
        self._files.close()


class NativeStream(_Stream):
    """Iterator over blocks (n, channels) of int16, or of float32 in the scale of int16.

    name : the name that messages use
    rate : sample rate, Hz;  channels : of the file
    duration_s : length in s by the header, None on a pipe or where the header does not state it
    sample_format : "s16", "s24" or "f32", whichever holds its samples without loss
    warnings : what was odd so far, one line each; complete at the end
    """

    def __init__(
        self,
        path: PathLike,
        *,
        channel: int | str | None,
        raw: bool,
        block_s: float,
        log: bool,
    ) -> None:
        super().__init__()
        if not block_s > 0:
            raise ValueError(f"block_s {block_s}: must be above 0")
        self.name = display_name(path)
        self.warnings: list[str] = []
        self._log = log
        try:
            source = _open_source(path, self.name, raw, self._files)
            check_rate(source.rate, self.name)
            self._channel = _channel_index(self.name, channel, source.channels)
        except BaseException:
            self.close()
            raise
        self.rate = source.rate
        self.channels = source.channels
        self.duration_s = source.duration_s
        self.sample_format = source.sample_format
        self._monitor = LevelMonitor(self.name, source.rate)
        self._blocks = self._run(source, max(1, int(block_s * source.rate)))

    @property
    def clipped_share(self) -> float:
        """Share of the file's samples read so far that are at full scale or beyond."""
        return self._monitor.n_clipped / max(1, self._monitor.n_samples)

    def warn(self, text: str) -> None:
        """Add to the warnings."""
        self.warnings.append(text)
        if self._log:
            warn(f"{self.name}: {text}")

    def _run(self, source: _Source, block_frames: int) -> Iterator[NDArray[Any]]:
        monitor = self._monitor
        with self._files:
            for block in source.blocks(block_frames):
                if self._channel is not None:
                    block = block[:, self._channel : self._channel + 1]
                monitor.check(block)
                yield block
            for text in (*source.warnings, *monitor.warnings()):
                self.warn(text)
            self._warn_of_cut(source, monitor.n_frames)

    def _warn_of_cut(self, source: _Source, n_frames: int) -> None:
        stated = source.stated_frames
        if stated is not None and stated - n_frames > source.slack_frames:
            self.warn(
                f"ends after {n_frames / self.rate:.3f} s, but its header states "
                f"{stated / self.rate:.3f} s; processed as far as it goes"
            )
        elif not n_frames:
            self.warn("holds no samples")


class AudioStream(_Stream):
    """Iterator over mono 8 kHz float32 blocks in the scale of int16; closes itself at the end.

    name, rate, channels, duration_s, warnings, clipped_share : of the file, as in `NativeStream`
    """

    def __init__(
        self,
        path: PathLike,
        *,
        channel: int | str,
        raw: bool,
        declip: bool,
        block_s: float,
        log: bool,
    ) -> None:
        super().__init__()
        chosen = None if channel == "mix" else channel
        self._native = native = self._files.enter_context(
            NativeStream(path, channel=chosen, raw=raw, block_s=block_s, log=log)
        )
        self.name = native.name
        self.rate = native.rate
        self.channels = native.channels
        self.duration_s = native.duration_s
        self.warnings = native.warnings
        self._mixer = Mixer()
        self._resampler = Resampler(native.rate)
        mono = map(self._mixer.mix, native)
        self._blocks = self._run(declipped(mono, native.rate) if declip else mono)

    @property
    def clipped_share(self) -> float:
        """Share of the file's samples read so far that are at full scale or beyond."""
        return self._native.clipped_share

    def _run(self, mono: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        with self._files:
            for block in mono:
                samples = self._resampler.process(block)
                if len(samples):
                    yield samples
            tail = self._resampler.flush()
            if len(tail):
                yield tail
            if self._mixer.cancels:
                self._native.warn(
                    "its channels cancel each other, their mean is "
                    f"{-self._mixer.loss_db:.0f} dB below them; pass --channel 1"
                )


def _channel_index(name: str, channel: int | str | None, channels: int) -> int | None:
    """Return the index of the wanted channel, None for all."""
    if channel is None:
        return None
    text = str(channel)
    if not (text.isascii() and text.lstrip("-").isdecimal() and len(text) < 9):
        raise Codec2EqError(f"channel {text[:40]!r}", "expected 'mix' or a number from 1")
    number = int(text)
    if not 1 <= number <= channels:
        raise Codec2EqError(
            name,
            f"channel {number} asked for, has {counted(channels, 'channel')}",
            f"pass --channel 1{f' to {channels}' if channels > 1 else ''}, or mix",
        )
    return number - 1


class _Source(Protocol):
    """Blocks (n, channels), n > 0, of int16, or of float32 in the scale of int16.

    stated_frames : the length that the header states, None if it does not
    slack_frames : how many of these may be missing from a whole file
    warnings : complete when the blocks are at their end
    """

    rate: int
    channels: int
    duration_s: float | None
    stated_frames: int | None
    slack_frames: int
    sample_format: str
    warnings: list[str]

    def blocks(self, block_frames: int) -> Iterator[NDArray[Any]]: ...


def _open_source(path: PathLike, name: str, raw: bool, files: contextlib.ExitStack) -> _Source:
    handle = files.enter_context(open_input(path))
    file_bytes = regular_size(handle)
    if raw or os.fspath(path).lower().endswith(RAW_SUFFIXES):
        return PcmSource(handle, name, Wav("int", 1, RATE_HZ, 2, file_bytes, 0), file_bytes)
    header = HeaderReader(handle, name)
    wav = read_wav_header(header, file_bytes)
    if wav is not None:
        return PcmSource(handle, name, wav, file_bytes)
    from codec2_eq.audio.decoded import open_decoded

    return open_decoded(handle, header, file_bytes, files)
