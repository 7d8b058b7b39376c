# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recursive estimator as a Keras cell, and its conversion to what runs without Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from codec2_eq.codec2 import K
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.equalisers.estimator import GatedEstimator, RecursiveEstimator

UNIT_DB = RecursiveEstimator.UNIT_DB
LEAK = RecursiveEstimator.LEAK
LEVEL_FLOOR = RecursiveEstimator.LEVEL_FLOOR
START_WEIGHT = 8.0  # frames that the average curve is worth at first; training moves it
KEEP_LOGIT = 5.5  # forgets over 10 s of frames at first; training moves it
SURPRISE_RATE = 0.1  # of a fully trusted frame: the news of the last half second
LEAST_WEIGHT = 0.5  # frames; after long silence the next speech counts almost alone
PEAK_FALL_DB = 0.02  # a frame: so that one shout does not silence a minute of quiet speech
LEVEL_RANGE_DB = 20.0
REACH_DB = 60.0  # farther no curve is from the average, nor a frame from a curve that is right
SILENCE_DB = -15.0  # level of white noise of about one step of 16 bits rms: never speech


@keras.saving.register_keras_serializable("codec2_eq")
class RecursiveEstimatorCell(keras.layers.Layer):
    """One frame of `codec2_eq.equalisers.estimator.RecursiveEstimator`, for `keras.layers.RNN`.

    hidden : sizes of the two hidden layers. still_db : of `GatedEstimator`, 0 for none.
    tell_trim : put out the trims [dB] after the shape, 2 K values in all, for a loss to see them.
    """

    def __init__(
        self,
        hidden: tuple[int, int],
        *,
        still_db: float = 0.0,
        tell_trim: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.hidden = tuple(hidden)
        self.still_db = still_db
        self.tell_trim = tell_trim
        self.state_size = [K, K, K, K, 1, 1]
        self.output_size = 2 * K if tell_trim else K

    def get_config(self) -> dict[str, Any]:
        """What is needed to recreate the cell."""
        own = {name: getattr(self, name) for name in ("still_db", "tell_trim")}
        own["hidden"] = list(self.hidden)
        return {**super().get_config(), **own}

    def build(self, input_shape: Any) -> None:
        """Make the weights: features of unit size, a network that begins as a running mean."""
        widths = [K + 3, *self.hidden, 3 * K + 1]
        spreads = [1.4 / np.sqrt(widths[0]), 1.4 / np.sqrt(widths[1]), 0.01]
        for i, spread in enumerate(spreads):
            shape = (widths[i], widths[i + 1])
            normal = keras.initializers.RandomNormal(stddev=float(spread))
            setattr(
                self,
                f"kernel{i + 1}",
                self.add_weight(name=f"kernel{i + 1}", shape=shape, initializer=normal),
            )
            setattr(
                self,
                f"bias{i + 1}",
                self.add_weight(name=f"bias{i + 1}", shape=shape[1:], initializer="zeros"),
            )
        self.start = self._constant("start", K, 0.0)
        self.start_weight = self._constant("start_weight", K, float(np.log(START_WEIGHT)))
        self.reference = ops.convert_to_tensor(CODEBOOK_MEAN_DB / UNIT_DB, "float32")
        self.bias3.assign(np.append(np.zeros(3 * K), KEEP_LOGIT))
        self.built = True

    def _constant(self, name: str, size: int, value: float) -> Any:
        constant = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(size,), initializer=constant)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Weights are learnt, and zeros stand for them here: the flag marks the first frame."""
        return [ops.zeros((batch_size, size), "float32") for size in self.state_size]

    def call(self, frame: Any, states: list[Any], training: bool = False) -> tuple[Any, list[Any]]:
        """(batch, K) dB and the states to (batch, K) dB and the states after."""
        curve, weight, surprise, last, peak, begun = states
        curve = ops.where(begun > 0, curve, UNIT_DB * self.start)
        weight = ops.where(begun > 0, weight, ops.exp(self.start_weight))
        peak = ops.where(begun > 0, peak, SILENCE_DB)
        mean = ops.mean(frame, axis=-1, keepdims=True)
        peak = ops.maximum(ops.maximum(peak - PEAK_FALL_DB, mean), SILENCE_DB)
        level = ops.maximum((mean - peak) / LEVEL_RANGE_DB, LEVEL_FLOOR)
        reach = REACH_DB / UNIT_DB
        moved = ops.mean(ops.square(frame - mean - last), axis=-1, keepdims=True)
        moves = moved >= self.still_db**2
        heard = ops.clip((frame - mean - curve) / UNIT_DB - self.reference, -reach, reach)
        known = ops.mean(ops.log(weight), axis=-1, keepdims=True) / 2 - 1
        shock = ops.mean(ops.square(surprise), axis=-1, keepdims=True)
        shock = 4 * ops.sqrt(shock + 1e-6) - 1
        seen = ops.concatenate([heard, level, known, shock], axis=-1)
        hidden = ops.leaky_relu(seen @ self.kernel1 + self.bias1, LEAK)
        hidden = ops.leaky_relu(hidden @ self.kernel2 + self.bias2, LEAK)
        lack, trust, trim, keep = ops.split(
            hidden @ self.kernel3 + self.bias3, [K, 2 * K, 3 * K], axis=-1
        )
        fresh = ops.where(moves, ops.softplus(trust), 0.0)
        keep = ops.where(moves, ops.sigmoid(keep), 1.0)
        weight = ops.maximum(ops.maximum(keep * weight, LEAST_WEIGHT), fresh) + fresh
        news = ops.clip(heard + lack, -reach, reach)
        curve = curve + UNIT_DB * fresh / weight * news
        start = UNIT_DB * self.start
        curve = start + ops.clip(curve - start, -REACH_DB, REACH_DB)
        surprise = surprise + SURPRISE_RATE * fresh / (1 + fresh) * (news - surprise)
        shape = frame - mean - curve - UNIT_DB * trim
        shape = shape - ops.mean(shape, axis=-1, keepdims=True)
        if self.tell_trim:
            shape = ops.concatenate([shape, UNIT_DB * trim], axis=-1)
        return shape, [curve, weight, surprise, frame - mean, peak, ops.ones_like(begun)]

    def scale_trims(self, gain: float) -> None:
        """Scale what is trimmed off single frames; the estimate of the curve stays as it is."""
        trims = np.ones(3 * K + 1, np.float32)
        trims[2 * K : 3 * K] = gain
        self.kernel3.assign(self.kernel3 * trims)
        self.bias3.assign(self.bias3 * trims)

    def exported(self) -> RecursiveEstimator:
        """The same, without Keras."""

        def array(weight: Any) -> np.ndarray:
            return np.array(ops.convert_to_numpy(weight), np.float32)

        gate: dict[str, Any] = {"still_db": self.still_db} if self.still_db else {}
        kind = GatedEstimator if gate else RecursiveEstimator
        return kind(
            (CODEBOOK_MEAN_DB / UNIT_DB).astype(np.float32),
            UNIT_DB * array(self.start),
            np.exp(array(self.start_weight)),
            kernel1=array(self.kernel1),
            bias1=array(self.bias1),
            kernel2=array(self.kernel2),
            bias2=array(self.bias2),
            kernel3=array(self.kernel3),
            bias3=array(self.bias3),
            least_weight=LEAST_WEIGHT,
            surprise_rate=SURPRISE_RATE,
            peak_fall_db=PEAK_FALL_DB,
            level_range_db=LEVEL_RANGE_DB,
            silence_db=SILENCE_DB,
            reach_db=REACH_DB,
            **gate,
        )


def model(hidden: tuple[int, int], *, still_db: float = 0.0, tell_trim: bool = False) -> Any:
    """A Keras model of (batch, frames, K) dB to shapes, and trims on request; see the cell."""
    cell = RecursiveEstimatorCell(hidden, still_db=still_db, tell_trim=tell_trim, name="estimator")
    vectors = keras.Input((None, K), name="vectors")
    shapes = keras.layers.RNN(cell, return_sequences=True, name="channel_eq")(vectors)
    return keras.Model(vectors, shapes, name="channel_eq")
