# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network as one C99 source and its header: no allocation, nothing but libm."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.codec2 import K
from codec2_eq.equalisers import export_c_templates as templates
from codec2_eq.equalisers.export_plan import Plan
from codec2_eq.equalisers.layers import Layer
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import require_writable, write_error, write_text

PER_LINE = 6


@dataclass(frozen=True)
class CSource:
    """Source and header, and what they need.

    source, header : texts
    weight_bytes, state_bytes : sizes of the tables and of the state
    multiply_adds : of one frame, in its matrix products
    """

    name: str
    source: str
    header: str
    weight_bytes: int
    state_bytes: int
    multiply_adds: int


def c_source(network: Network) -> CSource:
    """Write a network of K values to K in C99.

    Raises Codec2EqError for a layer of a kind that has no C.
    """
    plan = Plan.of(network)
    writer = _Writer(plan, _identifier(network.name))
    for index, layer in enumerate(network.layers):
        if type(layer).__name__ not in _EMITTERS:
            raise Codec2EqError(
                network.name,
                f"layer {index} is of kind {layer.kind!r}, which cannot be exported to C",
                f"these can: {', '.join(_EMITTERS)}",
            )
        _EMITTERS[type(layer).__name__](writer, index, layer)
    return writer.finish(network)


def write_c(source: CSource, folder: Path, *, force: bool = False) -> list[Path]:
    """Write source and header into a folder, which is made; return their paths.

    Raises Codec2EqError if one exists and `force` is false, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(str(folder), error) from error
    texts = {
        folder / f"{source.name}.c": source.source,
        folder / f"{source.name}.h": source.header,
    }
    for path in texts:
        require_writable(path, force=force)
    for path, text in texts.items():
        write_text(path, text, force=force)
    return list(texts)


def _identifier(name: str) -> str:
    """Return a name that C can use."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII).lower()
    return word if word[:1].isalpha() else f"eq_{word}"


@dataclass
class _Writer:
    """Collects the parts of the source, layer by layer."""

    plan: Plan
    name: str
    helpers: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    weight_bytes: int = 0
    state_bytes: int = 0

    def need(self, *names: str) -> None:
        """Have helper functions written, each once and after those it calls."""
        for name in names:
            self.need(*templates.CALLS.get(name, ()))
            if name not in self.helpers:
                self.helpers.append(name)

    def table(self, name: str, values: np.ndarray) -> str:
        """Add a table of weights and return its name."""
        self.tables.append(_table(name, values))
        self.weight_bytes += 4 * values.size
        return name

    def member(self, index: int, name: str, start: str, size: int) -> str:
        """Add an array to the state; `start` is a table of its first values, or one value."""
        member = f"l{index}_{name}"
        self.members.append(f"    float {member}[{size}];")
        source = start if start.endswith("f") and start[:1] in "-0123456789" else f"{start}[i]"
        self.starts.append(
            f"    for (i = 0; i < {size}; i++)\n        state->{member}[i] = {source};"
        )
        self.state_bytes += 4 * size
        return f"state->{member}"

    def value(self, index: int) -> str:
        """Open a block for a layer; return the expression of its input, summed if need be."""
        sources = self.plan.sources[index]
        width = self.plan.widths[sources[0]]
        if len(sources) == 1:
            return self.plan_name(sources[0])
        total = " + ".join(f"{self.plan_name(source)}[i]" for source in sources)
        self.steps.append(
            f"    float sum{index}[{width}];\n"
            f"    for (i = 0; i < {width}; i++)\n        sum{index}[i] = {total};"
        )
        return f"sum{index}"

    def out(self, index: int) -> str:
        """Declare what a layer gives, unless it is the result, and return its name."""
        name = self.plan_name(index + 1)
        if name != "shape_db":
            self.steps.append(f"    float {name}[{self.plan.widths[index + 1]}];")
        return name

    def plan_name(self, value: int) -> str:
        """Name of a value in the source."""
        if value == 0:
            return "vector_db"
        return "shape_db" if value == len(self.plan.sources) else f"v{value}"

    def activate(self, name: str, values: str, size: int) -> str:
        """Return the statement that applies an activation in place; empty for none."""
        if name == "linear":
            return ""
        function = f"act_{'silu' if name == 'swish' else name}"
        self.need(function)
        return f"\n    for (i = 0; i < {size}; i++)\n        {values}[i] = {function}({values}[i]);"

    def finish(self, network: Network) -> CSource:
        """Put all parts together."""
        facts = {
            "name": self.name,
            "NAME": self.name.upper(),
            "title": network.name,
            "sha256": network.sha256,
            "does": str(network.card.get("does", "")),
            "bands": K,
            "frame_ms": network.frame_ms,
            "multiply_adds": self.plan.multiply_adds,
        }
        state = "\n".join(self.members) or "    char none; /* it has no memory */"
        header = templates.HEADER.format(**facts, members=state)
        silence = "" if self.members else "    (void)state;\n"
        steps = "\n".join(self.steps)
        counter = "    int i;\n"
        source = templates.SOURCE.format(
            **facts,
            helpers="\n".join(templates.HELPERS[name] for name in self.helpers),
            tables="\n".join(self.tables),
            starts=(counter if self.starts else silence) + "\n".join(self.starts),
            steps=(counter if "for (i" in steps else "") + silence + steps,
        )
        return CSource(
            self.name, source, header, self.weight_bytes, self.state_bytes, self.plan.multiply_adds
        )


