# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network as a graph of plain operations on one frame, whatever the graph is kept in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from codec2_eq.equalisers.export_plan import Plan
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import Codec2EqError

Value = Any
States = dict[str, Value]


class Operations(Protocol):
    """What a kind of graph must have; every value is of shape (1, n)."""

    def constant(self, array: np.ndarray) -> Value:
        """Add weights (n,) as (1, n), or a matrix as it is."""

    def apply(self, name: str, *values: Value) -> Value:
        """Apply add, subtract, multiply, divide, matmul, maximum, minimum, exp, log, sqrt, tanh,
        sigmoid, softplus, erf or abs.
        """

    def mean(self, value: Value) -> Value:
        """Average a row: (1, 1)."""

    def join(self, values: list[Value]) -> Value:
        """Put rows one after the other."""

    def part(self, value: Value, first: int, end: int) -> Value:
        """Cut columns [first, end) out of a row."""


class Tracer:
    """Runs a network's layers on the values of a graph."""

    def __init__(self, operations: Operations) -> None:
        self.constant = operations.constant
        self.apply = operations.apply
        self.mean = operations.mean
        self.join = operations.join
        self.part = operations.part

    def trace(self, network: Network, vector: Value, states: States) -> tuple[Value, States]:
        """Return what stands for the shape, and for the states after the frame."""
        plan = Plan.of(network)
        given = [vector]
        after: States = {}
        for index, layer in enumerate(network.layers):
            if type(layer).__name__ not in _TRACES:
                raise Codec2EqError(
                    network.name,
                    f"layer {index} is of kind {layer.kind!r}, which cannot be exported as a graph",
                    f"these can: {', '.join(_TRACES)}",
                )
            taken = given[plan.sources[index][0]]
            for source in plan.sources[index][1:]:
                taken = self.add(taken, given[source])
            own = {name: states[f"{index}.{name}"] for name in layer.initial_state()}
            out, own = _TRACES[type(layer).__name__](self, layer, taken, own)
            given.append(out)
            after |= {f"{index}.{name}": value for name, value in own.items()}
        return given[-1], after

    def number(self, value: float) -> Value:
        """Add a number as (1, 1)."""
        return self.constant(np.array([value], np.float32))

    def add(self, a: Value, b: Value) -> Value:
        """Return a + b."""
        return self.apply("add", a, b)

    def minus(self, a: Value, b: Value) -> Value:
        """Return a - b."""
        return self.apply("subtract", a, b)

    def times(self, a: Value, b: Value) -> Value:
        """Return a * b."""
        return self.apply("multiply", a, b)

    def scaled(self, value: Value, gain: float, offset: float = 0.0) -> Value:
        """Return gain * value + offset."""
        out = self.times(value, self.number(gain))
        return self.add(out, self.number(offset)) if offset else out

    def affine(self, value: Value, kernel: np.ndarray, bias: np.ndarray) -> Value:
        """Return value @ kernel + bias."""
        return self.add(self.apply("matmul", value, self.constant(kernel)), self.constant(bias))

    def within(self, value: Value, most: float) -> Value:
        """Return a value cut to plus or minus `most`."""
        low, high = self.number(-most), self.number(most)
        return self.apply("maximum", self.apply("minimum", value, high), low)

    def bent(self, value: Value, slope: float, threshold: float = 0.0) -> Value:
        """Return value from the threshold on, slope * (value - threshold) below it."""
        edge = self.number(threshold)
        # the step of a threshold above zero is put back where the value reaches it
        over = self.apply("maximum", self.minus(value, edge), self.number(0.0))
        under = self.apply("minimum", self.minus(value, edge), self.number(0.0))
        out = self.add(over, self.scaled(under, slope))
        if not threshold:
            return out
        reached = self.apply("at_least", value, edge)
        return self.add(out, self.scaled(reached, threshold))

    def activation(self, name: str, x: Value) -> Value:
        """Apply an activation by its name."""
        return _ACTIVATIONS[name](self, x)


