# SPDX-License-Identifier: LGPL-2.1-or-later
"""An equaliser as an audio filter: it removes the curve of microphone and voice from speech."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import FULL_SCALE
from codec2_eq.audio.resample import check_rate
from codec2_eq.audiofilter.decimator import Decimator
from codec2_eq.audiofilter.follower import CurveFollower
from codec2_eq.audiofilter.limiter import Limiter
from codec2_eq.audiofilter.moving import BLOCKS_PER_FADE, MovingFilter
from codec2_eq.codec2 import FRAME_MS, RATE_HZ
from codec2_eq.equalisers.equaliser import Equaliser, equaliser_at
from codec2_eq.equalisers.names import ENCODER_MODEL
from codec2_eq.errors import Codec2EqError, OneThread
from codec2_eq.extraction import Extractor
from codec2_eq.records import RateK, plain_array

MOST_RATE_HZ = 48_000
"""Highest sample rate that is filtered."""

MOST_AT_ONCE_S = 1.0
"""More samples are filtered piece by piece, so that each fits into the processor's cache [s]."""

RESAMPLER_FRAMES = 2
"""Frames (80 ms) within which `Resampler` hands on a sample; `Decimator` never waits."""

Floats = NDArray[np.float32]


class AudioEqualiser:
    """An equaliser as an audio filter: it removes the curve of microphone and voice.

    The curve is estimated on a mono copy at 8 kHz; each 40 ms of samples fade to the gain that the
    frames before them have asked for. As many samples come out as went in, none of them later than
    `latency_s` after it went in; any division into blocks gives the same bits.

    Parameters
    ----------
    model : Equaliser, str or path
        An equaliser with a curve, or its name or path.
    rate : float
        Sample rate of the samples, 8000 to 48000 Hz.
    level : {"auto", "keep"}
        "auto" brings active speech to where 700C does best; "keep" leaves the mean level of the
        bands as it is.
    channels : int
        Number of channels, which are filtered alike.
    limit : bool
        Limit peaks to full scale; False passes samples 5 ms sooner.
    blocks_per_fade : int
        4 returns samples every 10 ms; 1, every 40 ms, is faster.
    full_scale : float
        Value of a float sample at full scale; integer samples are int16.

    Raises
    ------
    Codec2EqError
        For an unsupported rate, model or level.

    Examples
    --------
    >>> filtering = ce.AudioEqualiser("channel_eq", 48000, channels=2)
    >>> out = filtering.process(np.zeros((4800, 2), np.float32))
    >>> len(out) + len(filtering.flush())
    4800
    """

    def __init__(
        self,
        model: Equaliser | str | Path = ENCODER_MODEL,
        rate: float = RATE_HZ,
        *,
        level: str = "auto",
        channels: int = 1,
        limit: bool = True,
        blocks_per_fade: int = BLOCKS_PER_FADE,
        full_scale: float = 1.0,
    ) -> None:
        model = equaliser_at(FRAME_MS, model)
        if not 0 < full_scale < np.inf:
            raise Codec2EqError(f"full scale {full_scale}", "", "expected a positive number")
        check_rate(rate)
        if rate > MOST_RATE_HZ:
            raise Codec2EqError(
                f"sample rate {rate:.10g} Hz",
                f"at most {MOST_RATE_HZ} Hz can be filtered",
                f"resample it first (sox IN -r {MOST_RATE_HZ} OUT)",
            )
        factor = int(rate / RATE_HZ) if rate % RATE_HZ == 0 else 1
        self._decimator = Decimator(factor) if factor > 1 else None
        self._extractor = Extractor(rate / factor, frame_ms=FRAME_MS, full_scale=FULL_SCALE)
        if channels < 1:
            raise Codec2EqError(f"{channels} channels", "", "at least one")
        self.model, self.rate, self.channels = model, rate, channels
        self._full_scale = full_scale
        self._follower = CurveFollower(model, level)
        # frames of 40 ms from the end of one that is heard to the fade that begins with its gain
        self._behind = 1 if rate % RATE_HZ == 0 else 1 + RESAMPLER_FRAMES
        self._limit = limit
        self._blocks_per_fade = blocks_per_fade
        self._pending = np.zeros((channels, 0), np.float32)
        self._unheard: list[Floats] = []
        self._begun = False
        self._alone = OneThread("AudioEqualiser")
        self._n_fades = 1
        self._flat, self._integer = channels == 1, False  # form of the samples
        self._start()

    def _start(self) -> None:
        start = self._follower.gain_points()
        self._filter = MovingFilter(self.rate, self.channels, start, self._blocks_per_fade)
        self._limiter = Limiter(
            self._filter.fade // (2 * BLOCKS_PER_FADE), self.rate, self.channels
        )
        self._gains = start[None]  # the last ones heard; the first of them after frame `_first`
        self._first = -1

    @property
    def latency_s(self) -> float:
        """Longest delay from a sample's input to its output, s."""
        held = self._filter.block + self._limit * self._limiter.block
        return held / self.rate

    @property
    def curve_db(self) -> Floats:
        """The curve being removed: float32 of shape (20,), dB at the bands, of mean 0."""
        with self._alone:
            self._follow()
            return self._follower.curve_db.copy()

    def process(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Filter the next samples.

        Parameters
        ----------
        samples : ndarray of int16 or float, shape (n,) or (n, channels)
            n from 0.

        Returns
        -------
        ndarray
            The samples that are ready, with as many axes: int16 for int16, float32 for floats.

        Raises
        ------
        Codec2EqError
            For another shape or type, and samples that are not finite.
        """
        with self._alone:
            array = self._checked(samples)
            most = int(self.rate * MOST_AT_ONCE_S)
            if len(array) <= most:
                return self._process(array)
            parts = np.split(array, range(most, len(array), most))
            return np.concatenate([self._process(part) for part in parts])

    def _process(self, array: NDArray[Any]) -> NDArray[Any]:
        lines = self._lines(array)
        self._begun = True
        self._unheard.append(lines)
        if not self._integer and not np.abs(lines).max(initial=0) <= FULL_SCALE:
            self._follow()  # which refuses samples that are not finite
        held = self._pending.shape[1]
        self._pending = np.concatenate([self._pending, lines], axis=1) if held else lines
        return self._as_given(self._filtered(self._pending.shape[1] // self._filter.block))

    def hear(self, samples: NDArray[Any]) -> None:
        """Learn from samples without filtering them, for another filter to begin with `state`.

        Parameters
        ----------
        samples : ndarray
            As for `process`.
        """
        with self._alone:
            self._unheard.append(self._lines(self._checked(samples)))
            self._follow()

    def flush(self) -> NDArray[Any]:
        """Return the samples that are held at the end of the recording, as `process` does."""
        with self._alone:
            self._follow()
            self._remember(self._extractor.flush())
            n_held = self._pending.shape[1]
            n_blocks = -(-n_held // self._filter.block)
            padding = n_blocks * self._filter.block - n_held
            self._pending = np.pad(self._pending, ((0, 0), (0, padding)))
            out = [self._filtered(n_blocks, at_end=True), self._limiter.flush()]
            whole = np.concatenate(out, axis=1)
            return self._as_given(whole[:, : whole.shape[1] - padding])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what is known of the station: arrays by name, for ``np.savez`` and `restore`."""
        with self._alone:
            self._follow()
            return self._follower.state()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Begin with a station that is known, before the first sample.

        Parameters
        ----------
        state : mapping of str to ndarray
            What `state` returned.

        Raises
        ------
        Codec2EqError
            If the state is of another equaliser, damaged, or comes too late.
        """
        if self._begun:
            raise Codec2EqError("state", "comes after the first samples", "restore it before them")
        self._follower.restore(state)
        self._start()

    def _checked(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return samples as an array of a shape and type that can be filtered; note its form."""
        array = plain_array(samples, "samples")
        self._flat = array.ndim == 1 and self.channels == 1
        self._integer = array.dtype == np.int16
        if array.ndim != 2 - self._flat or array.size != len(array) * self.channels:
            raise Codec2EqError(
                f"samples of shape {array.shape}",
                f"expected (n_samples, {self.channels})",
                "state their number with channels=",
            )
        if not self._integer and array.dtype.kind != "f":
            raise Codec2EqError(f"samples of type {array.dtype}", "", "expected int16 or float")
        return array

    def _lines(self, array: NDArray[Any]) -> Floats:
        """Return samples as (channels, n) float32 in the scale of int16."""
        lines = array.reshape(-1, self.channels).T.astype(np.float32, order="C")
        return lines if self._integer else lines * np.float32(FULL_SCALE / self._full_scale)

    def _as_given(self, lines: Floats) -> NDArray[Any]:
        """Return lines in the form that the samples had."""
        samples = lines[0] if self._flat else np.ascontiguousarray(lines.T)
        if self._integer:
            whole = np.rint(samples)
            return (whole if self._limit else np.clip(whole, -32768, 32767)).astype(np.int16)
        return samples * np.float32(self._full_scale / FULL_SCALE)

    def _follow(self) -> None:
        """Learn from what came in since: a few blocks at a time take less than each alone."""
        if self._unheard:
            lines = np.concatenate(self._unheard, axis=1)
            self._unheard.clear()
            mono = lines[0] if len(lines) == 1 else lines.sum(axis=0) / np.float32(len(lines))
            at_8khz = mono if self._decimator is None else self._decimator.process(mono)
            self._remember(self._extractor.process(at_8khz))

    def _remember(self, frames: RateK) -> None:
        self._gains = np.concatenate([self._gains, self._follower.process(frames)])

    def _filtered(self, n_blocks: int, *, at_end: bool = False) -> Floats:
        """Filter the next blocks that are pending, as far as the gains are known."""
        n_fades = self._filter.fades_begun_by(n_blocks)
        gains = self._gains[:0]
        if n_fades:
            self._follow()
            fades = self._n_fades + np.arange(n_fades)
            heard = (fades * self._filter.fade * 1000 / (FRAME_MS * self.rate)).astype(np.intp)
            rows = np.maximum(heard - self._behind - self._first, 0)
            if at_end:
                rows = np.minimum(rows, len(self._gains) - 1)
            elif rows[-1] >= len(self._gains):
                return self._filtered(n_blocks - 1)
            gains = self._gains[rows]
            self._gains = self._gains[rows[-1] :]  # later fades need none before this
            self._first += int(rows[-1])
            self._n_fades += n_fades
        n_done = n_blocks * self._filter.block
        done, self._pending = self._pending[:, :n_done], self._pending[:, n_done:].copy()
        out = self._filter.process(done, gains)
        return self._limiter.process(out) if self._limit else out
