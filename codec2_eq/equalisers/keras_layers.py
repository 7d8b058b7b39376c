# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keras layers to ours: which are known, and a model of them as a network's layers and wiring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from codec2_eq.equalisers.layers import Activation, Dense, Layer, Relu, Scale
from codec2_eq.equalisers.recurrent import GRU, LSTM
from codec2_eq.errors import Codec2EqError


class Unsupported(Exception):
    """Raised by a converter, with what it is about the layer that cannot be run."""


def as_array(tensor: Any) -> np.ndarray:
    """Return a tensor or variable of Keras as float32."""
    from keras import ops

    return np.array(ops.convert_to_numpy(tensor), np.float32)


def _activation(layer: Any, function: Any = None) -> str:
    from keras import activations

    name = activations.serialize(layer.activation if function is None else function)
    return name if isinstance(name, str) else str(name.get("class_name", name))


def _nothing(layer: Any) -> list[Layer]:
    return []


def _only_if_same_shape(layer: Any) -> list[Layer]:
    if layer.input.shape != layer.output.shape:
        raise Unsupported("changes the shape of a frame")
    return []


def _dense(layer: Any) -> list[Layer]:
    kernel = as_array(layer.kernel)
    bias = as_array(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32)
    return [Dense(kernel, bias, _activation(layer))]


def _activation_layer(layer: Any) -> list[Layer]:
    return [Activation(_activation(layer))]


def _relu(layer: Any) -> list[Layer]:
    most = None if layer.max_value is None else float(layer.max_value)
    return [Relu(float(layer.negative_slope), float(layer.threshold), most)]


def _leaky_relu(layer: Any) -> list[Layer]:
    return [Relu(float(layer.negative_slope))]


def _require_causal(layer: Any) -> None:
    if not layer.return_sequences:
        raise Unsupported("gives one vector for all frames; set return_sequences=True")
    if layer.go_backwards:
        raise Unsupported("goes backwards; an equaliser hears the past only")
    if layer.return_state:
        raise Unsupported("gives its state too; set return_state=False")


def _gru(layer: Any) -> list[Layer]:
    _require_causal(layer)
    cell = layer.cell
    bias = np.zeros((2, 3 * cell.units), np.float32)
    if cell.use_bias:
        # without reset_after there is one bias, on the side of the input
        bias[: 2 if cell.reset_after else 1] = as_array(cell.bias)
    return [
        GRU(
            as_array(cell.kernel),
            as_array(cell.recurrent_kernel),
            bias,
            activation=_activation(cell),
            recurrent_activation=_activation(cell, cell.recurrent_activation),
            reset_after=bool(cell.reset_after),
        )
    ]


def _lstm(layer: Any) -> list[Layer]:
    _require_causal(layer)
    cell = layer.cell
    bias = as_array(cell.bias) if cell.use_bias else np.zeros(4 * cell.units, np.float32)
    return [
        LSTM(
            as_array(cell.kernel),
            as_array(cell.recurrent_kernel),
            bias,
            activation=_activation(cell),
            recurrent_activation=_activation(cell, cell.recurrent_activation),
        )
    ]


def _rnn(layer: Any) -> list[Layer]:
    if not hasattr(layer.cell, "exported"):
        raise Unsupported(f"runs a {type(layer.cell).__name__}, which is not supported")
    _require_causal(layer)
    if layer.cell.tell_trim:
        raise Unsupported("puts out trims too, as only a training needs them")
    return [layer.cell.exported()]


def _scale(scale: Any, offset: Any) -> list[Layer]:
    pair = np.broadcast_arrays(np.ravel(scale), np.ravel(offset))
    return [Scale(*(np.array(part, np.float32) for part in pair))]


def _rescaling(layer: Any) -> list[Layer]:
    return _scale(layer.scale, layer.offset)


def _normalization(layer: Any) -> list[Layer]:
    if layer.invert:
        raise Unsupported("has invert=True; use Rescaling")
    deviation = np.maximum(np.sqrt(as_array(layer.variance)), 1e-7)  # Keras' epsilon
    return _scale(1 / deviation, -as_array(layer.mean) / deviation)


