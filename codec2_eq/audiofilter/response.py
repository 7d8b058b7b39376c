# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a gain at the 20 bands to the spectrum of a short minimum-phase filter, at any rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import band_centres_hz
from codec2_eq.codec2 import K
from codec2_eq.equalisers._affine import affine

TAPS_S = 0.025
"""Length of the filters [s]: bands 60 Hz apart, as the lowest are, need 17 ms."""

FADED_SHARE = 0.25
"""Share of the taps, the last ones, over which the response is faded out."""

UNLIFTED_HZ = 120.0
"""Up to here no gain is above 0 dB [Hz]: DC, hum of 50 and 60 Hz, and its first harmonics."""

N_POINTS = K + 1
"""Points that give a gain: UNLIFTED_HZ and the bands."""

_OVERSAMPLING = 8  # of the spectrum, so that the cepstrum's aliasing stays below 0.01 dB
_NEPER_PER_DB = np.log(10) / 20

Spectra = NDArray[np.complex64]


class MinimumPhase:
    """Designs filters of least delay for one sample rate.

    rate : sample rate in Hz
    span : samples of one block that is to be filtered, see `MovingFilter`
    n_taps : length of the filters in samples;  n_fft : points of the transform for such a block

    The gain is a straight line over Hz from point to point, and held beyond them. The cepstrum of
    a gain in dB, folded onto positive time, is that of the minimum-phase filter with this gain;
    all that is linear, so the complex logarithm of any filter is a sum of a table's rows, one for
    each point.
    Source: Oppenheim and Schafer, Discrete-Time Signal Processing, homomorphic systems.
    """

    def __init__(self, rate: float, span: int) -> None:
        self.n_taps = round(rate * TAPS_S)
        self.n_fft = _smooth_even(span + self.n_taps - 1)
        n_fine = _OVERSAMPLING * self.n_fft
        given_hz = np.array([UNLIFTED_HZ, *band_centres_hz()])
        fine_hz = np.fft.rfftfreq(n_fine, 1 / rate)
        tents = [np.interp(fine_hz, given_hz, unit) for unit in np.eye(len(given_hz))]
        cepstra = np.fft.irfft(np.array(tents) * _NEPER_PER_DB)
        cepstra[:, 1 : n_fine // 2] *= 2
        cepstra[:, n_fine // 2 + 1 :] = 0
        logs = np.fft.rfft(cepstra)[:, ::_OVERSAMPLING]
        self._table = np.ascontiguousarray(np.hstack([logs.real, logs.imag]), np.float32)
        self._zeros = np.zeros(self._table.shape[1], np.float32)
        n_faded = round(self.n_taps * FADED_SHARE)
        fade = np.cos(np.linspace(0, np.pi / 2, n_faded)) ** 2
        self._window = np.append(np.ones(self.n_taps - n_faded), fade).astype(np.float32)

    def spectra(self, gains_db: NDArray[Any]) -> Spectra:
        """Return the spectra (n, n_fft // 2 + 1) of the filters for gains (n, N_POINTS), dB."""
        logs = affine(np.ascontiguousarray(gains_db, np.float32), self._table, self._zeros)
        n_bins = logs.shape[1] // 2
        spectra = np.exp(logs[:, :n_bins]) * np.exp(1j * logs[:, n_bins:])
        taps = np.fft.irfft(spectra, self.n_fft)[:, : self.n_taps].astype(np.float32)
        return np.fft.rfft(taps * self._window, self.n_fft).astype(np.complex64)


def gain_points(curves_db: NDArray[Any], level_db: NDArray[Any]) -> NDArray[np.float32]:
    """Return the gains (n, N_POINTS) that take curves (n, K) off and raise all by (n,) dB."""
    lowest = np.minimum(-curves_db[:, :1], 0)
    return (np.hstack([lowest, -curves_db]) + level_db[:, None]).astype(np.float32)


def _smooth_even(least: int) -> int:
    """Return the next even number without prime factors beyond 5, for which FFTs are quick."""
    number = least + least % 2
    while True:
        rest = number
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return number
        number += 2
