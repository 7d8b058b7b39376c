# SPDX-License-Identifier: LGPL-2.1-or-later
"""The layer of `channel_eq`: a recursive estimate of the curve that lies on speech."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, ClassVar

import numpy as np

from codec2_eq.equalisers._estimator import Estimator
from codec2_eq.equalisers.layers import Layer, State, register, require


@register("recursive_estimator")
@dataclasses.dataclass(frozen=True, eq=False)
class RecursiveEstimator(Layer):
    """Estimates the constant curve that lies on speech, frame by frame, and removes it.

    Two hidden layers (leaky, 0.1) see the frame's shape less the curve so far and less
    `reference`, in units of 10 dB; the frame's level under its running peak; half the mean
    logarithm of the weights less 1; and 4 rms(surprise) - 1. Per band they give what the frame
    says the curve lacks, how far that is to be trusted, and a trim of this frame alone, and
    once what of the past to keep. With news = input + lack and fresh = softplus(trust):
    W = max(sigmoid(keep) W, least_weight, fresh) + fresh; c += 10 (fresh / W) news;
    surprise += surprise_rate fresh / (1 + fresh) (news - surprise): near zero while the curve
    holds, large where speaker or microphone changed;
    output = shape - c - 10 trim, less its mean. So that nothing can run away, however strange the
    input: no frame moves c by more than half of its news, and input, news and the distance of c
    from `start` stay within reach_db.

    reference, start, start_weight : (K,). kernel1 : (K + 3, hidden 1), kernel2 : (hidden 1,
    hidden 2), kernel3 : (hidden 2, 3 K + 1). State: ``curve`` (K,) dB, ``weight`` (K,) in frames,
    ``surprise`` (K,), ``peak`` (1,) dB.
    """

    UNIT_DB: ClassVar[float] = 10.0  # the network's numbers are of this size
    LEAK: ClassVar[float] = 0.1  # slope of the hidden layers below zero
    LEVEL_FLOOR: ClassVar[float] = -2.0  # least level under the peak that it is given, in its range

    reference: np.ndarray
    start: np.ndarray
    start_weight: np.ndarray
    kernel1: np.ndarray
    bias1: np.ndarray
    kernel2: np.ndarray
    bias2: np.ndarray
    kernel3: np.ndarray
    bias3: np.ndarray
    least_weight: float
    surprise_rate: float
    peak_fall_db: float
    level_range_db: float
    silence_db: float
    reach_db: float

    def __post_init__(self) -> None:
        bands = self.outputs
        widths = [bands + 3, self.bias1.size, self.bias2.size, 3 * bands + 1]
        kernels = (self.kernel1, self.kernel2, self.kernel3)
        require(
            all(v.shape == (bands,) for v in (self.reference, self.start, self.start_weight))
            and self.bias1.ndim == self.bias2.ndim == 1
            and self.bias3.shape == (3 * bands + 1,)
            and [k.shape for k in kernels] == list(itertools.pairwise(widths)),
            f"recursive_estimator: kernels {[k.shape for k in kernels]} do not fit {bands} bands",
        )
        require(
            self.least_weight > 0 and bool((self.start_weight > 0).all()),
            "recursive_estimator: weights must be positive",
        )

    @property
    def inputs(self) -> int:
        """Length of a row it takes."""
        return self.outputs

    @property
    def outputs(self) -> int:
        """Length of a row it gives."""
        return self.reference.size

    def initial_state(self) -> State:
        """The average curve, with the weight of a few frames."""
        return {
            "curve": self.start.copy(),
            "weight": self.start_weight.copy(),
            "surprise": np.zeros(self.outputs, np.float32),
            "peak": np.full(1, self.silence_db, np.float32),
        }

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """As `Layer.forward`."""
        return self.compiled.run(x, state)

    @functools.cached_property
    def compiled(self) -> Estimator:
        """The weights, laid out for the compiled step."""
        return Estimator(
            self.reference,
            self.start,
            (self.kernel1, self.kernel2, self.kernel3),
            (self.bias1, self.bias2, self.bias3),
            leak=self.LEAK,
            unit_db=self.UNIT_DB,
            level_floor=self.LEVEL_FLOOR,
            least_weight=self.least_weight,
            surprise_rate=self.surprise_rate,
            peak_fall_db=self.peak_fall_db,
            level_range_db=self.level_range_db,
            silence_db=self.silence_db,
            reach_db=self.reach_db,
            still_db=self.gate_db,
        )

    @property
    def gate_db(self) -> float:
        """Smallest change of a frame's shape that it learns from [dB rms]; 0 without a gate."""
        return 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "compiled"}


@register("gated_estimator")
@dataclasses.dataclass(frozen=True, eq=False)
class GatedEstimator(RecursiveEstimator):
    """A recursive estimator that learns nothing from stationary frames: tones, digital silence.

    Where a frame's shape differs from that of the frame before by less than still_db rms, fresh is
    0 and keep 1. State: also ``last`` (K,) dB, that shape; a flat one before the first frame.
    """

    still_db: float

    @property
    def gate_db(self) -> float:
        """As `RecursiveEstimator.gate_db`."""
        return self.still_db

    def initial_state(self) -> State:
        """As `RecursiveEstimator.initial_state`."""
        return super().initial_state() | {"last": np.zeros(self.outputs, np.float32)}
