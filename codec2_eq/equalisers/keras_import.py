# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keras models to network files that run without Keras, and a cache of those made.

A model is converted layer by layer (`keras_layers`), then run in both, so that a layer option we do
not know of cannot pass unnoticed. Keras builds nothing of a file before every class that the file
names, down to wrappers and nested models, is known to be a plain layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.codec2 import K
from codec2_eq.equalisers.archive import MOST_BYTES, require_small
from codec2_eq.equalisers.keras_layers import MODELS, SUPPORTED, Wiring, as_array, require_supported
from codec2_eq.equalisers.network import Network, load_network
from codec2_eq.errors import Codec2EqError, missing_extra
from codec2_eq.files import read_error

AGREEMENT = 1e-4  # largest difference from Keras, relative and absolute

TENSORFLOW_VARIABLES = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    # the faster kernels sum in an order of their own, which moves a training's last digits
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
"""Environment that TensorFlow finds while it starts, unless the user has set it."""

_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
HDF5_MAGIC = b"\x89HDF"
_MOST_UNASKED = 8 << 20
"""Weights that Keras may make of any file: 32 MB."""

CELL = ("RecursiveEstimatorCell", "codec2_eq>RecursiveEstimatorCell")
"""Class and registered name of the one cell that `RNN` may run."""

_HARMLESS = ("keras.initializers", "keras.regularizers", "keras.constraints")
"""Modules whose classes a layer's options may be of: they only matter in training."""


def import_keras() -> Any:
    """Import Keras without TensorFlow's start-up messages.

    They come from C++ and go to the descriptor, past sys.stderr and its filters.
    Raises Codec2EqError, naming the extra to install, where there is no TensorFlow.
    """
    try:
        with silent_stderr(), _environment(TENSORFLOW_VARIABLES):
            import keras
            import tensorflow  # noqa: F401  # Keras puts this off, and with it the messages

            keras.ops.zeros(1)  # makes TensorFlow look for a GPU, and say so, now
    except ImportError as error:
        raise missing_extra("Keras networks", "train", error) from error
    return keras


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set what is not set, and undo that at the end."""
    added = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Let nothing through to the descriptor of standard error."""
    if sys.stderr is not None:
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


def from_keras(model: Any, name: str, *, card: dict[str, Any] | None = None) -> Network:
    """Convert a Keras model, and check that it gives what Keras gives.

    model : a Sequential or Functional model of (frames, values) or (batch, frames, values), with
        one input and one output; layers in a row, or branches that are added
    Raises Codec2EqError, naming the layer, for one that is not supported.
    """
    wiring = Wiring(name)
    wiring.add_model(model, 0)
    network = Network(name, wiring.layers, wiring=wiring.sources, card=card)
    _require_agreement(model, network)
    return network


def _require_agreement(model: Any, network: Network) -> None:
    import keras

    shapes = keras.tree.flatten([tensor.shape for tensor in keras.tree.flatten(model.inputs)])
    batch, *frames, values = shapes
    if len(frames) > 1 or values is None:
        raise Codec2EqError(
            network.name,
            f"takes input of shape {tuple(shapes)}",
            "expected (frames, values) or (batch, frames, values)",
        )
    n_frames = (frames[0] or 8) if frames else (batch or 8)
    # of size 1, where neither a saturated nor an exploding activation hides a difference
    x = np.random.default_rng(0).standard_normal((n_frames, values)).astype(np.float32)
    fed = np.broadcast_to(x, (batch or 1, *x.shape)) if frames else x
    (given,) = keras.tree.flatten(model(_as_input(model, fed), training=False))
    theirs = as_array(given).reshape(-1, n_frames, network.outputs or values)
    if not np.allclose(network(x), theirs[0], rtol=AGREEMENT, atol=AGREEMENT):
        raise Codec2EqError(
            network.name,
            "runs differently here than in Keras",
            "use a plain row of layers with their usual options",
        )


