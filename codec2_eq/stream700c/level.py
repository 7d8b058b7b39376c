# SPDX-License-Identifier: LGPL-2.1-or-later
"""The level of 700C frames: what the decoder makes of a vector, and which energy step to send.

700C sends the level of a frame as the mean of its rate-K vector in dB, which is not its energy: a
shape with one strong band is louder than a flat one of the same mean. When an equaliser changes
the shape, the same mean decodes to another loudness, so the step is chosen from what the decoder
will do.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import band_centres_hz
from codec2_eq.audiofilter._level_control import TARGET_DB, LevelControl
from codec2_eq.codec2 import LONGEST_PERIOD, SHORTEST_PERIOD, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.libcodec2 import energy_codebook
from codec2_eq.stream700c._decoded_level import filter_shapes, frame_levels, passage_levels
from codec2_eq.vq.quantiser import Quantiser

Floats = NDArray[np.floating]

LEVEL_MODES = ("keep", "auto")

SHORTFALL_DB = 0.75
"""How much too quiet a frame may become whose energy is beyond the top step: hardly heard."""

PASSAGE_DB = 2.5
"""Most that a frame is raised or lowered for the sake of the passage to it: one step."""

_LESS_EQUALISED = (1 / 5, 1 / 4, 1 / 3, 1 / 2, 1)
"""By fifths back to the shape without equaliser: shares of what is left, at each turn."""

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
    plain: NDArray[np.float32],
    equalised: NDArray[np.float32],
    mean_db: Floats,
    pitch_codes: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """Return what to add to the mean so that an equalised frame is as loud as before, (n,) dB.

    plain : (n, 20) dB, shapes before, as they are heard
    equalised : (n, 20) dB, `post_filter` of what the quantiser made of the equalised shapes
    mean_db : (n,) dB, level at which the two are compared
    """
    wanted = decoded_level_db(plain, mean_db, pitch_codes)
    correction = np.zeros(len(wanted), dtype=np.float32)
    # The decoder ties the spectrum to 0 dB at 0 and 4 kHz, so level and mean do not quite rise
    # together: the second round catches what the first left.
    for _ in range(2):
        correction += wanted - decoded_level_db(equalised, mean_db + correction, pitch_codes)
    return correction


class _Passages:
    """Levels from frame to frame of one stream, block by block; the decoder starts at 0 dB."""

    def __init__(self) -> None:
        self._vector = np.zeros((1, K), dtype=np.float32)
        self._code = np.zeros(1, dtype=np.uint8)

    def process(
        self, filtered: NDArray[np.float32], mean_db: Floats, pitch_codes: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Return the mean power from the frame before to each of the next, (n,) dB."""
        vectors = filtered + np.asarray(mean_db, dtype=np.float32)[:, None]
        vectors = np.concatenate([self._vector, vectors])
        codes = np.concatenate([self._code, pitch_codes])
        self._vector, self._code = vectors[-1:], codes[-1:]
        return passage_levels(vectors, codes, *_harmonic_tables())


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


@dataclass
class Block:
    """Consecutive frames on their way to bits.

    mean_db : (n,) means of the unequalised vectors;  pitch_codes : (n,) from `encode_pitch`
    plain_shapes, shapes : (n, 20) dB, without and with equaliser
    quantised, indexes : (n, 20) and (n, 2), what the quantiser made of `shapes`
    """

    mean_db: NDArray[np.float32]
    pitch_codes: NDArray[np.uint8]
    plain_shapes: NDArray[np.float32]
    shapes: NDArray[np.float32]
    quantised: NDArray[np.float32]
    indexes: NDArray[np.int32]


class EnergyChooser(Protocol):
    """Chooses the energy steps of a stream's frames, block by block."""

    def choose(self, block: Block) -> NDArray[np.int64]:
        """Return the energy indexes, (n,) 0..15; shapes and what follows may be changed."""


