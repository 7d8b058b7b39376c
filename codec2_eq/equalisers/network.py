# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trained networks without their trainer: a ``.npz`` file and a forward pass in NumPy.

A network file holds the arrays ``<layer>.<name>`` (float32) and ``meta``, a JSON text::

    {"format": "codec2_eq network", "version": 1, "name": ..., "frame_ms": 40,
     "layers": [{"kind": "dense", "activation": "linear"}, ...], "card": {...}}

The array fields of a layer are stored as arrays and its other fields in ``layers``. Where layers
are not in a row, version 2 adds ``from``: numbers of the layers whose sum a layer takes, counted
from 1; 0 is the input of the network.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.codec2 import FRAME_MS, K
from codec2_eq.equalisers import estimator, recurrent  # noqa: F401  # register their layers
from codec2_eq.equalisers.archive import NoArchive, read_archive
from codec2_eq.equalisers.layers import LAYERS, Layer, State, require
from codec2_eq.equalisers.stream import EqualiserStream, Floats
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output

FORMAT = "codec2_eq network"
FORMAT_VERSION = 2  # what is in a row is written as version 1
MOST_FRAME_MS = 1000
"""No network was trained on frames further apart."""


def _array_names(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.type in ("np.ndarray", np.ndarray)]


def _settings(layer: Layer) -> dict[str, Any]:
    cls: Any = type(layer)
    arrays = _array_names(cls)
    return {"kind": layer.kind} | {
        f.name: getattr(layer, f.name) for f in dataclasses.fields(cls) if f.name not in arrays
    }


