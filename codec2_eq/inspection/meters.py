# SPDX-License-Identifier: LGPL-2.1-or-later
"""Meters that run along a recording at its own rate, in memory that does not grow with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SILENCE_DBFS = -100.0
"""Lowest level reported [dBFS]; a tenth of a step of 16 bits is -110."""

LEVEL_FRAME_S = 0.02
LEVEL_EDGES_DBFS = np.arange(SILENCE_DBFS, 12.5, 0.5)
WINDOW_S = 0.25
"""Shortest window of the spectra [s]: resolves 50 from 60 Hz and either from a voice."""

SPECTRUM_STEP_DB = 3.0
HUM_HZ = (50.0, 60.0)
HUM_HARMONICS = 6
HUM_PROMINENCE = 4.0
"""Power of a line over the median of its neighbourhood that makes it stand out in a window."""

Samples = NDArray[np.float64]


class ChannelMeter:
    """Offset and covariance of the channels, (n, channels) blocks."""

    def __init__(self, channels: int) -> None:
        self.n = 0
        self._sums = np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def process(self, block: Samples) -> None:
        """Take in the next samples, full scale 1."""
        self.n += len(block)
        self._sums += block.sum(axis=0)
        self._products += block.T @ block

    @property
    def offset(self) -> NDArray[np.float64]:
        """Mean of each channel, full scale 1."""
        return self._sums / max(1, self.n)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Of the channels, (channels, channels), full scale 1."""
        mean = self.offset
        return self._products / max(1, self.n) - np.outer(mean, mean)


