# SPDX-License-Identifier: LGPL-2.1-or-later
"""Levels of the samples that come in: channels that cancel, clipping, what is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import FULL_SCALE
from codec2_eq.errors import Codec2EqError

CLIPPED_SHARE = 0.001
"""Share of samples at full scale that is worth a warning; normalised recordings stay below."""

CANCELLED_SHARE = 0.01
"""Power of the mean of channels over theirs, below which they cancel each other: -20 dB."""

MOST_FULL_SCALES = 1_000_000
"""Float samples beyond this many times full scale are no sound: the analysis would overflow."""

CLIP = 32767
"""Magnitude of a clipped sample: the largest int16."""

_MOST = MOST_FULL_SCALES * FULL_SCALE


class Mixer:
    """Mean of channels, and how much of their power is left in it."""

    def __init__(self) -> None:
        self._mixed = 0.0
        self._apart = 0.0

    def mix(self, block: NDArray[Any]) -> NDArray[np.float32]:
        """Return the mean of the channels of a block (n, channels).

        One channel is added after another, so that a sample's value does not depend on where its
        block begins and ends, as the order within numpy's own sum may.
        """
        mixed = block[:, 0].astype(np.float32)
        n_channels = block.shape[1]
        if n_channels == 1:
            return mixed
        apart = np.dot(mixed, mixed)
        for index in range(1, n_channels):
            channel = block[:, index].astype(np.float32)
            apart += np.dot(channel, channel)
            mixed += channel
        mixed /= np.float32(n_channels)
        self._apart += float(apart) / n_channels
        self._mixed += float(np.dot(mixed, mixed))
        return mixed

    @property
    def loss_db(self) -> float:
        """Power of the mean over that of the channels, dB."""
        return 10 * float(np.log10(max(self._mixed / self._apart, 1e-10)))

    @property
    def cancels(self) -> bool:
        """Whether hardly any power is left."""
        return self._mixed < CANCELLED_SHARE * self._apart


class LevelMonitor:
    """Refuses samples that are not finite numbers; counts those at full scale."""

    def __init__(self, name: str, rate: float) -> None:
        self.name = name
        self.rate = rate
        self.n_frames = 0
        self.n_samples = 0
        self.n_clipped = 0
        self.peak = 0.0

    def check(self, block: NDArray[Any]) -> None:
        """Look at a block (n, channels) or (n,) of the chosen channels, int16 or float32."""
        low, high = float(block.min()), float(block.max())  # NaN if any sample is
        if block.dtype != np.int16 and not (low >= -_MOST and high <= _MOST):
            self._refuse(block)
        if high >= CLIP or low <= -CLIP:
            self.n_clipped += int(np.count_nonzero((block >= CLIP) | (block <= -CLIP)))
        self.peak = max(self.peak, high, -low)
        self.n_frames += len(block)
        self.n_samples += block.size

    def _refuse(self, block: NDArray[Any]) -> None:
        first = int(np.argmin((np.abs(block) <= _MOST).all(axis=1)))
        finite = np.isfinite(block[first]).all()
        what = f"over {MOST_FULL_SCALES:,} times full scale" if finite else "NaN or infinite"
        frame = self.n_frames + first
        raise Codec2EqError(
            self.name,
            f"sample {frame} (at {frame / self.rate:.3f} s) is {what}",
            "only finite samples can be processed, repair or cut the recording",
        )

    def warnings(self) -> Iterator[str]:
        """Yield a warning if the recording seems clipped or wrongly scaled."""
        if self.peak > 16 * FULL_SCALE:
            yield (
                f"float samples reach {self.peak / FULL_SCALE:.0f} times full scale; "
                "1.0 is full scale, scale them down if they were made from integers"
            )
        elif self.n_clipped > CLIPPED_SHARE * self.n_samples:
            yield (
                f"{self.n_clipped / self.n_samples:.1%} of the samples are at full "
                "scale or beyond; the recording seems clipped, which distorts its spectra"
            )
