# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recursive estimator as a Keras cell, and its conversion to what runs without Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from codec2_eq.equalise import CODEBOOK_MEAN_DB
from codec2_eq.network import RecursiveEstimator
from codec2_eq.records import K

UNIT_DB = 10.0  # the network's numbers are of this size
LEAK = 0.1
START_WEIGHT = 8.0  # frames that the average curve is worth at first; training moves it
KEEP_LOGIT = 5.5  # forgets over 10 s of frames at first; training moves it
LEAST_WEIGHT = 0.5  # frames; after long silence the next speech counts almost alone
PEAK_FALL_DB = 0.02  # a frame: so that one shout does not silence a minute of quiet speech
LEVEL_RANGE_DB = 20.0
LEVEL_FLOOR = -2.0
SILENCE_DB = -15.0  # level of white noise of about one step of 16 bits rms: never speech


@keras.saving.register_keras_serializable("codec2_eq")
class RecursiveEstimatorCell(keras.layers.Layer):
    """One frame of `codec2_eq.network.RecursiveEstimator`, for `keras.layers.RNN`.

    hidden : sizes of the two hidden layers.
    """

    def __init__(self, hidden: tuple[int, int] = (64, 56), **options: Any) -> None:
        super().__init__(**options)
        self.hidden = tuple(hidden)
        self.state_size = [K, K, 1, 1]
        self.output_size = K

    def get_config(self) -> dict[str, Any]:
        """What is needed to make the cell again."""
        return {**super().get_config(), "hidden": list(self.hidden)}

    def build(self, input_shape: Any) -> None:
        """Make the weights: features of unit size, a network that begins as a running mean."""
        widths = [2 * K + 1, *self.hidden, 3 * K]
        spreads = [1.4 / np.sqrt(widths[0]), 1.4 / np.sqrt(widths[1]), 0.01]
        for i, spread in enumerate(spreads):
            shape = (widths[i], widths[i + 1])
            normal = keras.initializers.RandomNormal(stddev=float(spread))
            setattr(self, f"kernel{i + 1}", self.add_weight(
                name=f"kernel{i + 1}", shape=shape, initializer=normal))  # fmt: skip
            setattr(self, f"bias{i + 1}", self.add_weight(
                name=f"bias{i + 1}", shape=shape[1:], initializer="zeros"))  # fmt: skip
        self.start = self._constant("start", K, 0.0)
        self.start_weight = self._constant("start_weight", K, float(np.log(START_WEIGHT)))
        self.keep = self._constant("keep", 1, KEEP_LOGIT)
        self.reference = ops.convert_to_tensor(CODEBOOK_MEAN_DB / UNIT_DB, "float32")
        self.built = True

    def _constant(self, name: str, size: int, value: float) -> Any:
        constant = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(size,), initializer=constant)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Weights are learnt, and zeros stand for them here: the flag marks the first frame."""
        sizes = (K, K, 1, 1)
        return [ops.zeros((batch_size, size), "float32") for size in sizes]

    def call(self, frame: Any, states: list[Any], training: bool = False) -> tuple[Any, list[Any]]:
        """(batch, K) dB and the states to (batch, K) dB and the states after."""
        curve, weight, peak, begun = states
        curve = ops.where(begun > 0, curve, UNIT_DB * self.start)
        weight = ops.where(begun > 0, weight, ops.exp(self.start_weight))
        peak = ops.where(begun > 0, peak, SILENCE_DB)
        mean = ops.mean(frame, axis=-1, keepdims=True)
        peak = ops.maximum(ops.maximum(peak - PEAK_FALL_DB, mean), SILENCE_DB)
        level = ops.maximum((mean - peak) / LEVEL_RANGE_DB, LEVEL_FLOOR)
        heard = (frame - mean - curve) / UNIT_DB - self.reference
        seen = ops.concatenate([heard, level, ops.log(weight) / 2 - 1], axis=-1)
        hidden = ops.leaky_relu(seen @ self.kernel1 + self.bias1, LEAK)
        hidden = ops.leaky_relu(hidden @ self.kernel2 + self.bias2, LEAK)
        lack, trust, trim = ops.split(hidden @ self.kernel3 + self.bias3, 3, axis=-1)
        fresh = ops.softplus(trust)
        weight = ops.maximum(ops.sigmoid(self.keep) * weight, LEAST_WEIGHT) + fresh
        curve = curve + UNIT_DB * fresh / weight * (heard + lack)
        shape = frame - mean - curve - UNIT_DB * trim
        shape = shape - ops.mean(shape, axis=-1, keepdims=True)
        return shape, [curve, weight, peak, ops.ones_like(begun)]

    def exported(self) -> RecursiveEstimator:
        """The same, without Keras."""

        def array(weight: Any) -> np.ndarray:
            return np.array(ops.convert_to_numpy(weight), np.float32)

        return RecursiveEstimator(
            (CODEBOOK_MEAN_DB / UNIT_DB).astype(np.float32),
            UNIT_DB * array(self.start),
            np.exp(array(self.start_weight)),
            kernel1=array(self.kernel1),
            bias1=array(self.bias1),
            kernel2=array(self.kernel2),
            bias2=array(self.bias2),
            kernel3=array(self.kernel3),
            bias3=array(self.bias3),
            keep=float(1 / (1 + np.exp(-float(array(self.keep)[0])))),
            least_weight=LEAST_WEIGHT,
            peak_fall_db=PEAK_FALL_DB,
            level_range_db=LEVEL_RANGE_DB,
            silence_db=SILENCE_DB,
        )


def model(hidden: tuple[int, int], *, frames: int | None = None, batch: int | None = None) -> Any:
    """A Keras model of (batch, frames, K) dB to shapes of the same shape."""
    cell = RecursiveEstimatorCell(hidden, name="estimator")
    vectors = keras.Input((frames, K), batch_size=batch, name="vectors")
    shapes = keras.layers.RNN(cell, return_sequences=True, name="channel_eq")(vectors)
    return keras.Model(vectors, shapes, name="channel_eq")