def _batch_normalization(layer: Any) -> list[Layer]:
    scale = 1 / np.sqrt(as_array(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * as_array(layer.gamma)
    offset = -as_array(layer.moving_mean) * scale
    return _scale(scale, offset + as_array(layer.beta) if layer.center else offset)


def _time_distributed(layer: Any) -> list[Layer]:
    inner = layer.layer
    if type(inner).__name__ not in CONVERTERS:
        raise Unsupported(f"holds a {type(inner).__name__}, which is not supported")
    return CONVERTERS[type(inner).__name__](inner)


CONVERTERS: dict[str, Callable[[Any], list[Layer]]] = {
    "Dense": _dense,
    "GRU": _gru,
    "LSTM": _lstm,
    "RNN": _rnn,
    "Activation": _activation_layer,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "BatchNormalization": _batch_normalization,
    "TimeDistributed": _time_distributed,
    "Flatten": _only_if_same_shape,
    "Reshape": _only_if_same_shape,
    "InputLayer": _nothing,
    "Dropout": _nothing,
    "SpatialDropout1D": _nothing,
    "GaussianDropout": _nothing,
    "GaussianNoise": _nothing,
}
"""Keras class to the function that gives our layers for it; all but a few are one for one."""

ADD = "Add"
MODELS = ("Sequential", "Functional")
SUPPORTED = (*CONVERTERS, ADD, *MODELS)
"""Classes of which a model may be made."""


def require_supported(name: str, index: int, layer_name: str, kind: str) -> None:
    """Raise Codec2EqError, naming the layer, unless its class is supported."""
    if kind not in SUPPORTED:
        raise Codec2EqError(
            name,
            f"layer {index} {layer_name!r} is a {kind}, which is not supported",
            f"these are: {', '.join(SUPPORTED)}",
        )


class Wiring:
    """Layers and wires, as they are collected from a model of Keras.

    A number stands for what a layer gives: 0 for the model's input, i + 1 for our layer i.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []

    def add_model(self, model: Any, source: int) -> int:
        """Add all layers of a model that is given `source`; return what stands for its output."""
        if type(model).__name__ == "Sequential":
            for index, layer in enumerate(model.layers):
                source = self._add_layer(index, layer, [source])
            return source
        return _Graph(self, model, source).output()

    def _add_layer(self, index: int, layer: Any, sources: list[int]) -> int:
        kind = type(layer).__name__
        require_supported(self.name, index, layer.name, kind)
        if kind == ADD:
            return self._append(Activation("linear"), tuple(sources))
        if len(sources) != 1:
            raise Codec2EqError(
                self.name,
                f"layer {index} {layer.name!r} ({kind}) takes {len(sources)} inputs",
                "only Add takes several",
            )
        if kind in MODELS:
            return self.add_model(layer, sources[0])
        try:
            own = CONVERTERS[kind](layer)
        except (Unsupported, Codec2EqError) as error:
            raise Codec2EqError(
                self.name, f"layer {index} {layer.name!r} ({kind}) {error}"
            ) from error
        for part in own:
            sources = [self._append(part, tuple(sources))]
        return sources[0]

    def _append(self, layer: Layer, sources: tuple[int, ...]) -> int:
        self.layers.append(layer)
        self.sources.append(sources)
        return len(self.layers)


class _Graph:
    """A Functional model by its own description: who takes whose output."""

    def __init__(self, wiring: Wiring, model: Any, source: int) -> None:
        self._wiring = wiring
        described = model.get_config()
        self._layers = {config["name"]: config for config in described["layers"]}
        # not only layers: x + y is an operation
        self._operations = {each.name: each for each in model.operations}
        self._index = {name: index for index, name in enumerate(self._layers)}
        starts = _references(described["input_layers"])
        ends = _references(described["output_layers"])
        for number, what in ((len(starts), "takes {} inputs"), (len(ends), "gives {} outputs")):
            if number != 1:
                raise Codec2EqError(
                    wiring.name,
                    what.format(number),
                    "an equaliser takes vectors and gives shapes: build a keras.Model of these two",
                )
        layer, call = ends[0]
        if self._layers[layer]["class_name"] == "Functional":  # here Keras counts its making too
            call -= 1
        self._end = layer, call
        self._known = {starts[0]: source}

    def output(self) -> int:
        """Add what the output needs, in order, and return what stands for it."""
        pending = [self._end]
        opened = set()
        while pending:
            node = pending[-1]
            sources = [] if node in self._known else self._sources(node)
            if missing := [source for source in sources if source not in self._known]:
                if node in opened:  # it would never end
                    raise Codec2EqError(
                        self._wiring.name,
                        f"layer {node[0]!r} needs its own output",
                        "is it damaged?",
                    )
                opened.add(node)
                pending += reversed(missing)
                continue
            pending.pop()
            if node not in self._known:
                layer = self._operations[node[0]]
                self._known[node] = self._wiring._add_layer(
                    self._index[node[0]], layer, [self._known[source] for source in sources]
                )
        return self._known[self._end]

    def _sources(self, node: tuple[str, int]) -> list[tuple[str, int]]:
        call = self._layers[node[0]]["inbound_nodes"][node[1]]
        if list(_tensors(call["kwargs"])):
            raise Codec2EqError(
                self._wiring.name,
                f"layer {self._index[node[0]]} {node[0]!r} takes tensors by "
                "keyword, which is not supported",
            )
        return list(_tensors(call["args"]))


def _tensors(value: Any) -> Iterator[tuple[str, int]]:
    """Yield the layers, and which of their calls, whose outputs an argument is made of."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            layer, call, _ = value["config"]["keras_history"]
            yield layer, call
            return
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _references(value: Any) -> list[tuple[str, int]]:
    """Return the layers, and which of their calls, that a model's inputs or outputs are of."""
    if isinstance(value, dict):
        value = list(value.values())
    if len(value) == 3 and isinstance(value[0], str):
        return [(value[0], value[1])]
    return [reference for part in value for reference in _references(part)]