def energy_chooser(
    mode: str,
    quantiser: Quantiser,
    *,
    stock: bool,
    equalised: bool,
) -> EnergyChooser:
    """Return what chooses the energies of one stream.

    mode : "keep", the level as it is, or "auto", see `LevelControl`
    stock : whether "keep" is to be Codec 2's own choice, whatever the equaliser does
    equalised : whether an equaliser changes the shapes, so that the loudness must be seen to
    """
    if mode not in LEVEL_MODES:
        raise Codec2EqError(f"level {mode!r}: choose one of {', '.join(LEVEL_MODES)}")
    if mode == "auto":
        return AutoLevel(equalised=equalised)
    return StockEnergy() if stock else KeptLoudness(quantiser)


class StockEnergy:
    """The step nearest to the mean, as Codec 2 has it."""

    def choose(self, block: Block) -> NDArray[np.int64]:
        """Return the energy indexes, (n,) 0..15."""
        return nearest_steps(block.mean_db)


class AutoLevel:
    """Energies by `LevelControl`.

    With an equaliser, each frame is decoded as loud, beside the others, as it came in. The decode
    without equaliser would be the wrong model here: it exaggerates what the quantiser serves
    badly, clipped speech by over 10 dB.
    """

    def __init__(self, *, equalised: bool) -> None:
        self._equalised = equalised
        self._control = LevelControl()

    def choose(self, block: Block) -> NDArray[np.int64]:
        """Return the energy indexes, (n,) 0..15."""
        energy_db: Floats = block.mean_db
        if self._equalised:
            # at the level that speech will have, not that which it has
            at_db = np.full(len(energy_db), TARGET_DB)
            energy_db = energy_db + level_correction_db(
                block.plain_shapes, post_filter(block.quantised), at_db, block.pitch_codes
            )
        return nearest_steps(energy_db + self._control.process(energy_db, block.pitch_codes > 0))


class KeptLoudness:
    """Energies with which a stream decodes as loud as that of the stock encoder.

    A flat shape needs a higher energy to be as loud as a peaked one, and the steps end at 47.5
    dB: frames that need more are equalised less.
    """

    def __init__(self, quantiser: Quantiser) -> None:
        self._quantiser = quantiser
        self._plain, self._equalised = _Passages(), _Passages()

    def choose(self, block: Block) -> NDArray[np.int64]:
        """Return the energy indexes, (n,) 0..15; `block` has what the louder frames became."""
        plain = post_filter(self._quantiser.quantise(block.plain_shapes)[0])
        mean_db = _within_steps(block.mean_db)
        wanted_db = mean_db + level_correction_db(
            plain, post_filter(block.quantised), mean_db, block.pitch_codes
        )
        for share in _LESS_EQUALISED:
            loud = wanted_db > energy_levels_db()[-1] + SHORTFALL_DB
            if not loud.any():
                break
            self._equalise_less(block, loud, share)
            wanted_db[loud] = mean_db[loud] + level_correction_db(
                plain[loud],
                post_filter(block.quantised[loud]),
                mean_db[loud],
                block.pitch_codes[loud],
            )
        # Between frames of unlike shapes the decoder is less loud than in either, and an
        # equaliser changes how unlike they are.
        before = self._plain.process(plain, mean_db, block.pitch_codes)
        after = self._equalised.process(
            post_filter(block.quantised), _within_steps(wanted_db), block.pitch_codes
        )
        return nearest_steps(wanted_db + np.clip(before - after, -PASSAGE_DB, PASSAGE_DB))

    def _equalise_less(self, block: Block, loud: NDArray[np.bool_], share: float) -> None:
        shapes = block.shapes[loud]
        shapes += np.float32(share) * (block.plain_shapes[loud] - shapes)
        block.shapes[loud] = shapes
        block.quantised[loud], block.indexes[loud] = self._quantiser.quantise(shapes)


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


def _within_steps(energy_db: Floats) -> Floats:
    levels_db = energy_levels_db()
    return np.clip(energy_db, levels_db[0], levels_db[-1])
