# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peaks that full scale has cut off, restored from the samples around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.levels import CLIP

BACK_S, AHEAD_S = 0.016, 0.003
"""What a run of clipped samples is predicted from, before and after it [s]."""

LONGEST_S = 0.003
"""Longest run that is restored [s]: a peak of a voice, with little lost."""


class Declipper:
    """Stream of samples at `rate` Hz, in the scale of int16, with clipped peaks restored.

    Those at full scale are raised by up to 6 dB; all others stay as they are. From a clipped sample
    on they wait for 3 ms after its run; the result does not depend on the division into blocks.
    """

    def __init__(self, rate: float) -> None:
        self._back, self._ahead, self._longest = (
            round(seconds * rate) for seconds in (BACK_S, AHEAD_S, LONGEST_S)
        )
        self._held = np.zeros(self._back, np.float32)  # what is before the next sample to come out

    def process(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples (n,), n >= 0; return those that are settled (m,)."""
        held = np.concatenate([self._held, samples])
        settled = len(held)
        if len(held) > self._back and max(held.max(), -held.min()) >= CLIP:
            from codec2_eq.audio._declip import restore  # few recordings are clipped

            settled = restore(
                held, self._back, back=self._back, ahead=self._ahead, longest=self._longest
            )
        self._held = held[settled - self._back :].copy()
        return held[self._back : settled]

    def flush(self) -> NDArray[np.float32]:
        """Return the samples still held at the end of the input."""
        n_left = len(self._held) - self._back
        return self.process(np.zeros(self._ahead, np.float32))[:n_left]


def declipped(blocks: Iterable[NDArray[np.float32]], rate: float) -> Iterator[NDArray[np.float32]]:
    """Restore the clipped peaks of blocks (n,) at `rate` Hz as they come."""
    declipper = Declipper(rate)
    yield from map(declipper.process, blocks)
    yield declipper.flush()
