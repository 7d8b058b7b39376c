# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kalman-CMN: a baseline of second-order statistics."""

from __future__ import annotations

import numpy as np

from codec2_eq.bench.measures import ACTIVE_RANGE_DB, Floats, shapes_of
from codec2_eq.bench.shaping import OCTAVES
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB

# Mean canonical offset of the training recordings; generator:
# np.mean([r.offset for r in training.data.load(features)], axis=0).
AVERAGE_OFFSET_DB = np.array(
    [
        8.0,
        6.4,
        3.9,
        1.4,
        -0.3,
        -1.3,
        -2.1,
        -1.7,
        -1.8,
        -2.2,
        -2.3,
        -2.7,
        -2.4,
        -1.9,
        -2.3,
        -2.2,
        -0.7,
        0.3,
        -4.2,
        8.0,
    ]
)
CHANNEL_SD_DB = 6.0  # found best on the validation speech, as is the reach
CHANNEL_REACH_BANDS = 4.0


class KalmanMean:
    """Kalman-CMN: the best linear estimate of the channel, with full covariances.

    The channel is constant with covariance `prior`, speech about its mean has covariance
    `speech`, and active frames of it count as independent once every `spacing` frames.
    A baseline: what can be had without learning more than second-order statistics.
    """

    def __init__(
        self, speech: np.ndarray, prior: np.ndarray, start: np.ndarray, *, spacing: float = 4.0
    ):
        self._noise = np.asarray(speech, np.float64) * spacing
        self._prior = np.asarray(prior, np.float64)
        self._start = np.asarray(start, np.float64)

    @classmethod
    def from_codebook(cls) -> KalmanMean:
        """Speech as the 700C codebook spreads it, channels smooth over some 4 bands."""
        from codec2_eq.codec2.library import codebook_700c

        speech = sum(np.cov(stage.T) for stage in codebook_700c())
        bands = np.arange(len(AVERAGE_OFFSET_DB))
        reach = (bands[:, None] - bands) / CHANNEL_REACH_BANDS
        prior = CHANNEL_SD_DB**2 * np.exp(-0.5 * np.square(reach))
        prior += (CHANNEL_SD_DB / 2) ** 2 * np.outer(OCTAVES, OCTAVES) + 0.5 * np.eye(len(bands))
        return cls(np.asarray(speech), prior, AVERAGE_OFFSET_DB)

    def __call__(self, vectors: Floats) -> Floats:
        """Whole file from a cold start: (n, K) dB to shapes (n, K) dB."""
        shapes = shapes_of(vectors).astype(np.float64)
        levels = vectors.mean(axis=1)
        channel, covariance = self._start.copy(), self._prior.copy()
        out = np.empty_like(shapes)
        peak = -np.inf
        for i, shape in enumerate(shapes):
            peak = max(peak - 0.02, levels[i])
            if levels[i] > peak - ACTIVE_RANGE_DB:
                gain = np.linalg.solve((covariance + self._noise).T, covariance.T).T
                channel += gain @ (shape - CODEBOOK_MEAN_DB - channel)
                covariance -= gain @ covariance
            out[i] = shape - channel
        return shapes_of(out.astype(np.float32))
