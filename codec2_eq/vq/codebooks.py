# SPDX-License-Identifier: LGPL-2.1-or-later
"""Codebooks: what a stage of a quantiser holds, checked, and their files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output, open_input, read_bytes
from codec2_eq.records import MOST_DB
from codec2_eq.vectors import npy

SEARCHABLE_DB = 1e3 * MOST_DB
"""Most that a band may be in a search: float32 holds the squares of many times that."""

MOST_ENTRIES = 1 << 20
"""Entries of a stage: at 20 bits a codebook is longer than any speech to train it on."""

Floats = NDArray[np.float32]


def load_codebooks(
    spec: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, n_bands: int = K
) -> tuple[Floats, ...]:
    """Load the stages of a quantiser.

    Parameters
    ----------
    spec : str, path or sequence of paths
        "700c" for Codec 2's own, or ``.f32`` or ``.npy`` files, one for each stage, joined by
        commas or as a sequence.
    n_bands : int
        Values of an entry.

    Returns
    -------
    tuple of ndarray
        Each float32 of shape (size, n_bands), dB.

    Raises
    ------
    Codec2EqError
        If a file is not a codebook of n_bands; it is named.

    Examples
    --------
    >>> [stage.shape for stage in ce.load_codebooks("700c")]
    [(512, 20), (512, 20)]
    """
    if isinstance(spec, os.PathLike):
        spec = [spec]
    if isinstance(spec, str):
        if spec.lower() == "700c":
            from codec2_eq.codec2.library import codebook_700c

            return codebook_700c()
        spec = spec.split(",")
    names = [os.fspath(path) for path in spec]
    if not all(names):
        raise Codec2EqError(
            f"codebook {','.join(names)!r}",
            "a stage has no name",
            "give 700c, or one file for each stage, joined by commas",
        )
    return tuple(load_codebook(name, n_bands=n_bands) for name in names)


def load_codebook(path: str | os.PathLike[str], *, n_bands: int = K) -> Floats:
    """Load one stage, (size, n_bands) float32, from a headerless ``.f32`` or a ``.npy`` file."""
    name = os.fspath(path)
    limit = 8 * n_bands * MOST_ENTRIES
    with open_input(path) as handle:
        data = read_bytes(handle, name, limit + 1)
    if not data:
        raise Codec2EqError(name, "empty, a codebook needs at least one entry", "train it again")
    if len(data) > limit:
        raise Codec2EqError(
            name, f"has over {limit} bytes, more than {MOST_ENTRIES} entries", "is it a codebook?"
        )
    if name.endswith(".npy"):
        codebook = _from_npy(data, name)
    elif len(data) % (4 * n_bands):
        raise Codec2EqError(
            name,
            f"{len(data)} bytes, not a multiple of {4 * n_bands} ({n_bands} float32 "
            "bands an entry)",
            "is it a codebook?",
        )
    else:
        codebook = np.frombuffer(data, dtype="<f4").reshape(-1, n_bands)
    codebook = check_codebook(codebook, name)
    if codebook.shape[1] != n_bands:
        raise Codec2EqError(
            name,
            f"entries of {codebook.shape[1]} bands, expected {n_bands}",
            "train it on vectors of that size",
        )
    return codebook


def _from_npy(data: bytes, name: str) -> NDArray[Any]:
    array = npy.ArrayReader(io.BytesIO(data), name)
    if array.dtype.kind not in "fiub":
        raise Codec2EqError(name, f"holds values of type {array.dtype}, numbers expected")
    if len(array.shape) > 2 or array.n_bytes > len(data):
        raise Codec2EqError(name, f"its header gives the shape {array.shape}", "make it again")
    return np.concatenate(list(array.blocks(MOST_ENTRIES)))


def save_codebook(path: str | os.PathLike[str], codebook: Floats, *, force: bool = False) -> None:
    """Write one stage as headerless little-endian float32, as ``c2enc --loadcb`` reads it."""
    with atomic_output(path, force=force) as handle:
        handle.write(np.ascontiguousarray(codebook, dtype="<f4").data)


def check_codebook(codebook: np.ndarray, name: str) -> Floats:
    """Return a codebook as C-contiguous float32, or raise Codec2EqError naming it."""
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        codebook = np.ascontiguousarray(codebook, dtype=np.float32)
    if codebook.ndim != 2 or codebook.size == 0:
        raise Codec2EqError(
            name, f"shape {codebook.shape}, expected (entries, bands) and at least one entry"
        )
    finite = np.isfinite(codebook).all(axis=1)
    if not finite.all():
        raise Codec2EqError(
            name,
            f"entry {int(np.argmin(finite))} holds NaN or infinity",
            "train it again from finite vectors",
        )
    bad = first_beyond(codebook, SEARCHABLE_DB)
    if bad is not None:
        raise Codec2EqError(
            name,
            f"entry {bad} reaches {peak(codebook[bad]):.3g} dB, at most "
            f"{SEARCHABLE_DB:g} can be searched",
            "is it a codebook?",
        )
    return codebook


def first_beyond(rows: Floats, limit: float) -> int | None:
    """Return the first row with a value that is not within the limit, or is not finite."""
    within = (np.abs(rows) <= limit).all(axis=1)
    return None if within.all() else int(np.argmin(within))


def peak(row: Floats) -> float:
    """Return the value that is farthest from zero."""
    return float(row[np.argmax(np.abs(row))])