def _table(name: str, values: np.ndarray) -> str:
    flat = [_number(value) for value in np.ravel(values).astype(np.float32)]
    lines = [
        "    " + ", ".join(flat[first : first + PER_LINE])
        for first in range(0, len(flat), PER_LINE)
    ]
    return f"static const float {name}[{len(flat)}] = {{\n" + ",\n".join(lines) + "\n};\n"


def _number(value: Any) -> str:
    """Return a float32 as C writes it, exactly."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if set(text) & set(".en") else f"{text}.0f"


# ------------------------------------------------------------------------- a layer at a time


def _dense(writer: _Writer, index: int, layer: Any) -> None:
    taken, out = writer.value(index), writer.out(index)
    kernel = writer.table(f"l{index}_kernel", layer.kernel)
    bias = writer.table(f"l{index}_bias", layer.bias)
    writer.need("affine")
    rows, columns = layer.kernel.shape
    writer.steps.append(
        f"    affine({taken}, {rows}, {kernel}, {bias}, {out}, {columns});"
        + writer.activate(layer.activation, out, columns)
    )


def _each(writer: _Writer, index: int, expression: str) -> None:
    """Write a layer that works on each value by itself; X stands for the value."""
    taken, out = writer.value(index), writer.out(index)
    size = writer.plan.widths[index + 1]
    writer.steps.append(
        f"    for (i = 0; i < {size}; i++)\n"
        f"        {out}[i] = {expression.replace('X', f'{taken}[i]')};"
    )


def _activation(writer: _Writer, index: int, layer: Any) -> None:
    name = "silu" if layer.activation == "swish" else layer.activation
    if name != "linear":
        writer.need(f"act_{name}")
    _each(writer, index, "X" if name == "linear" else f"act_{name}(X)")


def _scale(writer: _Writer, index: int, layer: Any) -> None:
    scale = writer.table(f"l{index}_scale", layer.scale)
    offset = writer.table(f"l{index}_offset", layer.offset)
    at = "0" if layer.scale.size == 1 else "i"
    _each(writer, index, f"X * {scale}[{at}] + {offset}[{at}]")


def _relu(writer: _Writer, index: int, layer: Any) -> None:
    threshold, slope = _number(layer.threshold), _number(layer.slope)
    kept = f"X >= {threshold} ? X : {slope} * (X - {threshold})"
    most = "" if layer.most is None else _number(layer.most)
    _each(writer, index, f"fminf({kept}, {most})" if most else kept)


def _gru(writer: _Writer, index: int, layer: Any) -> None:
    units = layer.outputs
    edge = 2 * units
    taken, out = writer.value(index), writer.out(index)
    kernel = writer.table(f"l{index}_kernel", layer.kernel)
    bias = writer.table(f"l{index}_bias", layer.bias[0])
    gates = writer.table(f"l{index}_gates", layer.recurrent_kernel[:, :edge])
    gates_bias = writer.table(f"l{index}_gates_bias", layer.bias[1, :edge])
    candidate = writer.table(f"l{index}_candidate", layer.recurrent_kernel[:, edge:])
    candidate_bias = writer.table(f"l{index}_candidate_bias", layer.bias[1, edge:])
    state = writer.member(index, "h", "0.0f", units)
    writer.need("affine")
    writer.steps.append(
        templates.GRU_AFTER.format(**locals(), inputs=layer.inputs, wide=3 * units)
        if layer.reset_after
        else templates.GRU_BEFORE.format(**locals(), inputs=layer.inputs, wide=3 * units)
    )
    text = writer.steps.pop()
    text = text.replace("GATE;", writer.activate(layer.recurrent_activation, "g", edge).strip())
    text = text.replace("SQUASH;", writer.activate(layer.activation, "c", units).strip())
    writer.steps.append(text)


def _lstm(writer: _Writer, index: int, layer: Any) -> None:
    units = layer.outputs
    taken, out = writer.value(index), writer.out(index)
    kernel = writer.table(f"l{index}_kernel", layer.kernel)
    bias = writer.table(f"l{index}_bias", layer.bias)
    recurrent = writer.table(f"l{index}_recurrent", layer.recurrent_kernel)
    zeros = writer.table(f"l{index}_zeros", np.zeros_like(layer.bias))
    state = writer.member(index, "h", "0.0f", units)
    cell = writer.member(index, "c", "0.0f", units)
    writer.need("affine")

    def function(name: str) -> str:
        if name == "linear":
            return ""
        writer.need(f"act_{'silu' if name == 'swish' else name}")
        return f"act_{'silu' if name == 'swish' else name}"

    writer.steps.append(
        templates.LSTM.format(
            **{k: v for k, v in locals().items() if k != "function"},
            inputs=layer.inputs,
            wide=4 * units,
            gate=function(layer.recurrent_activation),
            squash=function(layer.activation),
        )
    )


def _recursive_estimator(writer: _Writer, index: int, layer: Any) -> None:
    taken, out = writer.value(index), writer.out(index)
    names = ("reference", "start", "start_weight", *_KERNELS)
    tables = {name: writer.table(f"l{index}_{name}", getattr(layer, name)) for name in names}
    bands = layer.outputs
    members = {
        "curve": writer.member(index, "curve", tables["start"], bands),
        "weight": writer.member(index, "weight", tables["start_weight"], bands),
        "surprise": writer.member(index, "surprise", "0.0f", bands),
        "peak": writer.member(index, "peak", _number(layer.silence_db), 1),
    }
    settings = ("least_weight", "surprise_rate", "peak_fall_db", "level_range_db")
    numbers = {name: _number(getattr(layer, name)) for name in (*settings, "silence_db")}
    gate = dict.fromkeys(templates.GATE, "")
    if layer.gate_db:
        last = writer.member(index, "last", "0.0f", bands)
        still = _number(np.float32(layer.gate_db) ** 2)
        gate = {
            name: text.format(taken=taken, bands=bands, last=last, still=still)
            for name, text in templates.GATE.items()
        }
    writer.need("affine", "act_sigmoid", "act_softplus", "within", "leaky")
    writer.steps.append(
        templates.RECURSIVE_ESTIMATOR.format(
            **tables,
            **members,
            **numbers,
            **gate,
            taken=taken,
            out=out,
            bands=bands,
            seen=bands + 3,
            hidden1=layer.bias1.size,
            hidden2=layer.bias2.size,
            given=3 * bands + 1,
            leak=_number(layer.LEAK),
            unit_db=_number(layer.UNIT_DB),
            level_floor=_number(layer.LEVEL_FLOOR),
            reach_db=_number(layer.reach_db),
            reach=_number(np.float32(layer.reach_db) / np.float32(layer.UNIT_DB)),
        )
    )


_KERNELS = ("kernel1", "bias1", "kernel2", "bias2", "kernel3", "bias3")

_EMITTERS: dict[str, Callable[[_Writer, int, Layer], None]] = {
    "Dense": _dense,
    "Activation": _activation,
    "Scale": _scale,
    "Relu": _relu,
    "GRU": _gru,
    "LSTM": _lstm,
    "RecursiveEstimator": _recursive_estimator,
    "GatedEstimator": _recursive_estimator,
}
"""Layer class to the function that writes it in C."""
