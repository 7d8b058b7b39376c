# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recurrent layers with gates, as Keras has them."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from codec2_eq.equalisers._affine import affine
from codec2_eq.equalisers.activations import ACTIVATIONS
from codec2_eq.equalisers.layers import Layer, State, register, require, require_activation


@dataclasses.dataclass(frozen=True, eq=False)
class _Gated(Layer):
    """A layer with a kernel for the input and one for its own last output."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray

    @property
    def inputs(self) -> int:
        """Length of a row it takes."""
        return self.kernel.shape[0]

    @property
    def outputs(self) -> int:
        """Length of a row it gives."""
        return self.recurrent_kernel.shape[0]


@register("gru")
@dataclasses.dataclass(frozen=True, eq=False)
class GRU(_Gated):
    """Gated recurrent unit as Keras has it, gates in the order update, reset, candidate.

    kernel : (inputs, 3 units), recurrent_kernel : (units, 3 units), bias : (2, 3 units), for
    the input and for the recurrence. reset_after : whether the reset gate acts after the
    recurrent product (Keras' default) or before it. State: ``h`` (units,), from zero.
    Source: Cho et al., 2014 (reset before); the cuDNN variant (reset after).
    """

    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True

    def __post_init__(self) -> None:
        require_activation(self.activation)
        require_activation(self.recurrent_activation)
        gates = 3 * self.outputs
        require(
            self.kernel.ndim == 2
            and self.kernel.shape[1] == gates
            and self.recurrent_kernel.shape == (self.outputs, gates)
            and self.bias.shape == (2, gates),
            f"gru: kernel {self.kernel.shape}, recurrent kernel {self.recurrent_kernel.shape} "
            f"and bias {self.bias.shape} do not fit",
        )

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


@register("lstm")
@dataclasses.dataclass(frozen=True, eq=False)
class LSTM(_Gated):
    """Long short-term memory as Keras has it, gates in the order input, forget, cell, output.

    kernel : (inputs, 4 units), recurrent_kernel : (units, 4 units), bias : (4 units,).
    State: ``h`` and ``c`` (units,), from zero. Source: Hochreiter and Schmidhuber, 1997.
    """

    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"

    def __post_init__(self) -> None:
        require_activation(self.activation)
        require_activation(self.recurrent_activation)
        require(
            self.kernel.ndim == self.recurrent_kernel.ndim == 2
            and self.recurrent_kernel.shape[1] == self.kernel.shape[1] == 4 * self.outputs
            and self.bias.shape == self.kernel.shape[1:],
            f"lstm: kernel {self.kernel.shape}, recurrent kernel {self.recurrent_kernel.shape} "
            f"and bias {self.bias.shape} do not fit",
        )

    def initial_state(self) -> State:
        """Output and cell, zero."""
        return {name: np.zeros(self.outputs, np.float32) for name in ("h", "c")}

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """As `Layer.forward`."""
        gate, squash = ACTIVATIONS[self.recurrent_activation], ACTIVATIONS[self.activation]
        from_input = affine(x, self.kernel, self.bias)
        no_bias = np.zeros_like(self.bias)
        h, c = state["h"].reshape(1, -1), state["c"].reshape(1, -1)
        out = np.empty((len(x), self.outputs), np.float32)
        for i in range(len(x)):
            both = from_input[i : i + 1] + affine(h, self.recurrent_kernel, no_bias)
            let_in, keep, news, let_out = np.split(both, 4, axis=1)
            c = gate(keep) * c + gate(let_in) * squash(news)
            h = np.ascontiguousarray(gate(let_out) * squash(c))
            out[i] = h[0]
        return out, {"h": h[0], "c": c[0]}
