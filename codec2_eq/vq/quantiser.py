# SPDX-License-Identifier: LGPL-2.1-or-later
"""Multi-stage vector quantisation of rate-K shapes: codebooks, m-best search, distortion.

A quantised shape is the sum of one entry of each stage. The search keeps the best few sums from
stage to stage (the survivors), in the order of operations of Codec 2, so that the indexes are
those of ``c2enc 700C`` and ``vq_mbest``.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output, is_stdout, open_output, read_error
from codec2_eq.records import MOST_DB, K, remove_mean
from codec2_eq.vectors import npy
from codec2_eq.vq._search import group_entries, search

SURVIVORS = 5
"""Sums kept from stage to stage; codec2 NEWAMP1_VQ_MBEST_DEPTH."""

MEAN_TOLERANCE_DB = 1e-4
"""A smaller mean is the rounding of one that was removed before: removing it again would move
the vector by no more than noise, but could tip an index from one of two equally near entries."""

SEARCHABLE_DB = 1e3 * MOST_DB
"""Most that a band may be in a search: float32 holds the squares of many times that."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class Quantiser:
    """A multi-stage vector quantiser with m-best search.

    codebooks : one (size, n_bands) array for each stage, dB; any sizes
    survivors : sums kept from stage to stage; 1 is the greedy search
    start, end : bands [start, end) that count in the search (all others are still quantised);
        ``vq_mbest --st S --en E`` is start=S, end=E+1
    Raises Codec2EqError if the codebooks do not fit each other or an option is out of range.

    Source: Codec 2, mbest_search; the same float32 operations in the same order.
    """

    def __init__(
        self,
        codebooks: Sequence[np.ndarray],
        *,
        survivors: int = SURVIVORS,
        start: int = 0,
        end: int | None = None,
    ):
        if len(codebooks) == 0:
            raise Codec2EqError("no codebook given; name at least one stage")
        self.codebooks = tuple(
            check_codebook(c, f"codebook {i + 1}") for i, c in enumerate(codebooks)
        )
        self.n_bands = self.codebooks[0].shape[1]
        widths = [c.shape[1] for c in self.codebooks]
        if widths != [self.n_bands] * len(widths):
            raise Codec2EqError(f"codebooks of {widths} bands: all stages need the same number")
        if survivors < 1:
            raise Codec2EqError(f"survivors {survivors}: at least 1 is needed")
        self.survivors = survivors
        self.start, self.end = start, self.n_bands if end is None else end
        if not 0 <= self.start < self.end <= self.n_bands:
            raise Codec2EqError(
                f"bands {self.start} to {self.end - 1}: expected a range within "
                f"0 to {self.n_bands - 1}, both included"
            )
        self._searched = [np.ascontiguousarray(c[:, self.start : self.end]) for c in self.codebooks]
        self._grouped = [group_entries(c) for c in self._searched]

    def search(self, shapes: Floats) -> Ints:
        """Return the index of each stage's entry, (n, n_stages) int32, for (n, n_bands) shapes."""
        shapes = _check_vectors(shapes, self.n_bands)
        searched = np.ascontiguousarray(shapes[:, self.start : self.end])
        return search(searched, self._searched, self._grouped, self.survivors)

    def lookup(self, indexes: Ints) -> Floats:
        """Return the sums of the entries that `indexes` (n, n_stages) name, (n, n_bands) dB."""
        quantised = self.codebooks[0][indexes[:, 0]]
        for stage, codebook in enumerate(self.codebooks[1:], start=1):
            quantised += codebook[indexes[:, stage]]
        return quantised

    def quantise(self, shapes: Floats) -> tuple[Floats, Ints]:
        """Quantise (n, n_bands) shapes in dB.

        Returns quantised (n, n_bands) float32 and indexes (n, n_stages) int32.
        Raises Codec2EqError if shapes are not of n_bands, not finite or beyond SEARCHABLE_DB.
        """
        indexes = self.search(shapes)
        return self.lookup(indexes), indexes

    def distortion(self, shapes: Floats) -> float:
        """Return the mean squared error in dB^2 per band, the means of the shapes removed."""
        statistics = VqStatistics(self)
        shapes = zero_mean(_check_vectors(shapes, self.n_bands))
        statistics.add(shapes, *self.quantise(shapes))
        return statistics.distortion


class VqStatistics:
    """Distortion and entry usage of a stream of quantised vectors, block by block."""

    def __init__(self, quantiser: Quantiser):
        self._bands = slice(quantiser.start, quantiser.end)
        self.n_vectors = 0
        self.usage = [np.zeros(len(c), dtype=np.int64) for c in quantiser.codebooks]
        self._squares = 0.0
        self._squares_without_mean = 0.0

    def add(self, shapes: Floats, quantised: Floats, indexes: Ints) -> None:
        """Count a block: shapes as they were quantised, what they became, and their indexes."""
        error = (shapes - quantised)[:, self._bands].astype(np.float64)
        self.n_vectors += len(error)
        self._squares += float(np.mean(error**2, axis=1).sum())
        self._squares_without_mean += float(np.var(error, axis=1).sum())
        for stage, counts in enumerate(self.usage):
            counts += np.bincount(indexes[:, stage], minlength=len(counts))

    @property
    def variance(self) -> float:
        """Mean squared error in dB^2 as ``c2enc --var`` has it: the vectors as they were given."""
        return self._squares / self.n_vectors if self.n_vectors else 0.0

    @property
    def distortion(self) -> float:
        """Mean squared error in dB^2, each vector's mean error removed.

        Codebook entries have no mean, so a mean that an equaliser leaves in the vector is an error
        which no entry could avoid and which is not heard: the level is sent on its own.
        """
        return self._squares_without_mean / self.n_vectors if self.n_vectors else 0.0