class Network:
    """Layers in a row, or wired otherwise.

    name : what it is called
    layers : instances of registered layer kinds
    wiring : for each layer, whose outputs it takes the sum of, counted from 1, 0 for the network's
        input; by default each takes that of the one before it
    frame_ms : time between the frames it was trained on, ms
    card : facts about it, JSON-able

    Raises Codec2EqError where a layer does not fit what it takes.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[Layer],
        *,
        wiring: Sequence[Sequence[int]] | None = None,
        frame_ms: int = FRAME_MS,
        card: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.layers = list(layers)
        row = [(i,) for i in range(len(self.layers))]
        self.wiring = row if wiring is None else [tuple(sources) for sources in wiring]
        self.in_a_row = self.wiring == row
        self.frame_ms = frame_ms
        self.card = dict(card or {})
        self.inputs, self.outputs = self._check_widths()
        self.sha256 = self._hash()

    def __repr__(self) -> str:
        kinds = ", ".join(layer.kind for layer in self.layers)
        return f"<Network {self.name}: {kinds}, weights {self.sha256[:12]}>"

    def _check_widths(self) -> tuple[int | None, int | None]:
        """Return the lengths of rows it takes and gives, None for any."""
        require(len(self.wiring) == len(self.layers), "as many wires as layers are needed")
        inputs: int | None = None
        widths: list[int | None] = [None]
        for i, (layer, sources) in enumerate(zip(self.layers, self.wiring, strict=True)):
            require(
                len(sources) > 0 and all(0 <= source <= i for source in sources),
                f"layer {i} ({layer.kind}) takes the output of {list(sources)}, "
                f"which is none before it",
            )
            for source in sources:
                given = inputs if source == 0 else widths[source]
                require(
                    None in (layer.inputs, given) or layer.inputs == given,
                    f"layer {i} ({layer.kind}) takes {layer.inputs} values, "
                    f"but the layer before it gives {given}",
                )
                if source == 0:
                    inputs = inputs or layer.inputs
            known = [inputs if source == 0 else widths[source] for source in sources]
            require(
                len({width for width in known if width is not None}) <= 1,
                f"layer {i} ({layer.kind}) adds rows of {known} values",
            )
            widths.append(layer.outputs or next((w for w in known if w is not None), None))
        return inputs, widths[-1] if self.layers else None

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
        given = [x]
        for i, (layer, sources) in enumerate(zip(self.layers, self.wiring, strict=True)):
            prefix = f"{i}."
            own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            taken = functools.reduce(np.add, (given[source] for source in sources))
            out, own = layer.forward(np.ascontiguousarray(taken), own)
            given.append(out)
            after.update({prefix + k: v for k, v in own.items()})
        return given[-1], after

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

    def _layer_settings(self) -> list[dict[str, Any]]:
        settings = [_settings(layer) for layer in self.layers]
        if not self.in_a_row:
            for own, sources in zip(settings, self.wiring, strict=True):
                own["from"] = list(sources)
        return settings

    def _hash(self) -> str:
        """sha256 over the layers and their weights: the model's version.

        Not over the file, whose card may tell more from one training to the next.
        """
        digest = hashlib.sha256()
        digest.update(json.dumps([self.frame_ms, self._layer_settings()], sort_keys=True).encode())
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
            "version": 1 if self.in_a_row else 2,
            "name": self.name,
            "frame_ms": self.frame_ms,
            "layers": self._layer_settings(),
            "card": self.card,
        }
        content = io.BytesIO()
        np.savez(content, meta=np.array(json.dumps(meta)), **self._arrays())  # type: ignore[arg-type]
        with atomic_output(path, force=force) as stream:
            stream.write(content.getbuffer())


class NetworkStream(EqualiserStream):
    """A network with its memory.

    A network with memory knows one frame interval only. Where frames come more often, they
    are dealt out in turn to as many memories, each of which then sees the interval that the
    network was trained on.
    """

    def __init__(self, network: Network, phases: int) -> None:
        self._network = network
        self._states = [network.initial_state() for _ in range(phases)]
        self._phase = 0  # whose turn the next frame is
        self.aims_at_codebook = self.curve_db is not None

    @property
    def curve_db(self) -> Floats | None:
        """That after the last frame, of the layer whose state has a ``curve``; None if none has."""
        latest = self._states[self._phase - 1]
        return next((v.copy() for n, v in latest.items() if n.endswith(".curve")), None)

    def state(self) -> State:
        """As `EqualiserStream.state`."""
        # in the order of turns from the next frame on, so that no phase needs saving
        turns = self._states[self._phase :] + self._states[: self._phase]
        return {f"{i}.{n}": v.copy() for i, state in enumerate(turns) for n, v in state.items()}

    def _remember(self, state: State) -> None:
        for i, own in enumerate(self._states):
            self._states[i] = {name: state[f"{i}.{name}"] for name in own}
        self._phase = 0

    def _next(self, rows: Floats) -> Floats:
        phases = len(self._states)
        out = np.empty((len(rows), K), np.float32)
        for i in range(min(phases, len(rows))):
            phase = (self._phase + i) % phases
            own = np.ascontiguousarray(rows[i::phases])
            out[i::phases], self._states[phase] = self._network.forward(own, self._states[phase])
        if not np.isfinite(out).all():
            raise Codec2EqError(
                self._network.name,
                "gives values that are not finite",
                "train the network again, or choose another",
            )
        self._phase = (self._phase + len(rows)) % phases
        return out


def load_network(path: str | Path) -> Network:
    """Read a network file.

    Raises Codec2EqError, naming the file, if it cannot be read, is no network, is of a later
    format, or has a layer of unknown kind or settings that it cannot have.
    """
    try:
        return _from_archive(*read_archive(path))
    except NoArchive as error:
        raise Codec2EqError(
            str(path),
            "not a network file",
            "write one with `codec2-eq train`, or pass the .keras file",
        ) from error
    except Codec2EqError as error:
        if error.subject == str(path):
            raise
        raise Codec2EqError(path, str(error)) from error


def _from_archive(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Network:
    if _value(meta, "format", str) != FORMAT:
        raise NoArchive(meta["format"])
    version = _value(meta, "version", int)
    require(
        version <= FORMAT_VERSION,
        f"network format {version}, this version reads up to {FORMAT_VERSION}; "
        "install a newer codec2_eq",
    )
    frame_ms = _value(meta, "frame_ms", int)
    if not 1 <= frame_ms <= MOST_FRAME_MS:
        raise NoArchive(f"frame_ms {frame_ms}")
    settings = _value(meta, "layers", list)
    layers = [_layer(i, own, arrays) for i, own in enumerate(settings)]
    return Network(
        _value(meta, "name", str),
        layers,
        wiring=[_sources(i, own) for i, own in enumerate(settings)],
        frame_ms=frame_ms,
        card=_value(meta, "card", dict),
    )


def _sources(index: int, settings: dict[str, Any]) -> list[int]:
    sources = _value(settings, "from", list) if "from" in settings else [index]
    if not all(type(source) is int for source in sources):
        raise NoArchive(f"layer {index} takes the output of {sources}")
    return sources


def _layer(index: int, settings: Any, arrays: dict[str, np.ndarray]) -> Layer:
    kind = _value(settings, "kind", str)
    require(
        kind in LAYERS,
        f"layer {index} is of kind {kind!r}, which is not supported; these are: "
        f"{', '.join(LAYERS)}",
    )
    cls: Any = LAYERS[kind]
    if unknown := set(settings) - {"kind", "from", *(f.name for f in dataclasses.fields(cls))}:
        raise NoArchive(f"layer {index} has unknown settings {unknown}")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in _array_names(cls):
            values[field.name] = _weights(index, kind, arrays.get(f"{index}.{field.name}"))
        elif field.name in settings:
            values[field.name] = _value(settings, field.name, _setting_types(field))
        elif field.default is dataclasses.MISSING:
            raise NoArchive(f"layer {index}: {field.name} is missing")
    return cls(**values)


def _setting_types(field: dataclasses.Field[Any]) -> tuple[type, ...]:
    """Return what JSON may hold for a setting, by its annotation."""
    annotation = getattr(field.type, "__name__", field.type)
    types = {"str": (str,), "bool": (bool,), "float": (float, int)}
    types["float | None"] = (float, int, type(None))
    return types.get(str(annotation), (object,))


def _value(source: Any, key: str, wanted: type | tuple[type, ...]) -> Any:
    """Return a value of a JSON object, or raise NoArchive if it is not of the wanted type."""
    value = source.get(key) if isinstance(source, dict) else None
    sane = isinstance(value, wanted) and (wanted == (bool,) or not isinstance(value, bool))
    if not sane or (isinstance(value, float) and not np.isfinite(value)):
        raise NoArchive(f"{key} is {value!r}")
    return value


def _weights(index: int, kind: str, array: np.ndarray | None) -> np.ndarray:
    if array is None or array.dtype.kind not in "fiu":
        raise NoArchive(f"layer {index} ({kind}): an array of weights is missing")
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        array = np.ascontiguousarray(array, np.float32)
    require(
        bool(np.isfinite(array).all()),
        f"layer {index} ({kind}) has weights that are not finite; train it again",
    )
    return array
