# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of layers that networks are made of, as NumPy and a few compiled loops run them.

A kind is a frozen dataclass registered in `LAYERS`. Rows are frames: a layer maps (n, inputs) to
(n, outputs), and takes and gives back its state, so that any division of the frames into calls,
down to none at all, gives the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import ClassVar, TypeVar

import numpy as np

from codec2_eq.equalisers._affine import affine
from codec2_eq.equalisers._estimator import estimate
from codec2_eq.errors import Codec2EqError

State = dict[str, np.ndarray]


# ---------------------------------------------------------------------------- activations


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # by tanh, because exp overflows where the sigmoid is merely 0
    half = np.float32(0.5)
    return half * np.tanh(half * x) + half


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, np.float32(0))))


def _selu(x: np.ndarray) -> np.ndarray:
    # the constants are the fixed point of Klambauer et al., 2017
    return np.float32(1.0507009873554805) * np.where(
        x > 0, x, np.float32(1.6732632423543772) * np.expm1(np.minimum(x, np.float32(0)))
    )


def _hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / np.float32(6) + np.float32(0.5), np.float32(0), np.float32(1))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.float32(0)) + np.log1p(np.exp(-np.abs(x)))


def _gelu(x: np.ndarray) -> np.ndarray:
    """Return x Phi(x), by the rational erf of Abramowitz and Stegun 7.1.26 (within 1.5e-7)."""
    z = np.abs(x, dtype=np.float64) / np.sqrt(2.0)
    t = 1 / (1 + 0.3275911 * z)
    coefficients = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    poly = np.zeros_like(t)
    for c in coefficients:
        poly = (poly + c) * t
    half_tail = 0.5 * poly * np.exp(-z * z)  # Phi(-|x|)
    return (x * np.where(x > 0, 1 - half_tail, half_tail)).astype(np.float32)


def _leaky_relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.float32(0.2) * x)  # Keras' slope for the activation by name


def _silu(x: np.ndarray) -> np.ndarray:
    return x * _sigmoid(x)


def _exponential(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity, as Keras has it, and as silently
        return np.exp(x)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "elu": _elu,
    "selu": _selu,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "softplus": _softplus,
    "softsign": lambda x: x / (np.float32(1) + np.abs(x)),
    "silu": _silu,
    "swish": _silu,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "exponential": _exponential,
}


# --------------------------------------------------------------------------------- layers


class Layer:
    """A layer kind: a frozen dataclass, registered with `register`, that derives from this."""

    kind: ClassVar[str]

    @property
    def inputs(self) -> int | None:
        """Length of a row it takes, None for any."""
        return None

    @property
    def outputs(self) -> int | None:
        """Length of a row it gives, None for that of its input."""
        return None

    def initial_state(self) -> State:
        """What it remembers before the first frame; empty for a layer without memory."""
        return {}

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """(n, inputs) and the state before to (n, outputs) and the state after.

        Both arrays float32 in C order, n from 0; neither argument is modified.
        """
        raise NotImplementedError


LAYERS: dict[str, type[Layer]] = {}
_L = TypeVar("_L", bound=type[Layer])


def register(kind: str) -> Callable[[_L], _L]:
    """Make a layer class known to the file format under a name."""

    def add(cls: _L) -> _L:
        LAYERS[kind] = cls
        cls.kind = kind
        return cls

    return add


def require(condition: bool, what: str) -> None:
    """Raise Codec2EqError, saying what is wrong, unless a condition holds."""
    if not condition:
        raise Codec2EqError(what)


def _require_activation(name: str) -> None:
    require(
        name in ACTIVATIONS,
        f"activation {name!r} is not supported; these are: {', '.join(ACTIVATIONS)}",
    )


@register("dense")
@dataclasses.dataclass(frozen=True, eq=False)
class Dense(Layer):
    """activation(x @ kernel + bias); kernel : (inputs, outputs), bias : (outputs,)."""

    kernel: np.ndarray
    bias: np.ndarray
    activation: str = "linear"

    def __post_init__(self) -> None:
        _require_activation(self.activation)
        require(
            self.kernel.ndim == 2 and self.bias.shape == self.kernel.shape[1:],
            f"dense: kernel {self.kernel.shape} and bias {self.bias.shape} do not fit",
        )

    @property
    def inputs(self) -> int:
        """Length of a row it takes."""
        return self.kernel.shape[0]

    @property
    def outputs(self) -> int:
        """Length of a row it gives."""
        return self.kernel.shape[1]

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """As `Layer.forward`."""
        return ACTIVATIONS[self.activation](affine(x, self.kernel, self.bias)), state


@register("activation")
@dataclasses.dataclass(frozen=True, eq=False)
class Activation(Layer):
    """An activation alone."""

    activation: str

    def __post_init__(self) -> None:
        _require_activation(self.activation)

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """As `Layer.forward`."""
        return ACTIVATIONS[self.activation](x), state


