# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of layers that networks are made of, as NumPy and a few compiled loops run them.

A kind is a frozen dataclass registered in `LAYERS`. Rows are frames: a layer maps (n, inputs) to
(n, outputs), and takes and gives back its state, so that any division of the frames into calls,
down to none at all, gives the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, TypeVar

import numpy as np

from codec2_eq.equalisers._affine import affine
from codec2_eq.equalisers.activations import ACTIVATIONS
from codec2_eq.errors import Codec2EqError

State = dict[str, np.ndarray]


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


def require_activation(name: str) -> None:
    """Raise Codec2EqError unless an activation can be run."""
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
        require_activation(self.activation)
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
        require_activation(self.activation)

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


@register("relu")
@dataclasses.dataclass(frozen=True, eq=False)
class Relu(Layer):
    """Keras' ReLU and LeakyReLU layers: x from `threshold` on, below it slope * (x - threshold).

    most : what larger values are cut to, None for no such limit.
    """

    slope: float = 0.0
    threshold: float = 0.0
    most: float | None = None

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """As `Layer.forward`."""
        threshold = np.float32(self.threshold)
        out = np.where(x >= threshold, x, np.float32(self.slope) * (x - threshold))
        return out if self.most is None else np.minimum(out, np.float32(self.most)), state
