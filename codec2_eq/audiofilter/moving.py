# SPDX-License-Identifier: LGPL-2.1-or-later
"""A filter whose gain moves: block by block in the frequency domain, without a click."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audiofilter.response import MinimumPhase

FADE_S = 0.04
"""Time in which it fades from one response to the next: a frame of 700C [s]."""

BLOCKS_PER_FADE = 4
"""Blocks of a fade, each an even number of samples: the filter hands samples on in blocks."""

STEP_DB = 0.25
"""A gain that moved by less than this at every band stays: that is inaudible, and faster."""

Floats = NDArray[np.float32]


class MovingFilter:
    """Filters all channels alike by a gain that is given anew for each fade.

    rate : sample rate in Hz;  channels : their number
    gain_db : (N_POINTS,) dB, what it starts from;  blocks_per_fade : 1 is fastest, more wait less
    block, fade : samples of a block and of a fade

    Holds the last samples in and the two responses that it fades between; any number of blocks
    at a time gives the same bits.
    """

    def __init__(
        self,
        rate: float,
        channels: int,
        gain_db: NDArray[Any],
        blocks_per_fade: int = BLOCKS_PER_FADE,
    ) -> None:
        self.block = 2 * round(rate * FADE_S / blocks_per_fade / 2)
        self.fade = blocks_per_fade * self.block
        self._blocks_per_fade = blocks_per_fade
        self._design = MinimumPhase(rate, self.block)
        self._before = np.zeros((channels, self._design.n_taps - 1), np.float32)
        self._gain_db = gain_db
        self._response = self._design.spectra(self._gain_db[None])[0]
        self._old = self._response  # what it fades from
        self._n_blocks = 1  # a fade begins with the last block of a frame, which then is known
        ramp = np.arange(self.fade, dtype=np.float32) / np.float32(self.fade)
        self._ramps = ramp.reshape(self._blocks_per_fade, self.block)

    def fades_begun_by(self, n_blocks: int) -> int:
        """Return how many fades begin within the next n_blocks."""
        return -(-(self._n_blocks + n_blocks) // self._blocks_per_fade) - -(
            -self._n_blocks // self._blocks_per_fade
        )

    def process(self, samples: Floats, gains_db: NDArray[Any]) -> Floats:
        """Filter whole blocks: samples (channels, n_blocks * block), the same shape returned.

        gains_db : (n, N_POINTS) dB, one for each of the fades that begin in these blocks
        """
        n_blocks = samples.shape[1] // self.block
        if not n_blocks:
            return samples
        spectra = self._spectra(samples)
        begun = self._n_blocks % self._blocks_per_fade
        if not len(gains_db) and self._old is self._response:  # at rest
            self._n_blocks += n_blocks
            return self._convolved(spectra, self._response).reshape(samples.shape)
        responses, which = self._take(gains_db, begun=begun > 0)
        turns = begun + np.arange(n_blocks)
        self._n_blocks += n_blocks
        fades = turns // self._blocks_per_fade
        old, new = which[fades], which[fades + 1]
        out = self._convolved(spectra, responses[new])
        moving = np.flatnonzero(old != new)
        if len(moving):
            faded_out = self._convolved(spectra[:, moving], responses[old[moving]])
            ramps = self._ramps[turns[moving] % self._blocks_per_fade]
            out[:, moving] = faded_out + ramps * (out[:, moving] - faded_out)
        return out.reshape(samples.shape)

    def _take(
        self, gains_db: NDArray[Any], *, begun: bool
    ) -> tuple[NDArray[np.complex64], NDArray[np.intp]]:
        """Return responses, and which is the one before the first fade, and at the end of each."""
        known = [self._response]
        which = [0] * (1 + begun)
        if begun and self._old is not self._response:
            known, which = [self._old, self._response], [0, 1]
        moved = []
        for gain_db in gains_db:
            if np.abs(gain_db - self._gain_db).max() >= STEP_DB:
                self._gain_db = gain_db
                moved.append(gain_db)
            which.append(len(known) - 1 + len(moved))
        fresh = [self._design.spectra(np.array(moved))] if moved else []
        responses = np.concatenate([np.array(known), *fresh])
        if len(which) > 1:
            self._response = responses[which[-1]].copy()
            rests = which[-1] == which[-2]
            self._old = self._response if rests else responses[which[-2]].copy()
        return responses, np.array(which)

    def _spectra(self, samples: Floats) -> NDArray[np.complex64]:
        """Return the spectra of the blocks, each with the samples before it."""
        n_before = self._before.shape[1]
        line = np.concatenate([self._before, samples], axis=1)
        self._before = line[:, -n_before:].copy()
        windows = np.ndarray(  # as sliding_window_view, which takes longer than a block's transform
            (len(line), samples.shape[1] // self.block, n_before + self.block),
            line.dtype,
            line,
            strides=(line.strides[0], self.block * line.itemsize, line.itemsize),
        )
        return np.fft.rfft(windows, self._design.n_fft).astype(np.complex64, copy=False)

    def _convolved(
        self, spectra: NDArray[np.complex64], responses: NDArray[np.complex64]
    ) -> Floats:
        """Return blocks (channels, n, block) by overlap and save."""
        n_before = self._before.shape[1]
        whole = np.fft.irfft(spectra * responses, self._design.n_fft)
        return whole[..., n_before : n_before + self.block].astype(np.float32, copy=False)
