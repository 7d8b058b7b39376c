# SPDX-License-Identifier: LGPL-2.1-or-later
"""The level of 700C frames: what the decoder makes of a vector, and which energy step to send.

700C sends the level of a frame as the mean of its rate-K vector in dB, which is not its energy: a
shape with one strong band is louder than a flat one of the same mean. The quantiser flattens some
shapes and sharpens others, and the decoder's post filter follows; so the step is chosen from what
the decoder will do.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import band_centres_hz
from codec2_eq.audiofilter._level_control import LevelControl
from codec2_eq.codec2 import LONGEST_PERIOD, SHORTEST_PERIOD
from codec2_eq.codec2.library import energy_codebook
from codec2_eq.errors import Codec2EqError
from codec2_eq.stream700c._decoded_level import filter_shapes, frame_levels

Floats = NDArray[np.floating]

LEVEL_MODES = ("keep", "auto")

TARGET_DB = 36.0
TOLERANCE_DB = 4.0
"""Where speech is brought to, and how near to it speech stays as it is: a movement costs more."""

RISE_DB_PER_S = 60.0
"""How fast quiet speech is brought up: if it jumps, words are lost; if it creeps, H rises."""

_POST_FILTER_GAIN = 1.5  # codec2 newamp1
_POST_FILTER_PIVOT_HZ = 300.0  # where its pre-emphasis of 20 dB a decade begins; codec2 newamp1
_NYQUIST_HZ = 4000.0
_PITCH_CODES = 64
_UNVOICED_PERIOD = 100.0  # samples, of the harmonics that make up an unvoiced frame; newamp1


def post_filter(quantised: Floats) -> NDArray[np.float32]:
    """Return (n, 20) shapes in dB as the decoder's post filter leaves them.

    It raises formants and lowers valleys and keeps the power of the pre-emphasised spectrum.
    Source: Codec 2, post_filter_newamp1.
    """
    return filter_shapes(
        np.ascontiguousarray(quantised, dtype=np.float32), _emphasis_db(), _POST_FILTER_GAIN
    )


def decoded_level_db(
    filtered: NDArray[np.float32], mean_db: Floats, pitch_codes: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Return the power of each frame's harmonics as a 700C decoder rebuilds them, (n,) in dB.

    filtered : (n, 20) dB, shapes, after `post_filter` if a decoder makes them
    mean_db : (n,) dB, the level that is sent with them
    pitch_codes : (n,) from `encode_pitch`: 0 is unvoiced

    Source: Codec 2, newamp1_indexes_to_rate_K_vec and resample_rate_L.
    """
    return frame_levels(
        filtered, np.ascontiguousarray(mean_db, dtype=np.float32), pitch_codes, *_harmonic_tables()
    )


def level_correction_db(
    shapes: NDArray[np.float32], quantised: NDArray[np.float32], pitch_codes: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Return what to add to the mean so that a quantised frame is as loud as its shape, (n,) dB.

    shapes : (n, 20) dB, as they are to be heard
    quantised : (n, 20) dB, what the quantiser made of them; the decoder's post filter follows
    """
    filtered = post_filter(quantised)
    level_db = np.full(len(shapes), TARGET_DB, dtype=np.float32)
    wanted = decoded_level_db(shapes, level_db, pitch_codes)
    correction = np.zeros(len(wanted), dtype=np.float32)
    # The decoder ties the spectrum to 0 dB at 0 and 4 kHz, so level and mean do not quite rise
    # together: the second round catches what the first left.
    for _ in range(2):
        correction += wanted - decoded_level_db(filtered, level_db + correction, pitch_codes)
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
        firsts[code, : len(first)] = first
        weights[code, : len(first)] = weight
    return counts, firsts, weights


def _decoded_period(pitch_code: int) -> float:
    """Return the pitch period in samples that a decoder takes from a code."""
    if pitch_code == 0:
        return _UNVOICED_PERIOD
    return LONGEST_PERIOD * (SHORTEST_PERIOD / LONGEST_PERIOD) ** (pitch_code / _PITCH_CODES)


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


def level_control(step: int = 1) -> LevelControl:
    """Return the control of an encoder's energies, of which `step` frames come in 40 ms."""
    return LevelControl(
        TARGET_DB, tolerance_db=TOLERANCE_DB, rise_db_per_s=RISE_DB_PER_S, step=step
    )


class LevelGains:
    """Gains for the energies of one stream's frames, block by block.

    mode : "keep", none, or "auto", those of `LevelControl`
    step : frames heard for each that is settled
    look_ahead : settled frames whose own are heard before the gain of one is settled
    """

    def __init__(self, mode: str, step: int, look_ahead: int) -> None:
        if mode not in LEVEL_MODES:
            raise Codec2EqError(f"level {mode!r}", f"choose one of {', '.join(LEVEL_MODES)}")
        self._control = level_control(step) if mode == "auto" else None
        self._look_ahead = look_ahead
        self._gains_db = np.zeros(1)  # after the frames from the next to be settled on

    def hear(self, mean_db: NDArray[np.float32], voiced: NDArray[np.bool_]) -> None:
        """Hear the next frames, (n step,)."""
        if self._control is not None:
            gains_db = self._control.process(mean_db, voiced)
            self._gains_db = np.append(self._gains_db, gains_db)

    def settle(self, n: int) -> NDArray[np.float64]:
        """Return the gains of the next n frames, (n,) dB."""
        last = len(self._gains_db) - 1
        settled = self._gains_db[np.minimum(np.arange(1, n + 1) + self._look_ahead, last)]
        self._gains_db = self._gains_db[min(n, last) :]
        return settled


def nearest_steps(energy_db: Floats) -> NDArray[np.int64]:
    """Return the indexes of the nearest energy steps, the lower of two as near, (n,) 0..15.

    Source: Codec 2, quantise, in float32.
    """
    difference = energy_levels_db() - np.asarray(energy_db, dtype=np.float32)[:, None]
    return np.argmin(np.square(difference), axis=1)


@functools.cache
def energy_levels_db() -> NDArray[np.float32]:
    """Return the energy steps of 700C, (16,) dB, ascending."""
    return energy_codebook()
