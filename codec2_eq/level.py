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
from codec2_eq.errors import Codec2EqError
from codec2_eq.libcodec2 import energy_codebook

Floats = NDArray[np.floating]

LEVEL_MODES = ("keep", "auto")

_POST_FILTER_GAIN = 1.5  # codec2 newamp1
_POST_FILTER_PIVOT_HZ = 300.0  # where its pre-emphasis of 20 dB a decade begins; codec2 newamp1
_NYQUIST_HZ = 4000.0
_PITCH_CODES = 64
_SHORTEST_PERIOD, _LONGEST_PERIOD = 20.0, 160.0  # samples; codec2 P_MIN_S, P_MAX_S
_UNVOICED_PERIOD = 100.0  # samples, of the harmonics that make up an unvoiced frame; newamp1


def decoded_level_db(quantised: Floats, mean_db: Floats, pitch_codes: NDArray[np.integer],
                     ) -> NDArray[np.float64]:
    """Return the power of each frame's harmonics as a 700C decoder rebuilds them, (n,) in dB.

    quantised : (n, 20) dB, entries of the codebook without mean
    mean_db : (n,) dB, the level that is sent with them
    pitch_codes : (n,) from `encode_pitch`: 0 is unvoiced
    The post filter, on in every stock decoder, is part of it.

    Source: Codec 2, newamp1_indexes_to_rate_K_vec and resample_rate_L.
    """
    filtered = _post_filter(np.asarray(quantised, dtype=np.float64))
    levels = np.empty(len(filtered))
    for code in np.unique(pitch_codes):
        rows = pitch_codes == code
        weights = harmonic_weights(_decoded_period(int(code)))
        harmonics_db = filtered[rows] @ weights.T
        harmonics_db += np.asarray(mean_db, dtype=np.float64)[rows, None] * weights.sum(axis=1)
        levels[rows] = _power_sum_db(harmonics_db)
    return levels


