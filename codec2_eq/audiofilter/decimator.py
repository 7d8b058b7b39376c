# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a multiple of 8 kHz down to 8 kHz without waiting: what is heard live must not come late."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import RATE_HZ, SAMPLES_PER_FRAME

HALF_S = 0.003
"""Half the filter's length, by which its output is late [s]: 60 dB from 3.7 to 4.3 kHz."""

STOP_BAND_DB = 60.0
TOGETHER = 16  # samples out of one row of the table
ROWS = SAMPLES_PER_FRAME // TOGETHER
"""Rows of one product, always the same: for other numbers BLAS sums in another order."""

Floats = NDArray[np.float32]


class Decimator:
    """Takes every `factor`-th sample of a low-passed stream; any division gives the same bits.

    Source of the window: Kaiser, Nonrecursive digital filter design, 1974.
    """

    def __init__(self, factor: int) -> None:
        half = round(HALF_S * RATE_HZ * factor)
        beta = 0.1102 * (STOP_BAND_DB - 8.7)
        low_pass = np.sinc(np.arange(-half, half + 1) / factor) * np.kaiser(2 * half + 1, beta)
        low_pass /= low_pass.sum()
        table = np.zeros((len(low_pass) + (TOGETHER - 1) * factor, TOGETHER), np.float32)
        for i in range(TOGETHER):
            table[i * factor : i * factor + len(low_pass), i] = low_pass
        self._table = table
        self._step = TOGETHER * factor
        self._line = np.zeros(len(low_pass) - 1, np.float32)

    def process(self, samples: Floats) -> Floats:
        """Take the next samples (n,); return the 40 ms that are ready."""
        line = np.concatenate([self._line, samples])
        shape = ROWS, len(self._table)
        needed = (ROWS - 1) * self._step + len(self._table)
        starts = range(0, len(line) - needed + 1, ROWS * self._step)
        self._line = line[len(starts) * ROWS * self._step :]
        strides = self._step * line.itemsize, line.itemsize
        windows = [np.ndarray(shape, line.dtype, line, i * line.itemsize, strides) for i in starts]
        parts = [(window @ self._table).reshape(-1) for window in windows]
        return np.concatenate([samples[:0], *parts])
