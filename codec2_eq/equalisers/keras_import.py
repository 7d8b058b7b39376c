# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keras models to network files that run without Keras, and a cache of those made.

A model is converted layer by layer by the functions in `CONVERTERS`, then run in both, so that
a layer option we do not know of cannot pass unnoticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.codec2 import K
from codec2_eq.equalisers.layers import Activation, Dense, Layer, Scale
from codec2_eq.equalisers.network import Network, load_network
from codec2_eq.equalisers.recurrent import GRU
from codec2_eq.errors import Codec2EqError, missing_extra
from codec2_eq.files import read_error

AGREEMENT = 1e-4  # largest difference from Keras, relative and absolute


def import_keras() -> Any:
    """Import Keras without TensorFlow's start-up messages.

    They come from C++ and go to the descriptor, past sys.stderr and its filters.
    Raises Codec2EqError, naming the extra to install, where there is no TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # the faster kernels sum in an order of their own, which moves a training's last digits
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with _silent_stderr():
            import keras
            import tensorflow  # noqa: F401  # Keras puts this off, and with it the messages

            keras.ops.zeros(1)  # makes TensorFlow look for a GPU, and say so, now
    except ImportError as error:
        raise missing_extra("Keras networks", "train", error) from error
    return keras


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


# ------------------------------------------------------------------------------ conversion


class _Unsupported(Exception):
    """Raised by a converter, with what it is about the layer that cannot be run."""


def _array(tensor: Any) -> np.ndarray:
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
        raise _Unsupported("changes the shape of a frame")
    return []


def _dense(layer: Any) -> list[Layer]:
    kernel = _array(layer.kernel)
    bias = _array(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32)
    return [Dense(kernel, bias, _activation(layer))]


def _activation_layer(layer: Any) -> list[Layer]:
    return [Activation(_activation(layer))]


def _gru(layer: Any) -> list[Layer]:
    if not layer.return_sequences:
        raise _Unsupported("gives one vector for all frames; set return_sequences=True")
    if layer.go_backwards:
        raise _Unsupported("goes backwards; an equaliser hears the past only")
    cell = layer.cell
    bias = np.zeros((2, 3 * cell.units), np.float32)
    if cell.use_bias:
        # without reset_after there is one bias, on the side of the input
        bias[: 2 if cell.reset_after else 1] = _array(cell.bias)
    return [
        GRU(
            _array(cell.kernel),
            _array(cell.recurrent_kernel),
            bias,
            activation=_activation(cell),
            recurrent_activation=_activation(cell, cell.recurrent_activation),
            reset_after=bool(cell.reset_after),
        )
    ]


def _rnn(layer: Any) -> list[Layer]:
    if not hasattr(layer.cell, "exported"):
        raise _Unsupported(f"runs a {type(layer.cell).__name__}, which is not supported")
    if not layer.return_sequences or layer.go_backwards or layer.cell.tell_trim:
        raise _Unsupported("does not give one shape a frame, in their order")
    return [layer.cell.exported()]


def _scale(scale: Any, offset: Any) -> list[Layer]:
    pair = np.broadcast_arrays(np.ravel(scale), np.ravel(offset))
    return [Scale(*(np.array(part, np.float32) for part in pair))]


def _rescaling(layer: Any) -> list[Layer]:
    return _scale(layer.scale, layer.offset)


def _normalization(layer: Any) -> list[Layer]:
    if layer.invert:
        raise _Unsupported("has invert=True; use Rescaling")
    deviation = np.maximum(np.sqrt(_array(layer.variance)), 1e-7)  # Keras' epsilon
    return _scale(1 / deviation, -_array(layer.mean) / deviation)


def _batch_normalization(layer: Any) -> list[Layer]:
    scale = 1 / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * _array(layer.gamma)
    offset = -_array(layer.moving_mean) * scale
    return _scale(scale, offset + _array(layer.beta) if layer.center else offset)


def _time_distributed(layer: Any) -> list[Layer]:
    inner = layer.layer
    if type(inner).__name__ not in CONVERTERS:
        raise _Unsupported(f"holds a {type(inner).__name__}, which is not supported")
    return CONVERTERS[type(inner).__name__](inner)


CONVERTERS: dict[str, Callable[[Any], list[Layer]]] = {
    "Dense": _dense,
    "GRU": _gru,
    "RNN": _rnn,
    "Activation": _activation_layer,
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


def from_keras(model: Any, name: str, *, card: dict[str, Any] | None = None) -> Network:
    """Convert a Keras model, layers in a row, and check that it gives what Keras gives.

    model : a Sequential or Functional model of (frames, values) or (batch, frames, values).
    Raises Codec2EqError, naming the layer, for one that is not supported.
    """
    layers: list[Layer] = []
    for i, layer in enumerate(model.layers):
        kind = type(layer).__name__
        _require_supported(name, i, layer.name, kind)
        try:
            layers += CONVERTERS[kind](layer)
        except (_Unsupported, Codec2EqError) as error:
            raise Codec2EqError(f"{name}: layer {i} {layer.name!r} ({kind}) {error}") from error
    network = Network(name, layers, card=card)
    _require_agreement(model, network)
    return network


def _require_supported(name: str, index: int, layer_name: str, kind: str) -> None:
    if kind not in CONVERTERS:
        raise Codec2EqError(
            f"{name}: layer {index} {layer_name!r} is a {kind}, which is not supported; "
            f"these are: {', '.join(CONVERTERS)}"
        )


def _require_agreement(model: Any, network: Network) -> None:
    batch, *frames, values = model.input_shape
    if len(frames) > 1 or values is None:
        raise Codec2EqError(
            f"{network.name}: takes input of shape {model.input_shape}; "
            "expected (frames, values) or (batch, frames, values)"
        )
    n_frames = (frames[0] or 8) if frames else (batch or 8)
    # of size 1, where neither a saturated nor an exploding activation hides a difference
    x = np.random.default_rng(0).standard_normal((n_frames, values)).astype(np.float32)
    fed = np.broadcast_to(x, (batch or 1, *x.shape)) if frames else x
    theirs = _array(model(fed, training=False)).reshape(-1, n_frames, network.outputs or values)
    if not np.allclose(network(x), theirs[0], rtol=AGREEMENT, atol=AGREEMENT):
        raise Codec2EqError(
            f"{network.name}: runs differently here than in Keras; "
            "use a plain row of layers with their usual options"
        )


# ----------------------------------------------------------------------------------- cache


def load_keras(path: str | Path) -> Network:
    """Read a ``.keras`` file; Keras is needed only if it was not converted before.

    A conversion is looked for beside the file (``NAME.npz``, ``NAME.keras.npz``), then in the
    user's cache, and is used if it is of this very content; a new one goes to
    ``NAME.keras.npz``, or to the cache if that cannot be written.
    """
    path = Path(path)
    digest = keras_sha256(path)
    beside = path.with_name(path.name + ".npz")
    cached = _cache_dir() / f"{digest}.npz"
    for candidate in (path.with_suffix(".npz"), beside, cached):
        with contextlib.suppress(Codec2EqError):
            network = load_network(candidate)
            if network.card.get("keras_sha256") == digest:
                return network
    network = _convert(path, digest)
    for place in (beside, cached):
        if place.exists() and not _is_conversion(place):
            continue
        with contextlib.suppress(Codec2EqError, OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            network.save(place, force=True)
            break
    return network


def _is_conversion(path: Path) -> bool:
    """Whether a file was written by `load_keras`, and may be written again."""
    try:
        return "keras_sha256" in load_network(path).card
    except Codec2EqError:
        return False


def keras_sha256(path: str | Path) -> str:
    """Hash of what a ``.keras`` file computes: its layers and weights.

    Dates, addresses in the memory of the process that wrote it and its optimiser stay out, so
    that training again with the same seed gives the same hash.
    Raises Codec2EqError if it is not such a file.
    """
    config, weights = _read_parts(Path(path))
    digest = hashlib.sha256(json.dumps(_essence(config), sort_keys=True).encode())
    digest.update(weights)
    return digest.hexdigest()


def _essence(config: Any) -> Any:
    if isinstance(config, dict):
        return {k: _essence(v) for k, v in config.items() if k != "shared_object_id"}
    return [_essence(item) for item in config] if isinstance(config, list) else config


def _read_parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return a ``.keras`` file's configuration and its weights, an HDF5 file."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            return config["config"], archive.read("model.weights.h5")
    except OSError as error:
        raise read_error(str(path), error) from error
    except (
        EOFError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise Codec2EqError(
            f"{path}: not a .keras file; write one with model.save('NAME.keras')"
        ) from error


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codec2_eq"


def _convert(path: Path, digest: str) -> Network:
    _require_known_classes(path)
    keras = import_keras()
    from codec2_eq.equalisers import keras_cell  # noqa: F401  # makes its cell known to Keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except (OSError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Codec2EqError(f"{path}: Keras cannot read it: {reason}") from error
    try:
        return from_keras(model, path.stem, card={"keras_sha256": digest})
    except Codec2EqError as error:
        raise Codec2EqError(f"{path}: {str(error).removeprefix(f'{path.stem}: ')}") from error
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Codec2EqError(
            f"{path}: no row of layers with one input and one output, built for frames of {K} "
            f"values ({reason}); build it so and save it again"
        ) from error


def _require_known_classes(path: Path) -> None:
    """Name an unsupported layer before TensorFlow starts, and even where there is none."""
    config, _ = _read_parts(path)
    try:
        kinds = [(layer["config"]["name"], layer["class_name"]) for layer in config["layers"]]
    except (KeyError, TypeError) as error:
        raise Codec2EqError(
            f"{path}: not a Sequential or Functional model; only layers in a row are supported"
        ) from error
    for i, (name, kind) in enumerate(kinds):
        _require_supported(str(path), i, name, kind)
