# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trained networks without their trainer: a ``.npz`` file and a forward pass in NumPy.

A network file holds the arrays ``<layer>.<name>`` (float32) and ``meta``, a JSON text::

    {"format": "codec2_eq network", "version": 1, "name": ..., "frame_ms": 40,
     "layers": [{"kind": "dense", "activation": "linear"}, ...], "card": {...}}

The array fields of a layer are stored as arrays and its other fields in ``layers``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.equalisers.layers import LAYERS, Layer, State, require
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output, read_error

FORMAT = "codec2_eq network"
FORMAT_VERSION = 1
KERAS_FRAME_MS = 40  # the frame interval that a network is taken to be trained at, if it is silent


def _array_names(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.type in ("np.ndarray", np.ndarray)]


def _settings(layer: Layer) -> dict[str, Any]:
    cls: Any = type(layer)
    arrays = _array_names(cls)
    return {"kind": layer.kind} | {
        f.name: getattr(layer, f.name) for f in dataclasses.fields(cls) if f.name not in arrays
    }


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
            require(
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
        require(
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


_DAMAGE = (
    EOFError,
    IndexError,
    KeyError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises on damaged archives and arrays."""


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
    except _DAMAGE as error:
        raise Codec2EqError(
            f"{path}: not a network file; write one with `codec2-eq train`, or pass the .keras file"
        ) from error


def _from_arrays(arrays: Any) -> Network:
    meta = json.loads(str(arrays["meta"]))
    if meta["format"] != FORMAT:
        raise ValueError(meta["format"])
    require(
        meta["version"] <= FORMAT_VERSION,
        f"network format {meta['version']}, this version reads up to {FORMAT_VERSION}; "
        "install a newer codec2_eq",
    )
    if not isinstance(meta["frame_ms"], int) or meta["frame_ms"] < 1:
        raise ValueError(meta["frame_ms"])
    layers = []
    for i, settings in enumerate(meta["layers"]):
        kind = settings.pop("kind")
        require(
            kind in LAYERS,
            f"layer {i} is of kind {kind!r}, which is not supported; these are: "
            f"{', '.join(LAYERS)}",
        )
        cls = LAYERS[kind]
        weights = {
            name: np.ascontiguousarray(arrays[f"{i}.{name}"], np.float32)
            for name in _array_names(cls)
        }
        require(
            all(np.isfinite(w).all() for w in weights.values()),
            f"layer {i} ({kind}) has weights that are not finite; train it again",
        )
        layers.append(cls(**weights, **settings))
    return Network(meta["name"], layers, frame_ms=meta["frame_ms"], card=meta["card"])
