# SPDX-License-Identifier: LGPL-2.1-or-later
"""Audio out: WAV, FLAC or headerless samples, into files and pipes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio import pcm
from codec2_eq.audio.stream import RAW_SUFFIXES
from codec2_eq.audio.wav import PLAIN_HEADER, UNKNOWN
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, display_name, is_pipe, is_stdout, open_output


class AudioWriter(Protocol):
    """Takes samples (n, channels) in the scale of int16."""

    def write(self, samples: NDArray[Any], /) -> object:
        """Write the next samples."""


@contextlib.contextmanager
def open_audio_output(
    path: PathLike,
    *,
    rate: int,
    channels: int,
    sample_format: str,
    raw: bool = False,
    force: bool = False,
) -> Iterator[AudioWriter]:
    """Open an output for audio; a file appears only when it is whole.

    The suffix chooses .wav, .flac or headerless 16 bits (.raw, .sw, .s16); a pipe is WAV.
    sample_format : "s16", "s24" or "f32", for WAV;  raw : headerless where no suffix says otherwise
    Raises Codec2EqError for another suffix, and as `open_output` does.
    """
    kind = _kind(path, raw)
    with open_output(path, force=force) as out:
        if kind == "wav":
            wav = WavWriter(out, rate=rate, channels=channels, sample_format=sample_format)
            yield wav
            wav.finish()
        elif kind == "raw":
            yield _RawWriter(out)
        else:
            with _FlacWriter(out, os.fspath(path), rate, channels, sample_format) as flac:
                yield flac


def require_audio_suffix(path: PathLike, *, raw: bool = False) -> None:
    """Raise Codec2EqError if no audio is written under such a name: before the work."""
    _kind(path, raw)


def _kind(path: PathLike, raw: bool) -> str:
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix in (".wav", ".flac"):
        return suffix.removeprefix(".")
    if raw or suffix in RAW_SUFFIXES:
        return "raw"
    if is_stdout(path) or is_pipe(path):
        return "wav"
    raise Codec2EqError(
        display_name(path), f"audio is not written as {suffix or 'a file without suffix'}",
        f"name it .wav, .flac or {RAW_SUFFIXES[0]}",
    )  # fmt: skip


class WavWriter:
    """Writes samples as WAV to a binary file or pipe, which is not closed here.

    rate : Hz;  channels : of the blocks;  sample_format : "s16", "s24" or "f32"

    Where the output can seek, `finish` puts the true length into the header; on a pipe, and beyond
    4 GiB, it stays the largest number, which readers take for unknown.
    """

    def __init__(
        self, out: IO[bytes], *, rate: int, channels: int = 1, sample_format: str = "s16"
    ) -> None:
        self._out = out
        self._rate = rate
        self._channels = channels
        self._sample_format = sample_format
        self._n_bytes = 0
        out.write(self._header(UNKNOWN))

    def write(self, samples: NDArray[Any]) -> None:
        """Write samples (n,) or (n, channels) in the scale of int16."""
        data = pcm.encode(samples, self._sample_format)
        self._n_bytes += len(data)
        self._out.write(data)

    def finish(self) -> None:
        """Complete the header."""
        if self._n_bytes % 2:
            self._out.write(b"\0")
        if self._out.seekable():
            self._out.seek(0)
            self._out.write(self._header(self._n_bytes))

    def _header(self, n_bytes: int) -> bytes:
        encoding, width = pcm.WRITTEN[self._sample_format]
        frame_bytes = width * self._channels
        riff_bytes = min(n_bytes + n_bytes % 2 + 36, UNKNOWN)
        form = (16, 1 if encoding == "int" else 3, self._channels)
        rates = (self._rate, self._rate * frame_bytes, frame_bytes, 8 * width)
        return PLAIN_HEADER.pack(
            b"RIFF", riff_bytes, b"WAVEfmt ", *form, *rates, b"data", min(n_bytes, UNKNOWN)
        )


class _RawWriter:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, samples: NDArray[Any]) -> None:
        self._out.write(pcm.encode(samples, "s16"))


class _Keeping:
    """A file that keeps the first error of writing: libsndfile's callbacks cannot raise it."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                return self._out.write(data)
            except (Codec2EqError, OSError) as error:
                self.error = error
        return 0


class _FlacWriter:
    """FLAC by libsndfile: 16 bits, or 24 if the samples have more."""

    def __init__(
        self, out: IO[bytes], name: str, rate: int, channels: int, sample_format: str
    ) -> None:
        import soundfile

        self._wide = sample_format != "s16"
        self._out = _Keeping(out)
        options = {"format": "FLAC", "subtype": "PCM_24" if self._wide else "PCM_16"}
        with self._raising():
            try:
                self._file = soundfile.SoundFile(self._out, "w", rate, channels, **options)
            except soundfile.LibsndfileError as error:
                raise Codec2EqError(
                    name, f"FLAC cannot hold {channels} channels at {rate} Hz", "name it .wav"
                ) from error

    def write(self, samples: NDArray[Any]) -> None:
        if self._wide:
            data = pcm.to_s24(samples) << 8
        else:
            data = np.frombuffer(pcm.encode(samples, "s16"), "<i2").reshape(samples.shape)
        with self._raising():
            self._file.write(data)

    @contextlib.contextmanager
    def _raising(self) -> Iterator[None]:
        """Raise what went wrong below libsndfile, rather than what it makes of it."""
        try:
            yield
        except (AssertionError, RuntimeError, Codec2EqError):  # soundfile asserts what is written
            if self._out.error is None:
                raise
        if self._out.error is not None:
            raise self._out.error

    def __enter__(self) -> _FlacWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self._file.close()
            return
        with self._raising():
            self._file.close()