def _elu(t: Tracer, x: Value) -> Value:
    low = t.apply("minimum", x, t.number(0.0))
    over = t.apply("maximum", x, t.number(0.0))
    return t.add(over, t.add(t.apply("exp", low), t.number(-1.0)))


def _selu(t: Tracer, x: Value) -> Value:
    low = t.apply("minimum", x, t.number(0.0))
    over = t.apply("maximum", x, t.number(0.0))
    below = t.scaled(t.add(t.apply("exp", low), t.number(-1.0)), 1.6732632423543772)
    return t.scaled(t.add(over, below), 1.0507009873554805)


def _hard_sigmoid(t: Tracer, x: Value) -> Value:
    middle = t.scaled(x, 1 / 6, 0.5)
    return t.apply("minimum", t.apply("maximum", middle, t.number(0.0)), t.number(1.0))


def _gelu(t: Tracer, x: Value) -> Value:
    tail = t.add(t.apply("erf", t.scaled(x, np.sqrt(0.5))), t.number(1.0))
    return t.times(t.scaled(x, 0.5), tail)


_ACTIVATIONS: dict[str, Callable[[Tracer, Value], Value]] = {
    "linear": lambda t, x: x,
    "relu": lambda t, x: t.apply("maximum", x, t.number(0.0)),
    "elu": _elu,
    "selu": _selu,
    "tanh": lambda t, x: t.apply("tanh", x),
    "sigmoid": lambda t, x: t.apply("sigmoid", x),
    "hard_sigmoid": _hard_sigmoid,
    "softplus": lambda t, x: t.apply("softplus", x),
    "softsign": lambda t, x: t.apply("divide", x, t.add(t.apply("abs", x), t.number(1.0))),
    "silu": lambda t, x: t.times(x, t.apply("sigmoid", x)),
    "swish": lambda t, x: t.times(x, t.apply("sigmoid", x)),
    "gelu": _gelu,
    "leaky_relu": lambda t, x: t.bent(x, 0.2),
    "exponential": lambda t, x: t.apply("exp", x),
}


def _dense(t: Tracer, layer: Any, x: Value, own: States) -> tuple[Value, States]:
    return t.activation(layer.activation, t.affine(x, layer.kernel, layer.bias)), own


def _activation(t: Tracer, layer: Any, x: Value, own: States) -> tuple[Value, States]:
    return t.activation(layer.activation, x), own


def _scale(t: Tracer, layer: Any, x: Value, own: States) -> tuple[Value, States]:
    return t.add(t.times(x, t.constant(layer.scale)), t.constant(layer.offset)), own


def _relu(t: Tracer, layer: Any, x: Value, own: States) -> tuple[Value, States]:
    out = t.bent(x, layer.slope, layer.threshold)
    return (out if layer.most is None else t.apply("minimum", out, t.number(layer.most))), own


def _gru(t: Tracer, layer: Any, x: Value, own: States) -> tuple[Value, States]:
    units, h = layer.outputs, own["h"]
    edge, wide = 2 * units, 3 * units
    given = t.affine(x, layer.kernel, layer.bias[0])
    past = t.affine(h, layer.recurrent_kernel[:, :edge], layer.bias[1, :edge])
    gates = t.activation(layer.recurrent_activation, t.add(t.part(given, 0, edge), past))
    update, reset = t.part(gates, 0, units), t.part(gates, units, edge)
    kernel, bias = layer.recurrent_kernel[:, edge:], layer.bias[1, edge:]
    if layer.reset_after:
        past = t.times(reset, t.affine(h, kernel, bias))
    else:
        past = t.affine(t.times(reset, h), kernel, bias)
    news = t.activation(layer.activation, t.add(t.part(given, edge, wide), past))
    out = t.add(news, t.times(update, t.minus(h, news)))
    return out, {"h": out}


