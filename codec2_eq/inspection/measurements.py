# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measurements of a recording: level, clipping, hum, noise, band limits, channels, curve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import FULL_SCALE
from codec2_eq.codec2.library import codebook_700c
from codec2_eq.equalisers.equaliser import Equaliser, load_equaliser
from codec2_eq.extraction import Extractor
from codec2_eq.inspection.meters import (
    HUM_HZ,
    SILENCE_DBFS,
    ChannelMeter,
    LevelMeter,
    PeakMeter,
    SpectrumMeter,
    decibels,
)
from codec2_eq.records import remove_mean
from codec2_eq.vq import Quantiser

MODEL = "channel_eq"
ACTIVE_RANGE_DB = 20.0
"""Frames within this of the 95th percentile of levels are speech."""

HUM_STAYS = 0.6
"""Share of the quiet windows in which a line of hum stands out."""

HUM_OVER_QUIET_DB = 6.0
"""How far windows of 0.25 s can be above the quietest frames of 20 ms in a steady sound."""

QUIET_SHARE = 0.4
"""Share of the windows, the quietest, that show hum and noise between words."""

EDGE_DROP_DB = 16.0
"""Fall of the speech spectrum over a third of an octave that no voice has: a filter's edge."""

EDGE_RANGE_HZ = (100.0, 3700.0)
TONE_EDGES_HZ = (500.0, 2000.0)
"""Between bass, mid and treble, as on the knobs of an audio mixer."""

