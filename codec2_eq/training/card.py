# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a training leaves behind: the model, the file that runs without Keras, and its card."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codec2_eq.equalisers.keras_import import keras_sha256
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output, write_error

_TOLD_VERSIONS = ("numpy", "tensorflow", "keras")


def publish(network: Network, model: Any, folder: Path, *, force: bool = False) -> Network:
    """Write ``NAME.keras``, ``NAME.json`` and ``NAME.npz`` (last: it makes the name known).

    network : what runs, its card filled with what only the trainer knows: ``does``, ``data``,
    ``command``, ``seed``, ``figures``. model : the Keras model it was converted from.
    Returns the network with the full card: hashes, versions and size added.
    Raises Codec2EqError if a file exists and `force` is false, or cannot be written.
    """
    path = folder / network.name
    _save_keras(model, path.with_suffix(".keras"), force)
    card = {
        "name": network.name,
        **network.card,
        "frame_ms": network.frame_ms,
        "parameters": int(model.count_params()),
        "versions": versions(),
        "sha256": network.sha256,
        "keras_sha256": keras_sha256(path.with_suffix(".keras")),
    }
    published = Network(network.name, network.layers, frame_ms=network.frame_ms, card=card)
    with atomic_output(path.with_suffix(".json"), force=force) as stream:
        stream.write((json.dumps(card, indent=2) + "\n").encode())
    published.save(path.with_suffix(".npz"), force=force)
    return published


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a training's last digits."""
    found = {"python": platform.python_version()}
    return found | {package: importlib.metadata.version(package) for package in _TOLD_VERSIONS}


def require_free(paths: Iterable[Path], *, force: bool) -> None:
    """Refuse to replace files before the work rather than after it; make their folders."""
    for path in paths:
        if path.exists() and not force:
            raise Codec2EqError(path, "exists already", "pass -f to overwrite it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(str(path.parent), error) from error


def _save_keras(model: Any, path: Path, force: bool) -> None:
    # Keras writes under the final name, and only if its suffix is right
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / path.name
        model.save(whole)
        with atomic_output(path, force=force) as stream:
            stream.write(whole.read_bytes())
