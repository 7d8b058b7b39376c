# SPDX-License-Identifier: LGPL-2.1-or-later
"""Batches to train on, drawn from recordings: at every draw another channel is added, in dB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codec2_eq.bench import shaping
from codec2_eq.bench.measures import SEGMENT_FRAMES, shapes_of
from codec2_eq.bench.shaping import BAND_HZ, OCTAVES
from codec2_eq.codec2 import K
from codec2_eq.training.data import TWINS, Recording
from codec2_eq.training.settings import Draws

Floats = NDArray[np.float32]

FLOOR_DB = 50.0  # below the frame's peak the analysis lets no band fall; codec2 newamp1


def draw_channel(rng: np.random.Generator, draws: Draws) -> NDArray[np.float64]:
    """A constant curve over the bands, (K,) dB: smooth, tilted, band-limited, resonant, or none."""
    if rng.random() < 0.1:
        return np.zeros(K)
    bands = np.arange(K)
    reach = rng.uniform(1.5, 7)
    covariance = np.exp(-0.5 * np.square((bands[:, None] - bands) / reach)) + 1e-4 * np.eye(K)
    curve = np.linalg.cholesky(covariance) @ rng.standard_normal(K)
    curve *= rng.uniform(0, draws.smooth_db)
    if rng.random() < 0.6:
        curve += rng.uniform(-draws.tilt_db, draws.tilt_db) * OCTAVES
    if rng.random() < 0.25:
        curve += shaping.high_pass(rng.uniform(150, 900), int(rng.integers(1, 4)))(BAND_HZ)
    if rng.random() < 0.25:
        curve += shaping.low_pass(rng.uniform(1500, 3800), int(rng.integers(1, 4)))(BAND_HZ)
    if rng.random() < 0.4:
        centre = 150 * 2 ** rng.uniform(0, 4.6)
        curve += shaping.bell(centre, rng.normal(0, 8), rng.uniform(0.4, 1.8))(BAND_HZ)
    return curve


class Sampler:
    """Draws batches of cold segments: shaped vectors and their targets.

    Speakers with many recordings are drawn more often, but only by the root of their number.
    """

    def __init__(self, recordings: Sequence[Recording], draws: Draws) -> None:
        self._recordings = list(recordings)
        self._draws = draws
        names = [r.speaker.split("*")[0] for r in self._recordings]
        counts = {name: names.count(name) for name in set(names)}
        chances = np.array([counts[name] ** -0.5 for name in names])
        fitted = np.array([r.knots == "fit" for r in self._recordings])
        if fitted.any():
            chances[fitted] *= draws.fitted
            chances[~fitted] *= 1 - draws.fitted
        self._chances = chances / chances.sum()

    def batch(self, size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """`size` segments of 12 s.

        Returns vectors (size, 300, K) dB and targets (size, 300, K + 1): canonical shapes, then 1
        for active frames and 0 for others.
        """
        items = [self._item(SEGMENT_FRAMES, rng) for _ in range(size)]
        vectors, targets = zip(*items, strict=True)
        return np.stack(vectors), np.stack(targets)

    def _item(self, n_frames: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        if rng.random() < self._draws.change:
            first = int(rng.integers(25, 200))
            parts = [self._speech(first, rng), self._speech(n_frames - first, rng)]
            louder = _loudness(parts[0][0]) - _loudness(parts[1][0]) + rng.uniform(-10, 10)
            parts[1] = (parts[1][0] + np.float32(louder), parts[1][1])
        elif rng.random() < self._draws.prelude:
            first = int(rng.integers(5, 120))
            speech = self._speech(n_frames - first, rng)
            parts = [_noise_alone(first, _loudness(speech[0]), rng), speech]
        else:
            return self._speech(n_frames, rng)
        vectors, targets = zip(*parts, strict=True)
        return np.concatenate(vectors), np.concatenate(targets)

    def _speech(self, n_frames: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        draws = self._draws
        recording = self._recordings[rng.choice(len(self._recordings), p=self._chances)]
        start = int(rng.integers(0, max(len(recording.plain) - n_frames, 0) + 1))
        frames = np.arange(start, start + n_frames) % len(recording.plain)
        plain = recording.plain[frames]
        if rng.random() < draws.canonical:
            shaped = plain - recording.offset
            if rng.random() < 0.5:
                shaped = shaped + rng.normal(0, 0.7, K)
        else:
            if draws.noisy and rng.random() < draws.noisy:
                shaped = recording.twins[TWINS][frames]
            else:
                twin = recording.twins[rng.integers(TWINS)]
                shaped = twin[frames] if rng.random() < draws.twin else plain
            shaped = shaped + draw_channel(rng, draws) * (1 if rng.random() < 0.7 else 0.4)
        if rng.random() < draws.noise:
            shaped = _with_noise_floor(shaped, rng)
        shaped = np.maximum(shaped, shaped.max(axis=1, keepdims=True) - FLOOR_DB)
        shaped = shaped + rng.uniform(-15, 15)
        target = shapes_of(plain) - recording.offset
        active = recording.active[frames, None]
        return shaped.astype(np.float32), np.hstack([target, active]).astype(np.float32)


def _loudness(vectors: np.ndarray) -> float:
    return float(np.percentile(vectors.mean(axis=1), 90))


def _hiss(shape: tuple[int, int], level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Vectors of coloured noise: a tilt, and the scatter of a noise's spectrum."""
    return level_db + rng.normal(0, 2, shape) + rng.uniform(-5, 2) * OCTAVES


def _with_noise_floor(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = _hiss(vectors.shape, _loudness(vectors) - rng.uniform(12, 40), rng)
    return 10 * np.log10(10 ** (vectors / 10) + 10 ** (noise / 10))


def _noise_alone(
    n_frames: int, loudness_db: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    noise = _hiss((n_frames, K), loudness_db - rng.uniform(0, 40), rng)
    return noise.astype(np.float32), np.zeros((n_frames, K + 1), np.float32)
