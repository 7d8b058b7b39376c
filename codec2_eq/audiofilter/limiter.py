# SPDX-License-Identifier: LGPL-2.1-or-later
"""A limiter that sees a peak before it comes, and never clips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import FULL_SCALE

CEILING = np.float32(0.98 * FULL_SCALE)
"""No sample comes out larger."""

RELEASE_DB_PER_S = 60.0
"""How fast the gain comes back: a vowel's peaks share one gain, the next word has its own."""

Floats = NDArray[np.float32]


class Limiter:
    """Turns all channels down alike where one of them would be too loud.

    block : samples over which the gain is a straight line;  rate : sample rate in Hz
    Of a block only the peak counts; the gain at the border of two blocks is the smaller of what
    they need, so that a straight line between borders is never above it. Looks one block ahead,
    and holds that one and what is of the next.
    """

    def __init__(self, block: int, rate: float, channels: int) -> None:
        self.block = block
        self._held = np.zeros((channels, 0), np.float32)
        self._gain = 1.0  # at the border before the held samples
        self._release = 10 ** (RELEASE_DB_PER_S * block / rate / 20)
        self._ramp = np.arange(self.block, dtype=np.float32) / np.float32(self.block)

    def process(self, samples: Floats) -> Floats:
        """Take the next samples (channels, n); return those whose gain is known."""
        line = np.concatenate([self._held, samples], axis=1)
        n_blocks = line.shape[1] // self.block
        n_done = max(n_blocks - 1, 0) * self.block
        self._held = line[:, n_done:].copy()
        return self._limit(line[:, :n_done], line[:, : n_blocks * self.block])

    def flush(self) -> Floats:
        """Return what is held."""
        n_held = self._held.shape[1]
        n_blocks = -(-n_held // self.block)
        padded = np.pad(self._held, ((0, 0), (0, (n_blocks + 1) * self.block - n_held)))
        self._held = self._held[:, :0]
        return self._limit(padded[:, : n_blocks * self.block], padded)[:, :n_held]

    def _limit(self, samples: Floats, known: Floats) -> Floats:
        """Limit whole blocks; `known` is one block longer."""
        if not samples.size:
            return samples
        if self._gain >= 1 and max(known.max(), -known.min()) <= CEILING:
            return samples
        peaks = np.abs(known).reshape(len(known), -1, self.block).max(axis=(0, 2))
        needed = np.minimum(1, CEILING / np.maximum(peaks, 1))
        gains = [min(self._gain, needed[0])]  # less only for the first of all blocks
        for border in np.minimum(needed[:-1], needed[1:]).tolist():
            gains.append(min(border, gains[-1] * self._release))
        self._gain = gains[-1]
        at = np.array(gains, np.float32)
        lines = at[:-1, None] + self._ramp * (at[1:] - at[:-1])[:, None]
        return np.clip(samples * lines.reshape(-1), -CEILING, CEILING)  # of rounding alone
