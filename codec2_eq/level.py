# SPDX-License-Identifier: LGPL-2.1-or-later
"""The level of 700C frames: what the decoder makes of a vector, and which energy step to send.

700C sends the level of a frame as the mean of its rate-K vector in dB, which is not its energy: a
shape with one strong band is louder than a flat one of the same mean. When an equaliser changes
the shape, the same mean decodes to another loudness, so the step is chosen from what the decoder
will do.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import band_centres_hz
from codec2_eq.decoded_level import frame_levels
from codec2_eq.errors import Codec2EqError
from codec2_eq.level_control import TARGET_DB, LevelControl
from codec2_eq.libcodec2 import energy_codebook

Floats = NDArray[np.floating]

LEVEL_MODES = ("keep", "auto")

SHORTFALL_DB = 0.75
"""How much too quiet a frame may become whose energy is beyond the top step: hardly heard."""

_POST_FILTER_GAIN = 1.5  # codec2 newamp1
_POST_FILTER_PIVOT_HZ = 300.0  # where its pre-emphasis of 20 dB a decade begins; codec2 newamp1
_NYQUIST_HZ = 4000.0
_PITCH_CODES = 64
_SHORTEST_PERIOD, _LONGEST_PERIOD = 20.0, 160.0  # samples; codec2 P_MIN_S, P_MAX_S
_UNVOICED_PERIOD = 100.0  # samples, of the harmonics that make up an unvoiced frame; newamp1


def decoded_level_db(quantised: Floats, mean_db: Floats, pitch_codes: NDArray[np.uint8],
                     ) -> NDArray[np.float32]:
    """Return the power of each frame's harmonics as a 700C decoder rebuilds them, (n,) in dB.

    quantised : (n, 20) dB, sums of entries of the codebooks
    mean_db : (n,) dB, the level that is sent with them
    pitch_codes : (n,) from `encode_pitch`: 0 is unvoiced
    The post filter, on in every stock decoder, is part of it.

    Source: Codec 2, newamp1_indexes_to_rate_K_vec and resample_rate_L.
    """
    return frame_levels(np.ascontiguousarray(quantised, dtype=np.float32),
                        np.ascontiguousarray(mean_db, dtype=np.float32),
                        np.ascontiguousarray(pitch_codes, dtype=np.uint8),
                        _emphasis_db(), _POST_FILTER_GAIN, *_harmonic_tables())


def level_correction_db(plain: Floats, equalised: Floats, mean_db: Floats,
                        pitch_codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what to add to the mean so that an equalised frame decodes as loud as before, (n,) dB.

    plain, equalised : (n, 20) dB, what the quantiser made of a frame without and with equaliser
    mean_db : (n,) dB, means of the unequalised vectors, within the range of the energy steps
    """
    wanted = decoded_level_db(plain, mean_db, pitch_codes)
    correction = np.zeros(len(wanted), dtype=np.float32)
    # The decoder ties the spectrum to 0 dB at 0 and 4 kHz, so level and mean do not quite rise
    # together: the second round catches what the first left.
    for _ in range(2):
        correction += wanted - decoded_level_db(equalised, mean_db + correction, pitch_codes)
    return correction


@functools.cache
def _emphasis_db() -> NDArray[np.float32]:
    """Return the post filter's pre-emphasis at each band; codec2 post_filter_newamp1."""
    return (20 * np.log10(band_centres_hz() / _POST_FILTER_PIVOT_HZ)).astype(np.float32)