class PeakMeter:
    """Peak of a channel, and how often each magnitude is held for two samples or more."""

    BINS = 4096

    def __init__(self) -> None:
        self.peak = 0.0
        self.n = 0
        self._held = np.zeros(self.BINS, np.int64)
        self._scale = 1.0
        self._last = 0.0

    def process(self, samples: Samples) -> None:
        """Take in the next samples of one channel, (n,), full scale 1."""
        if not len(samples):
            return
        magnitude = np.abs(samples)
        self.peak = max(self.peak, float(magnitude.max()))
        while self.peak >= self._scale:  # floats may exceed full scale: halve the resolution
            self._widen()
        index = (magnitude * (self.BINS / self._scale)).astype(np.int64)
        held = samples == np.concatenate(([self._last], samples[:-1]))
        self._held += np.bincount(index[held], minlength=self.BINS)
        self._last = float(samples[-1])
        self.n += len(samples)

    def _widen(self) -> None:
        self._scale *= 2
        pairs = self._held.reshape(-1, 2).sum(axis=1)
        self._held = np.concatenate((pairs, np.zeros(self.BINS // 2, np.int64)))

    def share_held_near_peak(self, within: float) -> float:
        """Share of the samples near the peak that repeat the one before: flat tops."""
        first = int(self.peak * (1 - within) * (self.BINS / self._scale))
        return float(self._held[first:].sum()) / max(1, self.n)


class LevelMeter:
    """Histogram of the levels of frames of 20 ms, each less its own mean: an offset is no sound."""

    def __init__(self, rate: float) -> None:
        self._length = round(LEVEL_FRAME_S * rate)
        self._rest = np.empty(0)
        self.counts = np.zeros(len(LEVEL_EDGES_DBFS) - 1, np.int64)

    def process(self, samples: Samples) -> None:
        """Take in the next samples of one channel, (n,), full scale 1."""
        joined = np.concatenate((self._rest, samples))
        whole = len(joined) - len(joined) % self._length
        self._rest = joined[whole:]
        power = np.var(joined[:whole].reshape(-1, self._length), axis=1)
        self.counts += np.histogram(decibels(power), LEVEL_EDGES_DBFS)[0]

    def percentile_dbfs(self, percent: float) -> float:
        """Level that this percentage of the frames stays below."""
        if not self.counts.any():
            return SILENCE_DBFS
        reached = np.cumsum(self.counts) >= percent / 100 * self.counts.sum()
        return float(LEVEL_EDGES_DBFS[int(np.argmax(reached))])

    def mean_dbfs(self, low: float, high: float) -> float:
        """Level of the mean power of the frames whose levels lie in a range."""
        centres = LEVEL_EDGES_DBFS[:-1] + 0.25
        inside = (centres >= low) & (centres <= high)
        n_inside = self.counts[inside].sum()
        if not n_inside:
            return SILENCE_DBFS
        return float(decibels(self.counts[inside] @ 10 ** (centres[inside] / 10) / n_inside))


class SpectrumMeter:
    """Mean power spectra of the windows of each level, so that speech and pauses come apart.

    Of each window it also counts which lines of mains hum, (len(HUM_HZ), HUM_HARMONICS), stand
    out: a voice passes a frequency now and then, hum stays.
    """

    def __init__(self, rate: float) -> None:
        self.length = 1 << int(np.ceil(np.log2(WINDOW_S * rate)))
        self.freqs_hz: NDArray[np.float64] = np.linspace(0, rate / 2, self.length // 2 + 1)
        self._window = np.hanning(self.length)
        self._gain = 1 / (self.length * np.sum(self._window**2))
        self._rest = np.empty(0)
        self.edges_dbfs = np.arange(SILENCE_DBFS, 12, SPECTRUM_STEP_DB)
        self.counts = np.zeros(len(self.edges_dbfs), np.int64)
        self._power = np.zeros((len(self.edges_dbfs), self.length // 2 + 1))
        lines_hz = np.outer(HUM_HZ, np.arange(1, HUM_HARMONICS + 1)).ravel()
        self._lines = [self._line(hz) for hz in lines_hz]
        self._standing_out = np.zeros((len(self.edges_dbfs), len(lines_hz)), np.int64)

    def _line(self, hz: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Bins of a line and of its neighbourhood."""
        step = self.freqs_hz[1]
        distance = np.abs(self.freqs_hz - hz)
        beside = (distance > 3 * step) & (distance <= 6 * step)
        return np.flatnonzero(distance <= step), np.flatnonzero(beside)

    def process(self, samples: Samples) -> None:
        """Take in the next samples of one channel, (n,), full scale 1."""
        joined = np.concatenate((self._rest, samples))
        start = 0
        while start + self.length <= len(joined):
            self._take(joined[start : start + self.length])
            start += self.length // 2
        self._rest = joined[start:]

    def _take(self, part: Samples) -> None:
        part = part - part.mean()
        level = float(decibels(float(np.mean(part**2))))
        row = int(np.clip(np.searchsorted(self.edges_dbfs, level) - 1, 0, len(self.counts) - 1))
        power = 2 * self._gain * np.abs(np.fft.rfft(part * self._window)) ** 2
        self._power[row] += power
        self.counts[row] += 1
        for i, (line, beside) in enumerate(self._lines):
            around = np.median(power[beside])
            self._standing_out[row, i] += power[line].max() > HUM_PROMINENCE * around > 0

    def above(self, dbfs: float) -> NDArray[np.float64]:
        """Mean power per bin over the windows of at least this level."""
        return self._mean(self.edges_dbfs + SPECTRUM_STEP_DB >= dbfs)

    def quietest(self, share: float) -> NDArray[np.float64]:
        """Mean power per bin over the quietest windows, at least this share of all."""
        return self._mean(self._quietest(share))

    def standing_out(self, share: float) -> NDArray[np.float64]:
        """Share of the quietest windows in which each line of hum stands out."""
        rows = self._quietest(share)
        found = self._standing_out[rows].sum(axis=0) / max(1, self.counts[rows].sum())
        return found.reshape(len(HUM_HZ), HUM_HARMONICS)

    def line_power(self, spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
        """Power of each line of hum in a spectrum, full scale 1."""
        power = [spectrum[line].sum() for line, _ in self._lines]
        return np.reshape(power, (len(HUM_HZ), HUM_HARMONICS))

    def _quietest(self, share: float) -> NDArray[np.bool_]:
        reached = np.cumsum(self.counts)
        last = int(np.argmax(reached >= max(1.0, share * reached[-1])))
        return np.arange(len(self.counts)) <= last

    def _mean(self, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        return self._power[rows].sum(axis=0) / max(1, self.counts[rows].sum())


def decibels(power: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Power, full scale 1, in dB; at least SILENCE_DBFS."""
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10)))
