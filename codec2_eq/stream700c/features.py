# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech to the records of ``c2enc 700C --mlfeat``, byte for byte: for experiments with codecs.

A record of 201 float32 a 40 ms frame: the mean; the 20 values of the shape; the 20 that the
quantiser chose; amplitudes A[0] to A[159] of the harmonics of the quantised vector with its mean.

Only A[1] to A[L] are given by the frame, L its number of harmonics. The others are what the memory
of c2enc holds there: the amplitudes of the last 10 ms frame that had so many harmonics, and before
any had, the transform of the analysis window, which was computed in the same place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import Analyser, harmonics_of_rate_k, window_transform
from codec2_eq.codec2 import FRAME_MS, HOP_MS, MAX_AMP, K
from codec2_eq.records import remove_mean
from codec2_eq.vq import Quantiser, load_codebooks

RECORD_FLOATS = 1 + K + K + MAX_AMP
"""Mean, shape, quantised shape, amplitudes."""

_STEP = FRAME_MS // HOP_MS

_FIRST_OF_WINDOW = 410
"""Where A[0] lies in the transform of the window: compared with the c2enc of codec2 1.0.5."""


class FeatureStream:
    """Stream of mono 8 kHz speech to records; the same for any division into blocks."""

    def __init__(self) -> None:
        self._analyser = Analyser(1, harmonics=True, linear=True)
        self._quantiser = Quantiser(load_codebooks("700c"))
        self._held = self._analyser.process(np.empty(0, np.float32))  # of an incomplete frame
        window = window_transform()
        self._left = window[_FIRST_OF_WINDOW : _FIRST_OF_WINDOW + MAX_AMP]

    def process(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the records (n, RECORD_FLOATS) that these samples, in int16's scale, complete."""
        new = self._analyser.process(samples)
        hops = [np.concatenate(parts) for parts in zip(self._held, new, strict=True)]
        n_whole = len(hops[0]) // _STEP * _STEP
        self._held = tuple(part[n_whole:] for part in hops)
        vectors, _, wo, n_harm, _, amplitudes = (part[:n_whole] for part in hops)
        picked = slice(_STEP - 1, None, _STEP)
        mean, shapes = remove_mean(vectors[picked])
        quantised = self._quantiser.quantise(shapes)[0]
        decoded = harmonics_of_rate_k(quantised + mean[:, None], wo[picked], n_harm[picked])
        records = np.empty((len(mean), RECORD_FLOATS), np.float32)
        records[:, 0] = mean
        records[:, 1 : 1 + K] = shapes
        records[:, 1 + K : 1 + K + K] = quantised
        records[:, -MAX_AMP:] = self._remember(n_harm, amplitudes)[picked]
        _overwrite(records[:, 1 - MAX_AMP :], decoded, n_harm[picked])
        return records

    def _remember(
        self, n_harm: NDArray[np.int32], amplitudes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what A holds after each hop: what each wrote over what was left before."""
        n_hops, n_written = amplitudes.shape
        values = np.tile(self._left, (n_hops + 1, 1))
        _overwrite(values[1:, 1:], amplitudes, n_harm)
        hop = np.arange(1, n_hops + 1)[:, None]
        wrote = np.arange(1, n_written + 1) <= n_harm[:, None]
        last = np.maximum.accumulate(np.where(wrote, hop, 0), axis=0)
        kept = values[1:].copy()
        kept[:, 1 : 1 + n_written] = np.take_along_axis(values[:, 1 : 1 + n_written], last, axis=0)
        if n_hops:
            self._left = kept[-1]
        return kept


def _overwrite(
    target: NDArray[np.float32], amplitudes: NDArray[np.float32], n_harm: NDArray[np.int32]
) -> None:
    """Write the first n_harm amplitudes of each row into the target's rows."""
    n_written = amplitudes.shape[1]
    written = np.arange(n_written) < n_harm[:, None]
    target[:, :n_written][written] = amplitudes[written]