@functools.cache
def _harmonic_tables() -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return for each pitch code the number of harmonics, their first points, their weights."""
    parts = [harmonic_weights(_decoded_period(code)) for code in range(_PITCH_CODES)]
    counts = np.array([len(first) for first, _ in parts], dtype=np.int32)
    firsts = np.zeros((_PITCH_CODES, counts.max()), dtype=np.int32)
    weights = np.zeros((_PITCH_CODES, counts.max(), 3), dtype=np.float32)
    for code, (first, weight) in enumerate(parts):
        firsts[code, :len(first)] = first
        weights[code, :len(first)] = weight
    return counts, firsts, weights


def _decoded_period(pitch_code: int) -> float:
    """Return the pitch period in samples that a decoder takes from a code."""
    if pitch_code == 0:
        return _UNVOICED_PERIOD
    return _LONGEST_PERIOD * (_SHORTEST_PERIOD / _LONGEST_PERIOD) ** (pitch_code / _PITCH_CODES)


def harmonic_weights(period: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how a decoder interpolates the harmonics of a pitch from a rate-K vector, in dB.

    period : of the pitch, in samples
    The vector stands between two points of 0 dB, at 0 and 4 kHz: 22 points. Each harmonic is on
    a parabola through three of them; for one pitch that is linear in the points.
    Returns the first of the three points, (n_harmonics,), and the weights, (n_harmonics, 3).

    Source: Codec 2, resample_rate_L and interp_para.
    """
    wanted_hz = 2 * _NYQUIST_HZ / period * np.arange(1, int(period / 2) + 1)
    given_hz = np.concatenate([[0.0], band_centres_hz().astype(np.float64), [_NYQUIST_HZ]])
    first = np.searchsorted(given_hz[1:], wanted_hz).clip(0, len(given_hz) - 3)
    left, middle, right = (given_hz[first + i] for i in range(3))
    offset, low, high = wanted_hz - middle, middle - left, right - middle
    from_left = offset * (high - offset) / (low + high) / low
    from_right = offset * (low + offset) / (low + high) / high
    return first, np.stack([-from_left, 1 + from_left - from_right, from_right], axis=1)


class EnergyChooser:
    """Chooses the energy step of each frame of one stream.

    mode : "keep", the level as it is, or "auto", see `LevelControl`
    equalised : whether an equaliser changes the shapes, so that the loudness must be seen to;
        if not, "keep" is exactly Codec 2's choice
    """

    def __init__(self, mode: str, *, equalised: bool) -> None:
        if mode not in LEVEL_MODES:
            raise Codec2EqError(f"level {mode!r}: choose one of {', '.join(LEVEL_MODES)}")
        self.levels_db = energy_codebook()
        self.equalised = equalised
        self._control = LevelControl() if mode == "auto" else None

    def wanted_db(self, mean_db: NDArray[np.float32], plain: Floats, quantised: Floats,
                  pitch_codes: NDArray[np.uint8]) -> Floats:
        """Return the energies with which frames decode as loud as they were, (n,) dB.

        mean_db : (n,) means of the unequalised vectors
        plain, quantised : (n, 20) what the quantiser made of the frames without and with
            equaliser; not looked at if the stream is not equalised
        """
        if not self.equalised:
            return mean_db
        if self._control is not None:  # the level will be another, there the two must match
            at_db = np.full(len(mean_db), TARGET_DB)
            return mean_db + level_correction_db(plain, quantised, at_db, pitch_codes)
        # to keep the loudness is to keep that of the stock encoder, with the range of its steps
        mean_db = np.clip(mean_db, self.levels_db[0], self.levels_db[-1])
        return mean_db + level_correction_db(plain, quantised, mean_db, pitch_codes)

    def out_of_reach(self, wanted_db: Floats) -> NDArray[np.bool_]:
        """Return which frames should be kept as loud as they were, but the steps end below."""
        if self._control is not None or not self.equalised:
            return np.zeros(len(wanted_db), dtype=bool)
        return wanted_db > self.levels_db[-1] + SHORTFALL_DB

    def choose(self, wanted_db: Floats, pitch_codes: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the energy indexes of the next frames, (n,) 0..15, of their wanted energies."""
        if self._control is not None:
            wanted_db = wanted_db + self._control.process(wanted_db, pitch_codes > 0)
        # the nearest step, the lower of two as near; codec2 quantise, in float32
        difference = self.levels_db - np.asarray(wanted_db, dtype=np.float32)[:, None]
        return np.argmin(np.square(difference), axis=1)
