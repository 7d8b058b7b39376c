# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network as a LiteRT (TensorFlow Lite) graph of one frame, its state as inputs and outputs."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.codec2 import K
from codec2_eq.equalisers.export_graph import Tracer, state_name
from codec2_eq.equalisers.keras_import import import_keras, silent_stderr
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import Codec2EqError, require_extra
from codec2_eq.files import PathLike, open_output

AGREEMENT = 1e-4  # largest difference from the network, relative and absolute


class _Operations:
    """Keras' operations on symbolic values."""

    def __init__(self, keras: Any) -> None:
        self._ops = keras.ops
        self._named = {
            "softplus": keras.ops.softplus,
            "sigmoid": keras.ops.sigmoid,
            "erf": keras.ops.erf,
        }

    def constant(self, array: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(array, np.float32)
        return rows if rows.ndim == 2 else rows[None]

    def apply(self, name: str, *values: Any) -> Any:
        if name == "at_least":
            return self._ops.cast(self._ops.greater_equal(*values), "float32")
        return self._named.get(name, getattr(self._ops, name))(*values)

    def mean(self, value: Any) -> Any:
        return self._ops.mean(value, axis=1, keepdims=True)

    def join(self, values: list[Any]) -> Any:
        return self._ops.concatenate(values, axis=1)

    def part(self, value: Any, first: int, end: int) -> Any:
        return value[:, first:end]


def write_litert(network: Network, path: PathLike, *, force: bool = False) -> int:
    """Write a graph of one frame; return its size in bytes.

    Signature ``serve``: ``vector`` (1, K) dB and the state in; ``shape`` (1, K) dB and the state
    after, each ``…_next``, out. The graph is run beside the network before it is written, because
    converters may lose weights without a word.
    Raises Codec2EqError for a layer that has no graph, a package that is missing, or where the two
    differ.
    """
    require_extra("LiteRT graphs", "export", "ai_edge_litert.interpreter")
    keras = import_keras()
    import tensorflow as tf

    start = {state_name(n): (n, v[None]) for n, v in network.initial_state().items()}
    tracer = Tracer(_Operations(keras))

    def step(vector: Any, **states: Any) -> dict[str, Any]:
        held = {start[name][0]: value for name, value in states.items()}
        shape, after = tracer.trace(network, vector, held)
        return {"shape": shape} | {f"{state_name(n)}_next": v for n, v in after.items()}

    specs = {
        name: tf.TensorSpec((1, v.shape[1]), tf.float32, name) for name, (_, v) in start.items()
    }
    module = tf.Module()
    module.step = tf.function(step).get_concrete_function(
        vector=tf.TensorSpec((1, K), tf.float32, "vector"), **specs
    )
    with tempfile.TemporaryDirectory() as folder, silent_stderr():
        with contextlib.redirect_stdout(io.StringIO()):
            tf.saved_model.save(module, folder, signatures={"serve": module.step})
            content = tf.lite.TFLiteConverter.from_saved_model(
                folder, signature_keys=["serve"]
            ).convert()
        _require_agreement(network, content, folder)
    with open_output(path, force=force) as handle:
        handle.write(content)
    return len(content)


def _require_agreement(network: Network, content: bytes, folder: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = Path(folder) / "graph.tflite"
    path.write_bytes(content)
    step = Interpreter(str(path)).get_signature_runner("serve")
    rows = np.random.default_rng(0).normal(20, 10, (12, K)).astype(np.float32)
    states = {state_name(n): v[None] for n, v in network.initial_state().items()}
    shapes = []
    for row in rows:
        given = step(vector=row[None], **states)
        shapes.append(given["shape"][0])
        states = {name: given[f"{name}_next"] for name in states}
    if not np.allclose(shapes, network(rows), rtol=AGREEMENT, atol=AGREEMENT):
        raise Codec2EqError(
            network.name,
            "its LiteRT graph gives other values than the network",
            "export it as ONNX or C instead",
        )