def _as_input(model: Any, fed: np.ndarray) -> Any:
    """Give an array in the structure of a model's one input, which may be a dictionary."""
    structure = getattr(model, "_inputs_struct", None)
    return {name: fed for name in structure} if isinstance(structure, dict) else fed


# ----------------------------------------------------------------------------------- cache


def load_keras(path: str | Path) -> Network:
    """Read a ``.keras`` file; Keras is needed only if it was not converted before.

    A conversion is looked for beside the file (``NAME.npz``, ``NAME.keras.npz``), then in the
    user's cache, and is used if it is of this very content and undamaged; a new one goes to
    ``NAME.keras.npz``, or to the cache if that cannot be written.
    """
    path = Path(path)
    content = _read(path)
    digest = _content_sha256(*_parts(path, content))
    beside = path.with_name(path.name + ".npz")
    cached = _cache_dir() / f"{digest}.npz"
    for candidate in (path.with_suffix(".npz"), beside, cached):
        with contextlib.suppress(Codec2EqError):
            network = load_network(candidate)
            bound = (network.card.get("keras_sha256"), network.card.get("sha256"))
            if bound == (digest, network.sha256):
                return network
    network = _convert(path, content, digest)
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
    return _content_sha256(*_parts(Path(path), _read(Path(path))))


def _content_sha256(description: dict[str, Any], weights: bytes) -> str:
    config = _without(description["config"], "shared_object_id")
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(weights)
    return digest.hexdigest()


def _without(config: Any, key: str) -> Any:
    if isinstance(config, dict):
        return {k: _without(v, key) for k, v in config.items() if k != key}
    return [_without(item, key) for item in config] if isinstance(config, list) else config


def _read(path: Path) -> bytes:
    if (path / "saved_model.pb").is_file():
        raise Codec2EqError(
            str(path),
            "a SavedModel, which holds no layers that could be run here",
            "save the Keras model that it came from with model.save('NAME.keras')",
        )
    try:
        with open(path, "rb") as handle:
            content = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise read_error(str(path), error) from error
    if content.startswith(HDF5_MAGIC):
        raise old_format(path)
    return content


def old_format(path: str | Path) -> Codec2EqError:
    """Return the error of a model in HDF5, the format of older versions of Keras."""
    return Codec2EqError(
        str(path),
        "of Keras' older format HDF5, which is not read",
        f"convert it: keras.models.load_model({str(path)!r}).save('NAME.keras')",
    )


