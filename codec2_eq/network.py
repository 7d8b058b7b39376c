# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trained networks without their trainer: a ``.npz`` file and a forward pass in NumPy.

A network file holds the arrays ``<layer>.<name>`` (float32) and ``meta``, a JSON text::

    {"format": "codec2_eq network", "version": 1, "name": ..., "frame_ms": 40,
     "layers": [{"kind": "dense", "activation": "linear"}, ...], "card": {...}}

A layer kind is a class registered in `LAYERS`; its array fields are stored as arrays and its
other fields in ``layers``. Rows are frames: each layer maps (n, inputs) to (n, outputs) and
takes and gives back its state, so that any division of the frames into calls, down to none
at all, gives the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from codec2_eq.affine import affine
from codec2_eq.errors import Codec2EqError
from codec2_eq.estimator import estimate
from codec2_eq.files import atomic_output, read_error

FORMAT = "codec2_eq network"
FORMAT_VERSION = 1
KERAS_FRAME_MS = 40  # the frame interval that a network is taken to be trained at, if it is silent

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


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Codec2EqError(what)


def _require_activation(name: str) -> None:
    _require(
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
        _require(
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
        _require(
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
        _require(
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
    W = max(sigmoid(keep) W, least_weight) + fresh; c += 10 (fresh / W) news;
    surprise += surprise_rate fresh / (1 + fresh) (news - surprise): near zero while the curve
    holds, large where speaker or microphone changed;
    output = shape - c - 10 trim, less its mean.

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

    def __post_init__(self) -> None:
        bands = self.outputs
        widths = [bands + 3, self.bias1.size, self.bias2.size, 3 * bands + 1]
        kernels = (self.kernel1, self.kernel2, self.kernel3)
        _require(
            all(v.shape == (bands,) for v in (self.reference, self.start, self.start_weight))
            and self.bias3.shape == (3 * bands + 1,)
            and [k.shape for k in kernels] == list(itertools.pairwise(widths)),
            f"recursive_estimator: kernels {[k.shape for k in kernels]} do not fit {bands} bands",
        )
        _require(
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
            *(self.least_weight, self.surprise_rate, self.peak_fall_db),
            *(self.level_range_db, self.silence_db),
        )
        return out, after


def _array_names(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.type in ("np.ndarray", np.ndarray)]


def _settings(layer: Layer) -> dict[str, Any]:
    cls: Any = type(layer)
    arrays = _array_names(cls)
    return {"kind": layer.kind} | {
        f.name: getattr(layer, f.name) for f in dataclasses.fields(cls) if f.name not in arrays
    }


# -------------------------------------------------------------------------------- network


class Network:
    """Layers in a row.

    name : what it is called. layers : instances of registered layer kinds.
    frame_ms : interval between the frames it was trained on. card : facts about it, JSON-able.
    Raises Codec2EqError where a layer does not fit the one before it.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[Layer],
        *,
        frame_ms: int = KERAS_FRAME_MS,
        card: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.layers = list(layers)
        self.frame_ms = frame_ms
        self.card = dict(card or {})
        self.inputs: int | None = None
        self.outputs: int | None = None  # of the layers so far
        for i, layer in enumerate(self.layers):
            wanted = layer.inputs
            _require(
                None in (wanted, self.outputs) or wanted == self.outputs,
                f"layer {i} ({layer.kind}) takes {wanted} values, "
                f"but the layer before it gives {self.outputs}",
            )
            if self.outputs is None:
                self.inputs = self.outputs = wanted
            if layer.outputs is not None:
                self.outputs = layer.outputs
        self.sha256 = self._hash()

    @property
    def stateful(self) -> bool:
        """Whether a frame's output depends on the frames before it."""
        return any(layer.initial_state() for layer in self.layers)

    def initial_state(self) -> State:
        """State before the first frame: the layers' arrays, named ``<layer>.<name>``."""
        return {
            f"{i}.{name}": value
            for i, layer in enumerate(self.layers)
            for name, value in layer.initial_state().items()
        }

    def forward(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Run (n, inputs) float32 frames in C order through all layers.

        Returns (n, outputs) float32 and the state for the frames that follow. The state
        passed in is not modified: keep it, or save it with ``np.savez``, to resume there.
        """
        after: State = {}
        for i, layer in enumerate(self.layers):
            prefix = f"{i}."
            own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            x, own = layer.forward(x, own)
            after.update({prefix + k: v for k, v in own.items()})
        return x, after

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Run whole frames from the initial state."""
        rows = np.ascontiguousarray(x, np.float32)
        _require(
            rows.ndim == 2 and self.inputs in (None, rows.shape[1]),
            f"{self.name}: input of shape {rows.shape}, expected (frames, {self.inputs})",
        )
        return self.forward(rows, self.initial_state())[0]

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            f"{i}.{name}": getattr(layer, name)
            for i, layer in enumerate(self.layers)
            for name in _array_names(type(layer))
        }

    def _hash(self) -> str:
        """sha256 over the layers and their weights: the model's version.

        Not over the file, whose card may tell more from one training to the next.
        """
        digest = hashlib.sha256()
        layers = [_settings(layer) for layer in self.layers]
        digest.update(json.dumps([self.frame_ms, layers], sort_keys=True).encode())
        for name, array in self._arrays().items():
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.astype("<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the network; the file appears whole, or not at all.

        Raises Codec2EqError if the file exists and `force` is false, or cannot be written.
        """
        meta = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "name": self.name,
            "frame_ms": self.frame_ms,
            "layers": [_settings(layer) for layer in self.layers],
            "card": self.card,
        }
        content = io.BytesIO()
        np.savez(content, meta=np.array(json.dumps(meta)), **self._arrays())  # type: ignore[arg-type]
        with atomic_output(path, force=force) as stream:
            stream.write(content.getbuffer())


def load_network(path: str | Path) -> Network:
    """Read a network file.

    Raises Codec2EqError, naming the file, if it cannot be read, is no network, is of a later
    format, or has a layer of unknown kind.
    """
    try:
        # memory, because a file object that fails half way stays open within NumPy
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as arrays:
            return _from_arrays(arrays)
    except OSError as error:
        raise read_error(str(path), error) from error
    except Codec2EqError as error:
        raise Codec2EqError(f"{path}: {error}") from error
    except (IndexError, KeyError, TypeError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise Codec2EqError(
            f"{path}: not a network file; write one with `codec2-eq train`, or pass the .keras file"
        ) from error


def _from_arrays(arrays: Any) -> Network:
    meta = json.loads(str(arrays["meta"]))
    if meta["format"] != FORMAT:
        raise ValueError(meta["format"])
    _require(
        meta["version"] <= FORMAT_VERSION,
        f"network format {meta['version']}, this version reads up to {FORMAT_VERSION}; "
        "install a newer codec2_eq",
    )
    layers = []
    for i, settings in enumerate(meta["layers"]):
        kind = settings.pop("kind")
        _require(
            kind in LAYERS,
            f"layer {i} is of kind {kind!r}, which is not supported; these are: "
            f"{', '.join(LAYERS)}",
        )
        cls = LAYERS[kind]
        weights = {
            name: np.ascontiguousarray(arrays[f"{i}.{name}"], np.float32)
            for name in _array_names(cls)
        }
        _require(
            all(np.isfinite(w).all() for w in weights.values()),
            f"layer {i} ({kind}) has weights that are not finite; train it again",
        )
        layers.append(cls(**weights, **settings))
    return Network(meta["name"], layers, frame_ms=meta["frame_ms"], card=meta["card"])