def level_correction_db(plain: Floats, equalised: Floats, mean_db: Floats,
                        pitch_codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return what to add to the mean so that an equalised frame decodes as loud as before, (n,) dB.

    plain, equalised : (n, 20) dB, what the quantiser made of a frame without and with equaliser
    mean_db : (n,) dB, means of the unequalised vectors, within the range of the energy steps
    """
    wanted = decoded_level_db(plain, mean_db, pitch_codes)
    correction = np.zeros(len(wanted))
    # The decoder ties the spectrum to 0 dB at 0 and 4 kHz, so level and mean do not quite rise
    # together: the second round catches what the first left.
    for _ in range(2):
        correction += wanted - decoded_level_db(equalised, mean_db + correction, pitch_codes)
    return correction


def _post_filter(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raise formants and lower valleys, keeping the power of the pre-emphasised spectrum.

    Source: Codec 2, post_filter_newamp1.
    """
    emphasis_db = 20 * np.log10(band_centres_hz().astype(np.float64) / _POST_FILTER_PIVOT_HZ)
    before = shapes + emphasis_db
    after = _POST_FILTER_GAIN * before
    gain_db = _power_sum_db(after) - _power_sum_db(before)
    return after - gain_db[:, None] - emphasis_db


def _decoded_period(pitch_code: int) -> float:
    """Return the pitch period in samples that a decoder takes from a code."""
    if pitch_code == 0:
        return _UNVOICED_PERIOD
    return _LONGEST_PERIOD * (_SHORTEST_PERIOD / _LONGEST_PERIOD) ** (pitch_code / _PITCH_CODES)


@functools.lru_cache(maxsize=_PITCH_CODES)
def harmonic_weights(period: float) -> NDArray[np.float64]:
    """Return the (n_harmonics, 20) matrix from a rate-K vector to its harmonics, both in dB.

    period : of the pitch, in samples
    Parabolas through three neighbouring bands, 0 dB being added at 0 and 4 kHz; for one pitch
    they are linear in the vector. Source: Codec 2, resample_rate_L and interp_para.
    """
    spacing_hz = 2 * _NYQUIST_HZ / period
    wanted_hz = spacing_hz * np.arange(1, int(period / 2) + 1)
    given_hz = np.concatenate([[0.0], band_centres_hz().astype(np.float64), [_NYQUIST_HZ]])
    first = np.searchsorted(given_hz[1:], wanted_hz).clip(0, len(given_hz) - 3)
    left, middle, right = (given_hz[first + i] for i in range(3))
    offset, low, high = wanted_hz - middle, middle - left, right - middle
    slope_low = offset * (high - offset) / (low + high) / low
    slope_high = offset * (low + offset) / (low + high) / high
    weights = np.zeros((len(wanted_hz), len(given_hz)))
    rows = np.arange(len(wanted_hz))
    weights[rows, first] = -slope_low
    weights[rows, first + 1] = 1 + slope_low - slope_high
    weights[rows, first + 2] = slope_high
    return weights[:, 1:-1]


def _power_sum_db(values_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the last axis as power, all in dB."""
    return 10 * np.log10(np.sum(np.exp(values_db * (np.log(10) / 10)), axis=-1))


# ---- level control --------------------------------------------------------------------------

TARGET_DB = 36.0
"""Where `auto` brings speech, as the level of its loud vowels. Swept on Italian and Russian
speech: at 38 over 2 % of active frames sit in the top step, at 36 under 1 %, and the bottom
step is never reached; higher would clip, lower would throw loudness away for nothing."""

GAIN_RANGE_DB = (-30.0, 30.0)

_FRAME_S = 0.04
_LEVEL_WEIGHT_DB = 20.0  # a frame counts by its amplitude: pauses and hiss hardly do
_MEMORY_S = 15.0  # of speech, after which a frame counts 1/e
_FORGET = float(np.exp(-_FRAME_S / _MEMORY_S))
_VOICED_RUN = 2  # frames: a single one is often noise
_ABOVE_NOISE_DB = 8.0  # above the quietest frame of late: steady noise and hum are not
_NOISE_SPAN = 32  # frames (1.3 s); the quietest is taken over one to two of them
_SILENCE_DB = 0.0  # mean of a frame of noise of a few quantisation steps
_ENOUGH = 5.0  # frames of speech at the present level, before which nothing moves
_SETTLED = 25.0  # frames (1 s) from which on the gain moves slowly
_FOLLOW = 2.5  # while settling, the share of the difference made up for is this over the frames
_SETTLING_STEP_DB = 0.4  # largest step when 1 s was heard, more while less was
_SETTLED_S = 2.0  # time constant, once settled
_RISE_DB_PER_S, _FALL_DB_PER_S = 2.0, 6.0  # limits, once settled: under 1 dB within a syllable


class LevelControl:
    """Causal gain on the energy of frames that brings speech to TARGET_DB and holds it there.

    Speech is what is voiced and stands out of the quietest frames of late; all else leaves the
    gain as it is. The level is the mean over speech, each frame weighted by its amplitude, and
    the evidence the sum of those weights in units of the level's own: frames of speech *at that
    level*. When a voice comes in after hiss that was taken for speech, its weights dwarf those
    before, so the evidence falls to a frame or two and the gain settles afresh. As nothing but
    differences of dB counts, the same speech at another level ends at the same one.
    """

    def __init__(self) -> None:
        self.gain_db = 0.0
        self._weights = 0.0
        self._weighted_db = 0.0
        self._voiced_run = 0
        self._quietest = [np.inf, np.inf]  # of the span before and of this one
        self._frames_in_span = 0
        self._started = False

    def process(self, energy_db: Floats, voiced: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the gain for each of the next frames, (n,) dB.

        energy_db : (n,) means that the frames would be sent with;  voiced : (n,)
        """
        frames = zip(energy_db.tolist(), voiced.tolist(), strict=True)
        return np.array([self._next(energy, is_voiced) for energy, is_voiced in frames])

    def _next(self, energy_db: float, voiced: bool) -> float:
        self._quietest[1] = min(self._quietest[1], energy_db)
        noise_db = min(self._quietest)
        self._frames_in_span += 1
        if self._frames_in_span == _NOISE_SPAN:
            self._quietest = [self._quietest[1], np.inf]
            self._frames_in_span = 0
        self._voiced_run = self._voiced_run + 1 if voiced else 0
        if self._voiced_run >= _VOICED_RUN and energy_db > max(noise_db + _ABOVE_NOISE_DB,
                                                               _SILENCE_DB):
            self._hear(energy_db)
        return self.gain_db

    def _hear(self, energy_db: float) -> None:
        weight = 10 ** (energy_db / _LEVEL_WEIGHT_DB)
        self._weights = self._weights * _FORGET + weight
        self._weighted_db = self._weighted_db * _FORGET + weight * energy_db
        level_db = self._weighted_db / self._weights
        evidence = self._weights / 10 ** (level_db / _LEVEL_WEIGHT_DB)
        if evidence < _ENOUGH:
            return
        low, high = GAIN_RANGE_DB
        missing_db = min(max(TARGET_DB - level_db, low), high) - self.gain_db
        if self._started:
            limit = _SETTLING_STEP_DB * (_SETTLED / evidence) ** 2
            missing_db *= max(min(1.0, _FOLLOW / evidence), _FRAME_S / _SETTLED_S)
            missing_db = min(max(missing_db, -max(limit, _FALL_DB_PER_S * _FRAME_S)),
                             max(limit, _RISE_DB_PER_S * _FRAME_S))
        self._started = True
        self.gain_db += missing_db


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

    def choose(self, mean_db: NDArray[np.float32], plain: Floats, quantised: Floats,
               pitch_codes: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the energy indexes of the next frames, (n,) 0..15.

        mean_db : (n,) means of the unequalised vectors
        plain, quantised : (n, 20) what the quantiser made of the frames without and with
            equaliser; not looked at if the stream is not equalised
        """
        if self._control is None and not self.equalised:
            return self._nearest(mean_db)
        # To keep is to keep what the decoder would do, so with the range of the steps; a level
        # that is to change anyway is corrected at the level that it will have.
        low, high = self.levels_db[0], self.levels_db[-1]
        energy_db: Floats = np.clip(mean_db, low, high) if self._control is None else mean_db
        if self.equalised:
            at_db = energy_db if self._control is None else np.full(len(mean_db), TARGET_DB)
            energy_db = energy_db + level_correction_db(plain, quantised, at_db, pitch_codes)
        if self._control is not None:
            energy_db = energy_db + self._control.process(energy_db, pitch_codes > 0)
        return self._nearest(energy_db)

    def _nearest(self, energy_db: Floats) -> NDArray[np.int64]:
        """Return the nearest step, the lower of two as near; codec2 quantise, in float32."""
        difference = self.levels_db - np.asarray(energy_db, dtype=np.float32)[:, None]
        return np.argmin(np.square(difference), axis=1)
