# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two equalisers of the rate-K study of Codec 2's author (2023), as streams: baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq import codec2
from codec2_eq.codec2 import FRAME_MS, K
from codec2_eq.equalisers.stream import EqualiserStream, Floats
from codec2_eq.records import remove_mean

EQ2_GAIN = 0.02  # a frame of 40 ms


class Eq1(EqualiserStream):
    """Subtracts the excess of the mean of all frames so far over the codebook's mean."""

    def __init__(self) -> None:
        self._sum = np.zeros(K)
        self._count = np.zeros(1)

    @property
    def curve_db(self) -> Floats:
        """As `EqualiserStream.curve_db`."""
        if not self._count[0]:
            return np.zeros(K, np.float32)
        return _above_codebook(self._sum / self._count).astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """As `EqualiserStream.state`."""
        return {"sum": self._sum.copy(), "count": self._count.copy()}

    def _remember(self, state: dict[str, NDArray[Any]]) -> None:
        self._sum, self._count = state["sum"], state["count"]

    def _next(self, rows: Floats) -> Floats:
        if not len(rows):
            return rows.copy()
        shapes = remove_mean(rows)[1]
        sums = np.cumsum(np.vstack([self._sum, shapes]), axis=0, dtype=np.float64)[1:]
        counts = self._count + np.arange(1, len(rows) + 1)
        self._sum, self._count = sums[-1], counts[-1:]
        curves = _above_codebook(sums / counts[:, None])
        return remove_mean((shapes - curves).astype(np.float32))[1]


def _above_codebook(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(means - codec2.CODEBOOK_MEAN_DB, 0)


class Eq2(EqualiserStream):
    """Tracks the 700C quantiser's residual, and subtracts it."""

    def __init__(self, frame_ms: int) -> None:
        from codec2_eq.codec2.library import codebook_700c
        from codec2_eq.vq.quantiser import Quantiser

        self._quantiser = Quantiser(codebook_700c())
        self._gain = np.float32(1 - (1 - EQ2_GAIN) ** (frame_ms / FRAME_MS))
        self._curve = np.zeros(K, np.float32)

    @property
    def curve_db(self) -> Floats:
        """As `EqualiserStream.curve_db`."""
        return self._curve.copy()

    def state(self) -> dict[str, NDArray[Any]]:
        """As `EqualiserStream.state`."""
        return {"curve": self._curve.copy()}

    def _remember(self, state: dict[str, NDArray[Any]]) -> None:
        self._curve = state["curve"]

    def _next(self, rows: Floats) -> Floats:
        shapes = remove_mean(rows)[1]
        for shape in shapes:
            flat = shape - self._curve
            self._curve += self._gain * (flat - self._quantiser.quantise(flat[None])[0][0])
            shape -= self._curve
        return remove_mean(shapes)[1]