@register("scale")
@dataclasses.dataclass(frozen=True, eq=False)
class Scale(Layer):
    """x * scale + offset, band by band; both (inputs,), or (1,) for any number of bands."""

    scale: np.ndarray
    offset: np.ndarray

    def __post_init__(self) -> None:
        require(
            self.scale.ndim == 1 and self.scale.shape == self.offset.shape,
            f"scale: scale {self.scale.shape} and offset {self.offset.shape} do not fit",
        )

    @property
    def inputs(self) -> int | None:
        """Length of a row it takes."""
        return None if self.scale.size == 1 else self.scale.size

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """As `Layer.forward`."""
        return x * self.scale + self.offset, state


@register("gru")
@dataclasses.dataclass(frozen=True, eq=False)
class GRU(Layer):
    """Gated recurrent unit as Keras has it, gates in the order update, reset, candidate.

    kernel : (inputs, 3 units), recurrent_kernel : (units, 3 units), bias : (2, 3 units), for
    the input and for the recurrence. reset_after : whether the reset gate acts after the
    recurrent product (Keras' default) or before it. State: ``h`` (units,), from zero.
    Source: Cho et al., 2014 (reset before); the cuDNN variant (reset after).
    """

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True

    def __post_init__(self) -> None:
        _require_activation(self.activation)
        _require_activation(self.recurrent_activation)
        gates = 3 * self.outputs
        require(
            self.kernel.ndim == 2
            and self.kernel.shape[1] == gates
            and self.recurrent_kernel.shape == (self.outputs, gates)
            and self.bias.shape == (2, gates),
            f"gru: kernel {self.kernel.shape}, recurrent kernel {self.recurrent_kernel.shape} "
            f"and bias {self.bias.shape} do not fit",
        )

    @property
    def inputs(self) -> int:
        """Length of a row it takes."""
        return self.kernel.shape[0]

    @property
    def outputs(self) -> int:
        """Length of a row it gives."""
        return self.recurrent_kernel.shape[0]

    def initial_state(self) -> State:
        """The hidden state, zero."""
        return {"h": np.zeros(self.outputs, np.float32)}

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """As `Layer.forward`."""
        from_input = affine(x, self.kernel, self.bias[0])
        step = self._step_reset_after if self.reset_after else self._step_reset_before
        h = state["h"].reshape(1, -1)
        out = np.empty((len(x), self.outputs), np.float32)
        for i in range(len(x)):
            h = step(from_input[i : i + 1], h)
            out[i] = h[0]
        return out, {"h": h[0]}

    def _step_reset_after(self, from_input: np.ndarray, h: np.ndarray) -> np.ndarray:
        units = self.outputs
        recurrent = affine(h, self.recurrent_kernel, self.bias[1])
        gates = ACTIVATIONS[self.recurrent_activation](
            from_input[:, : 2 * units] + recurrent[:, : 2 * units]
        )
        update, reset = gates[:, :units], gates[:, units:]
        candidate = ACTIVATIONS[self.activation](
            from_input[:, 2 * units :] + reset * recurrent[:, 2 * units :]
        )
        return candidate + update * (h - candidate)

    def _step_reset_before(self, from_input: np.ndarray, h: np.ndarray) -> np.ndarray:
        units = self.outputs
        # one product for all three gates would need the reset gate before it is known
        to_gates, to_candidate = self._split_recurrent
        gates = ACTIVATIONS[self.recurrent_activation](
            from_input[:, : 2 * units] + affine(h, to_gates, self.bias[1, : 2 * units])
        )
        update, reset = gates[:, :units], gates[:, units:]
        candidate = ACTIVATIONS[self.activation](
            from_input[:, 2 * units :] + affine(reset * h, to_candidate, self.bias[1, 2 * units :])
        )
        return candidate + update * (h - candidate)

    @functools.cached_property
    def _split_recurrent(self) -> tuple[np.ndarray, np.ndarray]:
        edge = 2 * self.outputs
        return (
            np.ascontiguousarray(self.recurrent_kernel[:, :edge]),
            np.ascontiguousarray(self.recurrent_kernel[:, edge:]),
        )


@register("recursive_estimator")
@dataclasses.dataclass(frozen=True, eq=False)
class RecursiveEstimator(Layer):
    """Estimates the constant curve that lies on speech, frame after frame, and takes it off.

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
        after = {name: value.copy() for name, value in state.items()}
        out = np.empty_like(x)
        estimate(
            x,
            out,
            *(after[name] for name in ("curve", "weight", "surprise", "peak")),
            *(self.reference, self.kernel1, self.bias1, self.kernel2, self.bias2),
            *(self.kernel3, self.bias3),
            *(self.start, self.least_weight, self.surprise_rate, self.peak_fall_db),
            *(self.level_range_db, self.silence_db, self.reach_db),
        )
        return out, after