PEAK_MARGIN = 0.02


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured of one recording; levels in dB below full scale (dBFS).

    curve_db : (20,) estimated curve of microphone and voice less that of the average one, zero mean
    distortion_db2, distortion_equalised_db2 : of Codec 2's 700C quantiser per band, without and
        with the equaliser channel_eq
    hum_hz : 50, 60, or None; hum_dbfs : level of its lines
    low_edge_hz, high_edge_hz : steep edges of the band, None where absent
    """

    name: str
    rate: float
    channels: int
    duration_s: float
    active_dbfs: float
    peak_dbfs: float
    noise_dbfs: float
    clipped_share: float
    offset: float
    hum_hz: float | None
    hum_dbfs: float
    low_edge_hz: float | None
    high_edge_hz: float | None
    silent_channels: tuple[int, ...]
    antiphase: tuple[int, int] | None
    curve_db: NDArray[np.float64]
    freqs_hz: NDArray[np.float32]
    distortion_db2: float
    distortion_equalised_db2: float
    level_counts: NDArray[np.int64]
    spectrum_hz: NDArray[np.float64]
    speech_spectrum_db: NDArray[np.float64]
    quiet_spectrum_db: NDArray[np.float64]
    mean_curve_db: NDArray[np.float64]
    equalised_curve_db: NDArray[np.float64]

    @property
    def snr_db(self) -> float:
        """Level of active speech above the noise between words."""
        return self.active_dbfs - self.noise_dbfs

    @property
    def tone_db(self) -> tuple[float, float, float]:
        """Bass, mid and treble of the curve: set the tone controls to minus these."""
        low, high = TONE_EDGES_HZ
        f = self.freqs_hz
        bands = (f < low, (f >= low) & (f < high), f >= high)
        bass, mid, treble = (float(self.curve_db[band].mean()) for band in bands)
        return bass, mid, treble

    def numbers(self) -> dict[str, object]:
        """Return the measurements as `check --json` prints them."""
        bass, mid, treble = self.tone_db
        return {
            "file": self.name,
            "rate_hz": self.rate,
            "channels": self.channels,
            "duration_s": round(self.duration_s, 3),
            "active_dbfs": round(self.active_dbfs, 1),
            "peak_dbfs": round(self.peak_dbfs, 1),
            "headroom_db": round(-self.peak_dbfs, 1),
            "noise_dbfs": round(self.noise_dbfs, 1),
            "snr_db": round(self.snr_db, 1),
            "clipped_share": round(self.clipped_share, 6),
            "offset": round(self.offset, 5),
            "hum_hz": self.hum_hz,
            "hum_dbfs": round(self.hum_dbfs, 1),
            "low_edge_hz": self.low_edge_hz,
            "high_edge_hz": self.high_edge_hz,
            "silent_channels": list(self.silent_channels),
            "antiphase_channels": list(self.antiphase or ()),
            "freqs_hz": [round(float(f), 1) for f in self.freqs_hz],
            "curve_db": [round(float(c), 2) for c in self.curve_db],
            "tone_db": {"bass": round(bass, 1), "mid": round(mid, 1), "treble": round(treble, 1)},
            "distortion_db2": round(self.distortion_db2, 2),
            "distortion_equalised_db2": round(self.distortion_equalised_db2, 2),
        }


class _Listener:
    """All meters, run along one recording."""

    def __init__(self, rate: float, channels: int) -> None:
        self.rate = rate
        self.channels = ChannelMeter(channels)
        self.peaks = PeakMeter()
        self.levels = LevelMeter(rate)
        self.spectra = SpectrumMeter(rate)
        self._extractor = Extractor(rate, full_scale=1.0)
        self._frames = [self._extractor.process(np.empty(0))]

    def process(self, block: NDArray[np.float64]) -> None:
        """Take in the next samples (n, channels), full scale 1."""
        self.channels.process(block)
        for channel in range(block.shape[1]):
            self.peaks.process(block[:, channel])
        mono = block.mean(axis=1)
        self.levels.process(mono)
        self.spectra.process(mono)
        self._frames.append(self._extractor.process(mono))

    def vectors(self) -> NDArray[np.float32]:
        """All rate-K vectors, one every 40 ms."""
        self._frames.append(self._extractor.flush())
        return np.concatenate([frames.vectors for frames in self._frames])


def examine(blocks: Iterable[NDArray[np.float32]], *, name: str, rate: float) -> Measurements:
    """Measure a recording.

    blocks : (n, channels), in the scale of int16, at its own rate [Hz]; at least one
    Memory: 2 KB for each second of the recording.
    """
    listener: _Listener | None = None
    for block in blocks:
        if listener is None:
            listener = _Listener(rate, block.shape[1])
        listener.process(block / np.float64(FULL_SCALE))
    if listener is None:
        listener = _Listener(rate, 1)
    return _measurements(listener, name)


def _measurements(heard: _Listener, name: str) -> Measurements:
    levels, spectra = heard.levels, heard.spectra
    loud = levels.percentile_dbfs(95)
    active_dbfs = levels.mean_dbfs(loud - ACTIVE_RANGE_DB, np.inf)
    speech = spectra.above(active_dbfs - ACTIVE_RANGE_DB)
    quiet = spectra.quietest(QUIET_SHARE)
    quiet_dbfs = levels.mean_dbfs(-np.inf, levels.percentile_dbfs(10))
    hum_hz, hum_dbfs = find_hum(spectra, quiet_dbfs)
    low_edge_hz, high_edge_hz = find_edges(spectra.freqs_hz, speech)
    silent, antiphase = compare_channels(heard.channels.covariance)
    curve = _Curve.of(heard.vectors(), load_equaliser(MODEL))
    return Measurements(
        name=name,
        rate=heard.rate,
        channels=len(heard.channels.offset),
        duration_s=heard.channels.n / heard.rate,
        active_dbfs=active_dbfs,
        peak_dbfs=float(decibels(heard.peaks.peak**2)),
        noise_dbfs=_less(quiet_dbfs, hum_dbfs),
        clipped_share=heard.peaks.share_held_near_peak(PEAK_MARGIN),
        offset=float(heard.channels.offset[np.argmax(np.abs(heard.channels.offset))]),
        hum_hz=hum_hz,
        hum_dbfs=hum_dbfs,
        low_edge_hz=low_edge_hz,
        high_edge_hz=high_edge_hz,
        silent_channels=silent,
        antiphase=antiphase,
        curve_db=curve.removed_db - curve.average_db,
        freqs_hz=Extractor().process(np.empty(0)).freqs_hz,
        distortion_db2=curve.distortion_db2,
        distortion_equalised_db2=curve.distortion_equalised_db2,
        level_counts=levels.counts,
        spectrum_hz=spectra.freqs_hz,
        speech_spectrum_db=decibels(speech),
        quiet_spectrum_db=decibels(quiet),
        mean_curve_db=curve.before_db,
        equalised_curve_db=curve.after_db,
    )


def _less(level_dbfs: float, part_dbfs: float) -> float:
    """Level of what is left when a part is taken away, at most 10 dB lower."""
    whole, part = 10 ** (level_dbfs / 10), 10 ** (part_dbfs / 10)
    return float(decibels(max(whole - part, 0.1 * whole)))


@dataclass(frozen=True, eq=False)
class _Curve:
    """What the equaliser removes from a recording once it knows it; (20,) dB of zero mean."""

    removed_db: NDArray[np.float64]
    average_db: NDArray[np.float64]
    before_db: NDArray[np.float64]
    after_db: NDArray[np.float64]
    distortion_db2: float
    distortion_equalised_db2: float

    @classmethod
    def of(cls, vectors: NDArray[np.float32], equaliser: Equaliser) -> _Curve:
        """Hear the recording twice; the second time from what the first has learnt."""
        first, second = equaliser.stream(), equaliser.stream()
        average = _zero_mean(np.asarray(first.curve_db))
        first.process(vectors)
        second.restore(first.state())
        equalised = second.process(vectors)
        mean_db, shapes = remove_mean(vectors)
        if not len(vectors):
            nothing = np.zeros(len(average))
            return cls(average, average, nothing, nothing, 0.0, 0.0)
        active = mean_db >= np.percentile(mean_db, 95) - ACTIVE_RANGE_DB
        before, after = shapes[active].mean(axis=0), equalised[active].mean(axis=0)
        quantiser = Quantiser(codebook_700c())
        return cls(
            removed_db=_zero_mean(before - after),
            average_db=average,
            before_db=before.astype(np.float64),
            after_db=after.astype(np.float64),
            distortion_db2=quantiser.distortion(shapes[active]),
            distortion_equalised_db2=quantiser.distortion(equalised[active]),
        )


def _zero_mean(curve: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(curve, np.float64) - curve.mean(dtype=np.float64)


def find_hum(spectra: SpectrumMeter, quiet_dbfs: float) -> tuple[float | None, float]:
    """Mains hum in the pauses: its frequency or None, and its level in dBFS.

    Of 50 and 60 Hz the one with more lines that stay. What is louder than the quietest frames of
    20 ms was a voice.
    """
    stays = spectra.standing_out(QUIET_SHARE) >= HUM_STAYS
    power = np.where(stays, spectra.line_power(spectra.quietest(QUIET_SHARE)), 0.0)
    best = max(range(len(HUM_HZ)), key=lambda i: (stays[i].sum(), power[i].sum()))
    hum_dbfs = float(decibels(power[best].sum()))
    if not stays[best].any() or hum_dbfs > quiet_dbfs + HUM_OVER_QUIET_DB:
        return None, SILENCE_DBFS
    return HUM_HZ[best], hum_dbfs


def find_edges(
    freqs_hz: NDArray[np.float64], speech: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """Steep edges of the band of a speech spectrum [Hz], low and high; None where absent.

    An edge is where the slope begins, 6 dB under what lies inside the band.
    """
    high_limit = min(EDGE_RANGE_HZ[1], freqs_hz[-1] / THIRD_OCTAVE)
    grid = np.geomspace(EDGE_RANGE_HZ[0], high_limit, 120)
    below = np.array([_band_db(freqs_hz, speech, f / THIRD_OCTAVE, f) for f in grid])
    above = np.array([_band_db(freqs_hz, speech, f, f * THIRD_OCTAVE) for f in grid])
    narrow = np.array([_band_db(freqs_hz, speech, f / 1.06, f * 1.06) for f in grid])
    low, high = grid < 1000, grid > 1000
    return (
        _edge(grid[low][::-1], (above - below)[low][::-1], narrow[low][::-1]),
        _edge(grid[high], (below - above)[high], narrow[high]),
    )


def _edge(
    grid: NDArray[np.float64], slope: NDArray[np.float64], level: NDArray[np.float64]
) -> float | None:
    """Where a slope begins that is steeper than any voice's; all run outwards from mid-band."""
    steepest = int(slope.argmax())
    if slope[steepest] < EDGE_DROP_DB:
        return None
    octave = np.abs(np.log2(grid / grid[steepest]))
    inside = level[:steepest][(octave[:steepest] > 1 / 3) & (octave[:steepest] <= 1)]
    if not len(inside):
        return float(grid[steepest])
    within = np.flatnonzero(level[: steepest + 1] >= inside.mean() - 6)
    return float(grid[within[-1]])


THIRD_OCTAVE = 2 ** (1 / 3)


def _band_db(
    freqs_hz: NDArray[np.float64], power: NDArray[np.float64], low: float, high: float
) -> float:
    inside = (freqs_hz >= low) & (freqs_hz < high)
    return float(decibels(power[inside].mean()))


def compare_channels(
    covariance: NDArray[np.float64],
) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """Channels (from 1) that are silent beside the loudest, and the first pair in antiphase."""
    power = np.diag(covariance)
    if len(power) < 2 or not power.max() > 0:
        return (), None
    is_silent = power < power.max() * 10 ** (SILENT_CHANNEL_DB / 10)
    silent = tuple(int(channel) + 1 for channel in np.flatnonzero(is_silent))
    heard = np.flatnonzero(~is_silent)
    for i, first in enumerate(heard):
        for second in heard[i + 1 :]:
            likeness = covariance[first, second] / np.sqrt(power[first] * power[second])
            if likeness < ANTIPHASE:
                return silent, (int(first) + 1, int(second) + 1)
    return silent, None


SILENT_CHANNEL_DB = -40.0
ANTIPHASE = -0.7
"""Correlation of two channels below which their sum loses the speech."""
