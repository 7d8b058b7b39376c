# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of what an equaliser has learnt: the microphone of a known station."""

from __future__ import annotations

import io
import json
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codec2_eq.equalisers.archive import NoArchive, read_archive
from codec2_eq.equalisers.equaliser import Equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, atomic_output, display_name, require_writable

FORMAT = "codec2_eq state"
FORMAT_VERSION = 1


FILTER_PREFIX = "filter."
"""Prefix of what an audio filter has learnt besides its equaliser; equalisers ignore it."""


class _Learner(Protocol):
    def state(self) -> dict[str, NDArray[Any]]: ...


def save_state(
    path: PathLike, equaliser: Equaliser, stream: _Learner, *, force: bool = False
) -> None:
    """Write what a stream of an equaliser, or a filter, has learnt, whole or not at all.

    Raises Codec2EqError if the equaliser has no memory, the file exists and `force` is false, or it
    cannot be written.
    """
    require_memory(equaliser)
    content = io.BytesIO()
    meta = json.dumps({"format": FORMAT, "version": FORMAT_VERSION, **_identity(equaliser)})
    np.savez(content, meta=np.array(meta), **stream.state())  # type: ignore[arg-type]
    with atomic_output(path, force=force) as handle:
        handle.write(content.getbuffer())


def load_state(
    path: PathLike, equaliser: Equaliser, *, of_filter: bool = False
) -> dict[str, NDArray[Any]]:
    """Read a state to start a stream from: ``equaliser.stream(load_state(path, equaliser))``.

    of_filter : for an audio filter, with what one has learnt beside the equaliser

    Raises Codec2EqError, naming the file, if it cannot be read, is no state, or is that of another
    model, of other weights or of another frame interval.
    """
    require_memory(equaliser)
    name = display_name(path)
    try:
        meta, state = read_archive(path)
        if meta["format"] != FORMAT or meta["version"] > FORMAT_VERSION:
            raise NoArchive(str(meta["format"]))
        identity = {key: meta[key] for key in _identity(equaliser)}
    except (NoArchive, KeyError, TypeError) as error:
        raise Codec2EqError(
            name, "not a state of an equaliser", "write one with `codec2-eq run --save-state`"
        ) from error
    if (wanted := _identity(equaliser)) != identity:
        raise Codec2EqError(
            name,
            f"is of {_described(identity)}, not of {_described(wanted)}",
            "save it with the same model",
        )
    own = {key: value for key, value in state.items() if not key.startswith(FILTER_PREFIX)}
    try:
        equaliser.stream(own)
    except Codec2EqError as error:
        raise Codec2EqError(name, str(error)) from error
    return state if of_filter else own


def prepare(
    equaliser: Equaliser,
    *,
    load: PathLike | None = None,
    save: PathLike | None = None,
    force: bool = False,
    of_filter: bool = False,
) -> dict[str, NDArray[Any]] | None:
    """Return the state that a command was given to start from, None for a cold start.

    Before any work it raises Codec2EqError as `load_state` does, and if `save` could not be written
    after it.
    """
    if save is not None:
        require_memory(equaliser)
        require_writable(save, force=force, standard=False)
    return None if load is None else load_state(load, equaliser, of_filter=of_filter)


def require_memory(equaliser: Equaliser) -> None:
    """Raise Codec2EqError for an equaliser that has nothing to save."""
    if not equaliser.stateful:
        raise Codec2EqError(
            equaliser.name,
            "has no memory, so no state to save or load",
            "choose channel_eq, cmn or 700c",
        )


def _identity(equaliser: Equaliser) -> dict[str, Any]:
    return {
        "model": equaliser.name,
        "sha256": equaliser.sha256,
        "frame_ms": equaliser.frame_ms,
    }


def _described(identity: dict[str, Any]) -> str:
    weights = f" (weights {str(identity['sha256'])[:12]})" if identity["sha256"] else ""
    return f"{str(identity['model'])[:80]!r}{weights} at {identity['frame_ms']} ms a frame"
