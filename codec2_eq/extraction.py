# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech to rate-K vectors, of whole recordings and of streams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import Analyser, band_centres_hz
from codec2_eq.analysis.blocks import Arrays, analyse_blocks
from codec2_eq.analysis.knots import KnotFitter
from codec2_eq.audio.arrays import ArrayReader
from codec2_eq.audio.declip import Declipper
from codec2_eq.audio.resample import Resampler
from codec2_eq.audio.stream import stream_audio
from codec2_eq.codec2 import FRAME_MS, FRAME_MS_CHOICES, HOP, HOP_MS, RATE_HZ, K
from codec2_eq.errors import Codec2EqError, OneThread
from codec2_eq.files import PathLike, is_pipe
from codec2_eq.records import RateK, remove_mean

LOOK_AHEAD_MS = {"fit": 80, "exact": 480}
"""What a fitted frame waits for [ms], by the kind of knots."""

KNOTS = ("pick", *LOOK_AHEAD_MS)
"""How 20 and 40 ms frames are made of 10 ms frames."""

_HZ_PER_WO = np.float32(RATE_HZ / (2 * np.pi))
_BANDS_HZ = band_centres_hz()
_BANDS_HZ.setflags(write=False)


class Extractor:
    """Streaming extraction: bit-identical to `extract` for any division into chunks.

    Parameters
    ----------
    rate : float
        Sample rate of the chunks, from 8000 Hz; others than 8000 are resampled.
    frame_ms : {40, 20, 10}
        Time between two vectors, ms; 40 is the interval of 700C.
    knots : {"pick", "fit", "exact"}
        "pick" takes the last 10 ms frame of each interval, as Codec 2 does; "fit" the vectors
        whose straight lines come closest to all 10 ms frames, with 80 ms of look-ahead; "exact"
        has a look-ahead of 480 ms, beyond which nothing changes. Pitch and voicing are those of
        the picked frames. The last two need 20 or 40 ms.
    channel : int or "mix"
        Number of a channel, from 1, or the mean of all.
    full_scale : float
        Value of a float sample at full scale; int16, int32 and uint8 have their own.
    harmonics : bool
        Give picked frames with their harmonics, too.
    declip : bool
        Restore clipped peaks, see `codec2_eq.audio.declip`.

    Raises
    ------
    Codec2EqError
        For a rate, an interval or a channel that cannot be.

    Examples
    --------
    >>> samples = np.zeros(8000, np.int16)
    >>> live = ce.Extractor()
    >>> frames = [live.process(block) for block in np.array_split(samples, 7)] + [live.flush()]
    >>> ce.RateK.join(frames).vectors.shape
    (25, 20)
    """

    def __init__(
        self,
        rate: float = RATE_HZ,
        *,
        frame_ms: int = FRAME_MS,
        knots: str = "pick",
        channel: int | str = "mix",
        full_scale: float = 1.0,
        harmonics: bool = False,
        declip: bool = False,
    ) -> None:
        self.frame_ms = frame_ms
        fits = check_knots(knots, frame_ms) != "pick"
        self._fitter = Fitter(frame_ms, knots) if fits else None
        self._analysed_ms = HOP_MS if fits else frame_ms
        self._analyser = Analyser(self._analysed_ms // HOP_MS, harmonics=harmonics)
        self._resampler = Resampler(rate)
        self._declipper = Declipper(rate) if declip else None
        self._reader = ArrayReader(channel=channel, full_scale=full_scale)
        self._alone = OneThread("Extractor")

    def process(self, samples: NDArray[Any]) -> RateK:
        """Analyse the next samples; return the frames that they complete.

        Parameters
        ----------
        samples : ndarray of shape (n,), (n, channels) or (channels, n)
            int16, int32, uint8 or float, n from 0.

        Raises
        ------
        Codec2EqError
            For other shapes and types, samples that are not finite, and a second thread.
        """
        with self._alone:
            mono = self._reader.read(samples)
            if self._declipper:
                mono = self._declipper.process(mono)
            return self._analyse(self._resampler.process(mono))

    def flush(self) -> RateK:
        """Return the frames still held at the end of the input; a partial frame is dropped."""
        with self._alone:
            self._reader.flush()
            frames = []
            if self._declipper:
                frames.append(self._analyse(self._resampler.process(self._declipper.flush())))
            frames.append(self._analyse(self._resampler.flush()))
            if self._fitter:
                frames.append(self._fitter.flush())
            return RateK.join(frames)

    def _analyse(self, samples: NDArray[np.float32]) -> RateK:
        frames = _record(self._analyser.process(samples), self._analysed_ms)
        return self._fitter.process(frames) if self._fitter else frames


def extract(
    samples: NDArray[Any],
    rate: float = RATE_HZ,
    *,
    frame_ms: int = FRAME_MS,
    knots: str = "pick",
    channel: int | str = "mix",
    full_scale: float = 1.0,
    pad: bool = False,
    jobs: int = 1,
) -> RateK:
    """Analyse a whole recording, bit for bit as libcodec2 does.

    Parameters
    ----------
    samples : ndarray of shape (n,), (n, channels) or (channels, n)
        int16, int32, uint8 or float.
    rate, frame_ms, knots, channel, full_scale
        As for `Extractor`.
    pad : bool
        Fill a partial last frame with zeros, so that there is one for each frame_ms begun.
    jobs : int
        Threads that share a long recording; the result does not depend on it.

    Returns
    -------
    RateK
        One frame for each whole frame_ms of audio.

    Raises
    ------
    Codec2EqError
        As `Extractor` does.

    Examples
    --------
    >>> frames = ce.extract(np.zeros(16000, np.int16), 16000)
    >>> frames.vectors.shape, frames.freqs_hz.shape
    ((25, 20), (20,))
    """
    resampler = Resampler(rate)
    reader = ArrayReader(channel=channel, full_scale=full_scale)
    mono = reader.read(samples)
    reader.flush()
    blocks = [resampler.process(mono), resampler.flush()]
    if pad:
        blocks = [_padded(np.concatenate(blocks), len(mono), rate, frame_ms)]
    records = extract_blocks(blocks, frame_ms=frame_ms, knots=knots, jobs=jobs)
    return RateK.join([_nothing(frame_ms), *records])


def _padded(
    audio: NDArray[np.float32], n_samples: int, rate: float, frame_ms: int
) -> NDArray[np.float32]:
    """Return n_samples at `rate`, resampled, as long as the frames that they begin."""
    per_frame = rate * _check_frame_ms(frame_ms) / 1000
    n_padded = math.ceil(n_samples / per_frame) * frame_ms * HOP // HOP_MS
    return np.pad(audio[:n_padded], (0, max(0, n_padded - len(audio))))


def extract_file(
    path: PathLike,
    *,
    frame_ms: int = FRAME_MS,
    knots: str = "pick",
    channel: int | str = "mix",
    raw: bool = False,
    jobs: int = 1,
) -> RateK:
    """Analyse an audio file that libsndfile reads, or headerless samples.

    Parameters
    ----------
    path : str or path
        The file; "-" is stdin.
    frame_ms, knots, channel, jobs
        As for `extract`.
    raw : bool
        The file is headerless 16-bit mono at 8 kHz; .raw, .sw and .s16 always are.

    Raises
    ------
    Codec2EqError
        If the file cannot be read, or is no audio.

    Examples
    --------
    >>> frames = ce.extract_file("samples/espeak_male_1.wav")
    >>> len(frames), frames.frame_ms
    (87, 40)
    """
    records = stream_file(path, frame_ms=frame_ms, knots=knots, channel=channel, raw=raw, jobs=jobs)
    return RateK.join([_nothing(frame_ms), *records])


def stream_file(
    path: PathLike,
    *,
    frame_ms: int = FRAME_MS,
    knots: str = "pick",
    channel: int | str = "mix",
    raw: bool = False,
    jobs: int = 1,
    harmonics: bool = False,
) -> Iterator[RateK]:
    """Analyse a file or pipe block by block; from a pipe each frame as soon as it is complete."""
    jobs = 1 if is_pipe(path) else jobs
    with stream_audio(path, channel=channel, raw=raw) as blocks:
        yield from extract_blocks(
            blocks, frame_ms=frame_ms, knots=knots, jobs=jobs, harmonics=harmonics
        )


def extract_blocks(
    blocks: Iterable[NDArray[np.float32]],
    *,
    frame_ms: int = FRAME_MS,
    knots: str = "pick",
    jobs: int = 1,
    harmonics: bool = False,
) -> Iterator[RateK]:
    """Analyse mono 8 kHz blocks in the scale of int16 as they come; yield their frames in order.

    jobs : as for `analyse_blocks`
    """
    check_knots(knots, frame_ms)
    if jobs < 1:
        raise Codec2EqError(f"jobs {jobs}", "at least one")
    if knots == "pick":
        step = frame_ms // HOP_MS
        for arrays in analyse_blocks(blocks, step, jobs=jobs, harmonics=harmonics):
            yield _record(arrays, frame_ms)
        return
    fitter = Fitter(frame_ms, knots)
    for arrays in analyse_blocks(blocks, 1, jobs=jobs):
        yield fitter.process(_record(arrays, HOP_MS))
    yield fitter.flush()


class Fitter:
    """Stream of 10 ms frames to fitted frames, each with the pitch of the picked frame."""

    def __init__(self, frame_ms: int, knots: str, *, any_level: bool = False) -> None:
        self._frame_ms = frame_ms
        self._step = frame_ms // HOP_MS
        self._knots = KnotFitter(self._step, LOOK_AHEAD_MS[knots] // frame_ms, any_level=any_level)
        self._to_pick = self._step - 1  # frames before the next picked one
        self._picked = _nothing(frame_ms)  # those whose vectors are not settled yet

    def process(self, frames: RateK) -> RateK:
        """Take the next 10 ms frames; return the fitted frames that are settled by now."""
        picked = frames[self._to_pick :: self._step]
        self._to_pick += len(picked) * self._step - len(frames)
        self._picked = RateK.join([self._picked, replace(picked, frame_ms=self._frame_ms)])
        return self._settle(self._knots.process(frames.vectors, frames.mean_db))

    def flush(self) -> RateK:
        """Return the frames still to come at the end of the input."""
        return self._settle(self._knots.flush())

    def _settle(self, vectors: NDArray[np.float32]) -> RateK:
        settled = self._picked[: len(vectors)]
        self._picked = self._picked[len(vectors) :]
        return replace(settled, vectors=vectors, mean_db=remove_mean(vectors)[0])


def _check_frame_ms(frame_ms: int) -> int:
    if frame_ms not in FRAME_MS_CHOICES:
        raise Codec2EqError(f"frame interval {frame_ms} ms", "", "choose 10, 20 or 40")
    return frame_ms


def check_knots(knots: str, frame_ms: int) -> str:
    """Return how frames are made; raise Codec2EqError if they cannot be at that interval."""
    _check_frame_ms(frame_ms)
    if knots not in KNOTS:
        raise Codec2EqError(f"knots {knots!r}", f"expected one of {', '.join(KNOTS)}")
    if knots != "pick" and frame_ms == HOP_MS:
        raise Codec2EqError(
            f"knots {knots!r}",
            f"no frames lie between those {HOP_MS} ms apart",
            "choose 20 or 40 ms, or pick",
        )
    return knots


def _record(arrays: Arrays, frame_ms: int) -> RateK:
    vectors, mean_db, wo, n_harm, voiced, *harmonics_db = arrays
    f0_hz = wo * _HZ_PER_WO
    return RateK(vectors, mean_db, f0_hz, voiced, wo, n_harm, _BANDS_HZ, frame_ms, *harmonics_db)


def _nothing(frame_ms: int) -> RateK:
    """Return the record of no audio, so that there is always something to join."""
    none = np.empty(0, np.float32)
    arrays = np.empty((0, K), np.float32), none, none, none.astype(np.int32), none.astype(bool)
    return _record(arrays, _check_frame_ms(frame_ms))
