# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network as an ONNX graph of one frame, its state as inputs and outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from codec2_eq.codec2 import K
from codec2_eq.equalisers.export_graph import Tracer, state_name
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import require_extra
from codec2_eq.files import PathLike, open_output

OPSET = 17
_OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "matmul": "MatMul",
    "maximum": "Max",
    "minimum": "Min",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "erf": "Erf",
    "abs": "Abs",
}


class _Graph:
    """Collects nodes and weights; values are their names."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        self._helper = helper
        self._numpy_helper = numpy_helper
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, operator: str, *values: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(operator, list(values), [name], **attributes))
        return name

    def weight(self, array: np.ndarray, name: str = "") -> str:
        name = name or f"w{len(self.weights)}"
        self.weights.append(self._numpy_helper.from_array(array, name))
        return name

    def constant(self, array: np.ndarray) -> str:
        rows = np.ascontiguousarray(array, np.float32)
        return self.weight(rows if rows.ndim == 2 else rows[None])

    def apply(self, name: str, *values: str) -> str:
        if name == "at_least":
            one = self.node("GreaterOrEqual", *values)
            return self.node("Cast", one, to=1)  # to float32
        return self.node(_OPERATORS[name], *values)

    def mean(self, value: str) -> str:
        return self.node("ReduceMean", value, axes=[1], keepdims=1)

    def join(self, values: list[str]) -> str:
        return self.node("Concat", *values, axis=1)

    def part(self, value: str, first: int, end: int) -> str:
        first_end_axis = (self.weight(np.array([n], np.int64)) for n in (first, end, 1))
        return self.node("Slice", value, *first_end_axis)


def write_onnx(network: Network, path: PathLike, *, force: bool = False) -> int:
    """Write a graph of one frame; return its size in bytes.

    Inputs: ``vector`` (1, K) dB and the state, of which each array may be left out at the first
    frame. Outputs: ``shape`` (1, K) dB and the state after, each ``…_next``.
    Raises Codec2EqError for a layer that has no graph, or if `onnx` is not installed.
    """
    require_extra("ONNX graphs", "export", "onnx")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = _Graph(helper, numpy_helper)
    start = {name: value[None] for name, value in network.initial_state().items()}
    names = {name: graph.weight(value, state_name(name)) for name, value in start.items()}
    shape, after = Tracer(graph).trace(network, "vector", names)
    results = {"shape": shape} | {f"{state_name(name)}_next": v for name, v in after.items()}
    for name, value in results.items():
        graph.nodes.append(helper.make_node("Identity", [value], [name]))

    def described(name: str, size: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])

    sizes = {state_name(name): value.size for name, value in start.items()}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "equaliser",
            [described("vector", K), *(described(*item) for item in sizes.items())],
            [described("shape", K), *(described(f"{n}_next", s) for n, s in sizes.items())],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="codec2_eq",
    )
    facts = {"name": network.name, "sha256": network.sha256, "licence": "LGPL-2.1-or-later"}
    helper.set_model_props(model, {**facts, "frame_ms": str(network.frame_ms)})
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    with open_output(path, force=force) as handle:
        handle.write(content)
    return len(content)