def _lstm(t: Tracer, layer: Any, x: Value, own: States) -> tuple[Value, States]:
    units = layer.outputs
    past = t.apply("matmul", own["h"], t.constant(layer.recurrent_kernel))
    both = t.add(t.affine(x, layer.kernel, layer.bias), past)
    let_in, keep, news, let_out = (t.part(both, i * units, (i + 1) * units) for i in range(4))

    def gate(value: Value) -> Value:
        return t.activation(layer.recurrent_activation, value)

    fresh = t.times(gate(let_in), t.activation(layer.activation, news))
    c = t.add(t.times(gate(keep), own["c"]), fresh)
    h = t.times(gate(let_out), t.activation(layer.activation, c))
    return h, {"h": h, "c": c}


def _recursive_estimator(t: Tracer, e: Any, x: Value, own: States) -> tuple[Value, States]:
    bands, reach = e.outputs, e.reach_db / e.UNIT_DB
    mean = t.mean(x)
    shape = t.minus(x, mean)
    peak = t.apply("maximum", t.add(own["peak"], t.number(-e.peak_fall_db)), mean)
    peak = t.apply("maximum", peak, t.number(e.silence_db))
    level = t.apply("divide", t.minus(mean, peak), t.number(e.level_range_db))
    level = t.apply("maximum", level, t.number(e.LEVEL_FLOOR))
    heard = t.apply("divide", t.minus(shape, own["curve"]), t.number(e.UNIT_DB))
    heard = t.within(t.minus(heard, t.constant(e.reference)), reach)
    known = t.scaled(t.mean(t.apply("log", own["weight"])), 0.5, -1.0)
    shock = t.mean(t.times(own["surprise"], own["surprise"]))
    shock = t.scaled(t.apply("sqrt", t.add(shock, t.number(1e-6))), 4.0, -1.0)
    hidden = t.bent(t.affine(t.join([heard, level, known, shock]), e.kernel1, e.bias1), e.LEAK)
    hidden = t.bent(t.affine(hidden, e.kernel2, e.bias2), e.LEAK)
    given = t.affine(hidden, e.kernel3, e.bias3)
    lack, trust, trim = (t.part(given, i * bands, (i + 1) * bands) for i in range(3))
    keep = t.apply("sigmoid", t.part(given, 3 * bands, 3 * bands + 1))
    fresh = t.apply("softplus", trust)
    after = {}
    if e.gate_db:
        moved = t.minus(shape, own["last"])
        moved = t.mean(t.times(moved, moved))
        moves = t.apply("at_least", moved, t.number(e.gate_db**2))
        fresh = t.times(fresh, moves)
        keep = t.add(t.times(keep, moves), t.scaled(moves, -1.0, 1.0))
        after["last"] = shape
    news = t.within(t.add(heard, lack), reach)
    trusted = t.scaled(t.apply("divide", fresh, t.add(fresh, t.number(1.0))), e.surprise_rate)
    surprise = t.add(own["surprise"], t.times(trusted, t.minus(news, own["surprise"])))
    weight = t.apply("maximum", t.times(keep, own["weight"]), t.number(e.least_weight))
    weight = t.add(t.apply("maximum", weight, fresh), fresh)
    step = t.scaled(t.times(t.apply("divide", fresh, weight), news), e.UNIT_DB)
    start = t.constant(e.start)
    curve = t.add(start, t.within(t.minus(t.add(own["curve"], step), start), e.reach_db))
    out = t.minus(t.minus(shape, curve), t.scaled(trim, e.UNIT_DB))
    after |= {"curve": curve, "weight": weight, "surprise": surprise, "peak": peak}
    return t.minus(out, t.mean(out)), after


_TRACES: dict[str, Callable[[Tracer, Any, Value, States], tuple[Value, States]]] = {
    "Dense": _dense,
    "Activation": _activation,
    "Scale": _scale,
    "Relu": _relu,
    "GRU": _gru,
    "LSTM": _lstm,
    "RecursiveEstimator": _recursive_estimator,
    "GatedEstimator": _recursive_estimator,
}
"""Layer class to the function that puts it into a graph."""


def state_name(name: str) -> str:
    """Name of a state in a graph: `0.curve` is `l0_curve`."""
    return "l" + name.replace(".", "_")