class IndexWriter:
    """Context manager that writes VQ indexes: .npy, (n, n_stages) int32, or a line a vector.

    path : None writes nothing, `-` lines to stdout;  force : overwrite
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, force: bool = False):
        self._path = path
        self._force = force
        self._blocks: list[Ints] = []
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> IndexWriter:
        if self._path is not None:
            if is_stdout(self._path) and sys.stdout and sys.stdout.isatty():
                self._handle: IO[bytes] = sys.stdout.buffer  # lines may be read there
            else:
                output = open_output(self._path, force=self._force)
                self._handle = self._resources.enter_context(output)
        return self

    def write(self, indexes: Ints) -> None:
        """Write the indexes (n, n_stages) of the next vectors."""
        if self._path is None:
            return
        if os.fspath(self._path).endswith(".npy"):  # its header tells the length
            self._blocks.append(indexes)
        else:
            lines = (" ".join(map(str, row)) + "\n" for row in indexes.tolist())
            self._handle.write("".join(lines).encode())
            self._handle.flush()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None and self._blocks:
            np.save(self._handle, np.concatenate(self._blocks))
        self._resources.__exit__(kind, error, traceback)


def zero_mean(vectors: Floats) -> Floats:
    """Return (n, K) vectors in dB as shapes without mean, float32.

    Shapes whose mean was removed before come back untouched, bit for bit.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    mean, shapes = remove_mean(vectors)
    return np.where(np.abs(mean)[:, None] < MEAN_TOLERANCE_DB, vectors, shapes)


def load_codebooks(
    spec: str | Sequence[str | os.PathLike[str]], *, n_bands: int = K
) -> tuple[Floats, ...]:
    """Load the stages of a quantiser.

    spec : ``700c`` for Codec 2's own, or paths of ``.f32`` or ``.npy`` files, one for each stage,
        joined by commas or as a sequence
    Raises Codec2EqError, naming the file, if one is not a codebook of n_bands.
    """
    if isinstance(spec, str):
        if spec.lower() == "700c":
            from codec2_eq.libcodec2 import codebook_700c

            return codebook_700c()
        spec = spec.split(",")
    names = [os.fspath(path) for path in spec]
    if not all(names):
        raise Codec2EqError(
            f"codebook {','.join(names)!r}: a stage has no name; give 700c, or "
            "one file for each stage, joined by commas"
        )
    return tuple(load_codebook(name, n_bands=n_bands) for name in names)


def load_codebook(path: str | os.PathLike[str], *, n_bands: int = K) -> Floats:
    """Load one stage, (size, n_bands) float32, from a headerless ``.f32`` or a ``.npy`` file."""
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise read_error(name, error) from error
    if not data:
        raise Codec2EqError(f"{name}: empty, a codebook needs at least one entry; train it again")
    if name.endswith(".npy"):
        codebook = np.concatenate(list(npy.array_blocks(io.BytesIO(data), name, len(data))))
    elif len(data) % (4 * n_bands):
        raise Codec2EqError(
            f"{name}: {len(data)} bytes, not a multiple of {4 * n_bands} "
            f"({n_bands} float32 bands an entry); is it a codebook?"
        )
    else:
        codebook = np.frombuffer(data, dtype="<f4").reshape(-1, n_bands)
    codebook = check_codebook(codebook, name)
    if codebook.shape[1] != n_bands:
        raise Codec2EqError(
            f"{name}: entries of {codebook.shape[1]} bands, expected {n_bands}; "
            "train it on vectors of that size"
        )
    return codebook


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
            f"{name}: shape {codebook.shape}, expected (entries, bands) and at least one entry"
        )
    finite = np.isfinite(codebook).all(axis=1)
    if not finite.all():
        raise Codec2EqError(
            f"{name}: entry {int(np.argmin(finite))} holds NaN or infinity; "
            "train it again from finite vectors"
        )
    bad = _first_beyond(codebook, SEARCHABLE_DB)
    if bad is not None:
        raise Codec2EqError(
            f"{name}: entry {bad} reaches {_peak(codebook[bad]):.3g} dB, at most "
            f"{SEARCHABLE_DB:g} can be searched; is it a codebook?"
        )
    return codebook


def _check_vectors(vectors: np.ndarray, n_bands: int) -> Floats:
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != n_bands:
        raise Codec2EqError(
            f"vectors of shape {vectors.shape}: the codebooks have {n_bands} "
            f"bands, so (n, {n_bands}) is needed"
        )
    bad = _first_beyond(vectors, SEARCHABLE_DB)
    if bad is not None:
        if not np.isfinite(vectors[bad]).all():
            raise Codec2EqError(
                f"vector {bad} holds NaN or infinity; only finite vectors can be quantised"
            )
        raise Codec2EqError(
            f"vector {bad} reaches {_peak(vectors[bad]):.3g} dB, at most "
            f"{SEARCHABLE_DB:g} can be searched; is it in dB?"
        )
    return vectors


def _first_beyond(rows: Floats, limit: float) -> int | None:
    """Return the first row with a value that is not within the limit, or is not finite."""
    within = (np.abs(rows) <= limit).all(axis=1)
    return None if within.all() else int(np.argmin(within))


def _peak(row: Floats) -> float:
    """Return the value that is farthest from zero."""
    return float(row[np.argmax(np.abs(row))])