def _parts(path: Path, content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a ``.keras`` file's description and its weights, an HDF5 file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = [each.file_size for each in archive.infolist() if each.filename in _MEMBERS]
            require_small(str(path), max(len(content), sum(sizes)))
            description = json.loads(archive.read("config.json"))
            _without(description["config"], "")  # RecursionError if it nests too deeply
            return description, archive.read("model.weights.h5")
    except Codec2EqError:
        raise
    except (
        EOFError,
        KeyError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise Codec2EqError(
            path, "not a .keras file", "write one with model.save('NAME.keras')"
        ) from error


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codec2_eq"


def _convert(path: Path, content: bytes, digest: str) -> Network:
    description, weights = _parts(path, content)
    _require_known_classes(path, description)
    _require_weights(path, description, len(weights) // 4)
    keras = import_keras()
    from codec2_eq.equalisers import keras_cell  # noqa: F401  # makes its cell known to Keras

    try:
        with tempfile.TemporaryDirectory() as folder:
            checked = Path(folder) / "checked.keras"  # what was checked, whatever becomes of path
            _write_float32(content, description, checked)
            with warnings.catch_warnings():
                # Weights that a file lacks would stay random.
                warnings.filterwarnings("error", message=".*(Skipping|could not be loaded)")
                model = keras.saving.load_model(checked, compile=False)
    except Exception as error:  # Keras, h5py and TensorFlow may raise anything
        raise Codec2EqError(path, f"Keras cannot read it: {_first_line(error)}") from error
    try:
        network = from_keras(model, path.stem, card={"keras_sha256": digest})
    except Codec2EqError as error:
        raise Codec2EqError(str(path), error.about(path.stem)) from error
    except Exception as error:  # the same, where a model is run
        raise Codec2EqError(
            path,
            "no row of layers with one input and one output, built for frames of "
            f"{K} values ({_first_line(error)})",
            "build it so and save it again",
        ) from error
    network.card["sha256"] = network.sha256
    return network


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _write_float32(content: bytes, description: dict[str, Any], path: Path) -> None:
    """Write a model again with all its numbers in float32, whatever it was trained in."""
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(path, "w") as out,
    ):
        out.writestr("metadata.json", archive.read("metadata.json"))
        out.writestr("config.json", json.dumps(_in_float32(description)))
        out.writestr("model.weights.h5", archive.read("model.weights.h5"))


def _in_float32(config: Any) -> Any:
    if isinstance(config, dict):
        return {k: "float32" if k == "dtype" else _in_float32(v) for k, v in config.items()}
    return [_in_float32(item) for item in config] if isinstance(config, list) else config


def _require_known_classes(path: Path, description: dict[str, Any]) -> None:
    """Name what is not supported before TensorFlow starts, and even where there is none."""
    config = description["config"]
    try:
        layers = [
            (layer["config"]["name"], layer["class_name"], layer) for layer in config["layers"]
        ]
        kind = description["class_name"]
    except (KeyError, TypeError) as error:
        raise Codec2EqError(
            path, "not a Sequential or Functional model", "only layers in a row are supported"
        ) from error
    if kind not in MODELS:
        raise Codec2EqError(
            path, f"is a {kind}, a class of its own", f"only {' and '.join(MODELS)} are supported"
        )
    for i, (name, kind, layer) in enumerate(layers):
        require_supported(str(path), i, str(name), str(kind))
        for inner in _foreign(layer):
            raise Codec2EqError(
                path, f"layer {i} {name!r} ({kind}) holds a {inner}, which is not supported"
            )


def _require_weights(path: Path, description: dict[str, Any], n_weights: int) -> None:
    """Refuse layers of far more weights than the file holds: Keras would make them all first."""
    most = sorted(_sizes(description["config"]))[-2:]
    if any(size > MOST_BYTES for size in most) or math.prod(most) > max(n_weights, _MOST_UNASKED):
        raise Codec2EqError(
            path,
            f"has layers of {' and '.join(map(str, most))} values, beyond its {n_weights} weights",
            "is it damaged?",
        )


def _sizes(value: Any) -> Iterator[int]:
    """Yield the numbers of values that layers give or take, as far as they are stated."""
    if isinstance(value, list):
        for part in value:
            yield from _sizes(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key == "units" or key.endswith("shape"):
                numbers = part if isinstance(part, list) else [part]
                yield from (n for n in numbers if isinstance(n, int))
            yield from _sizes(part)


def _foreign(value: Any) -> Iterator[str]:
    """Yield the classes and functions that a layer's description names and that are not known."""
    if isinstance(value, list):
        for part in value:
            yield from _foreign(part)
        return
    if not isinstance(value, dict):
        return
    if "class_name" in value and not _is_known(value):
        yield str(value.get("registered_name") or value["class_name"])
        return
    for part in value.values():
        yield from _foreign(part)


def _is_known(value: dict[str, Any]) -> bool:
    kind, module, registered = (value.get(k) for k in ("class_name", "module", "registered_name"))
    if (kind, registered) == CELL:
        return True
    if kind in ("__keras_tensor__", "DTypePolicy", "DTypePolicyMap"):
        return True
    if module in _HARMLESS:
        return registered in (None, kind)
    own = str(module).split(".")[0] == "keras"
    return own and kind in SUPPORTED and registered in (None, kind)
