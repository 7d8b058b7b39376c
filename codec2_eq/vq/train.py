# SPDX-License-Identifier: LGPL-2.1-or-later
"""Training of multi-stage codebooks by k-means (Lloyd's algorithm over all vectors)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import K
from codec2_eq.errors import Codec2EqError, missing_extra
from codec2_eq.files import PathLike, is_pipe
from codec2_eq.records import first_bad_row
from codec2_eq.vectors.reader import VectorReader, input_format, read_vectors
from codec2_eq.vq import ITERATIONS, SEED, TRAINING_SURVIVORS
from codec2_eq.vq._assignment import add_assigned
from codec2_eq.vq.codebooks import Floats
from codec2_eq.vq.quantiser import Quantiser, zero_mean

OUTLIERS_DB = (1.0, 2.0, 3.0)
"""Root mean square errors of a vector over its bands that are counted as outliers [dB]."""

BLOCK_ROWS = 1 << 16
MEMORY_BYTES = 1 << 30
"""Above this the working copy of the vectors lives in a temporary file."""

SPLIT_DB = 0.1
"""How far apart, in parts of its spread, an entry is split to make up for an unused one."""


@dataclass(frozen=True)
class Iteration:
    """What one assignment of all vectors found; iteration 0 is that of the start.

    stage : from 1
    distortion : mean squared error in dB^2 per band, and its root `deviation_db`
    outliers : shares of vectors whose rms error is over 1, 2 and 3 dB
    least_used, most_used : vectors for which the least and the most used entry is the nearest
    """

    stage: int
    iteration: int
    distortion: float
    outliers: tuple[float, ...]
    least_used: int
    most_used: int

    @property
    def deviation_db(self) -> float:
        """Root of the distortion, dB."""
        return float(np.sqrt(self.distortion))


def train_codebooks(
    vectors: Floats | Sequence[Floats],
    sizes: Sequence[int],
    *,
    seed: int = SEED,
    iterations: int = ITERATIONS,
    survivors: int = TRAINING_SURVIVORS,
    sample: int | None = None,
    progress: Callable[[Iteration], None] | None = None,
    names: Sequence[str] = (),
) -> tuple[Floats, ...]:
    """Train the stages of a vector quantiser, each on the residual of those before it.

    vectors : (n, n_bands) float32 in dB, or several such arrays, which may be memory maps and
        together exceed memory; means are removed
    sizes : entries of each stage
    seed : of the first entries, which are vectors drawn at random, and of `sample`
    survivors : 1 trains each stage on what the nearest entries before it leave; more, on what the
        m-best search with so many survivors leaves, chosen anew together with the stage in
        training, which suits a quantiser that will search so
    sample : train on so many vectors, drawn at random, rather than on all
    progress : called with an `Iteration` each time all vectors were assigned
    names : of the arrays, for errors
    Returns one (size, n_bands) float32 array for each stage, the same for the same seed.
    Raises Codec2EqError if there are fewer vectors than entries, or they are not finite or too
    large to be in dB.
    """
    parts = [vectors] if isinstance(vectors, np.ndarray) else list(vectors)
    _check_options(parts, sizes, iterations, survivors, sample, names)
    shapes = _working_copy(parts, sample, np.random.default_rng(seed), names)
    codebooks: list[Floats] = []
    for stage, size in enumerate(sizes, start=1):
        rng = np.random.default_rng([seed, stage])
        if survivors > 1 and codebooks:
            assign: _Assign = _JointAssign(codebooks, survivors)
        else:
            assign = _NearestAssign()
        entries = assign.residuals(_draw(shapes, size, rng))
        for iteration in range(iterations + 1):
            totals = _assign_all(shapes, entries, assign)
            if progress:
                progress(totals.report(stage, iteration))
            if iteration < iterations:
                entries = totals.centroids(entries, rng)
        codebooks.append(entries)
        if survivors == 1 and stage < len(sizes):
            _subtract(shapes, entries, assign)
    return tuple(codebooks)


class _NearestAssign:
    """Assign rows to their nearest entry, by faiss: a matrix product does most of the work."""

    def __init__(self) -> None:
        try:
            import faiss
        except ImportError as error:
            raise missing_extra("training codebooks", "vq", error) from error
        self._faiss = faiss

    def residuals(self, rows: Floats) -> Floats:
        return rows

    def prepare(self, entries: Floats) -> None:
        self._index = self._faiss.IndexFlatL2(entries.shape[1])
        self._index.add(np.ascontiguousarray(entries))

    def __call__(self, rows: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Return what the entries have to match, and the entry of each row."""
        return rows, self._index.search(np.ascontiguousarray(rows), 1)[1][:, 0]


class _JointAssign:
    """Assign rows by the m-best search over the stages done and the one in training."""

    def __init__(self, codebooks: Sequence[Floats], survivors: int) -> None:
        self._codebooks, self._survivors = tuple(codebooks), survivors
        self._done = Quantiser(codebooks, survivors=survivors)

    def residuals(self, rows: Floats) -> Floats:
        return rows - self._done.quantise(rows)[0]

    def prepare(self, entries: Floats) -> None:
        self._all = Quantiser([*self._codebooks, entries], survivors=self._survivors)

    def __call__(self, rows: Floats) -> tuple[Floats, NDArray[np.int64]]:
        indexes = self._all.search(rows)
        return rows - self._done.lookup(indexes[:, :-1]), indexes[:, -1].astype(np.int64)


_Assign = _NearestAssign | _JointAssign


@dataclass
class _Totals:
    """Sums over all vectors, for each entry of the stage in training."""

    size: int
    n_bands: int
    counts: NDArray[np.int64] = field(init=False)
    sums: NDArray[np.float64] = field(init=False)
    errors: NDArray[np.float64] = field(init=False)
    outliers: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.size, dtype=np.int64)
        self.sums = np.zeros((self.size, self.n_bands))
        self.errors = np.zeros(self.size)
        self.outliers = np.zeros(len(OUTLIERS_DB), dtype=np.int64)

    def add(self, targets: Floats, chosen: NDArray[np.int64], entries: Floats) -> None:
        add_assigned(
            np.ascontiguousarray(targets, dtype=np.float32),
            chosen,
            entries,
            np.square(OUTLIERS_DB) * self.n_bands,
            self.sums,
            self.counts,
            self.errors,
            self.outliers,
        )

    def report(self, stage: int, iteration: int) -> Iteration:
        n = int(self.counts.sum())
        return Iteration(
            stage,
            iteration,
            float(self.errors.sum()) / (n * self.n_bands),
            tuple(float(o) / n for o in self.outliers),
            int(self.counts.min()),
            int(self.counts.max()),
        )

    def centroids(self, entries: Floats, rng: np.random.Generator) -> Floats:
        """Return the mean of each entry's vectors; an entry without any splits the worst one."""
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        errors = self.errors.copy()
        for unused in np.flatnonzero(self.counts == 0):
            worst = int(np.argmax(errors))
            spread_db = np.sqrt(errors[worst] / max(self.counts[worst], 1) / self.n_bands)
            step = SPLIT_DB * spread_db * rng.choice([-1.0, 1.0], self.n_bands)
            means[unused] = means[worst] - step
            means[worst] += step
            errors[worst] /= 2
            errors[unused] = errors[worst]
        return means.astype(np.float32)


def _assign_all(shapes: Floats, entries: Floats, assign: _Assign) -> _Totals:
    assign.prepare(entries)
    totals = _Totals(*entries.shape)
    for rows in _blocks(shapes):
        totals.add(*assign(rows), entries)
    return totals


def _subtract(shapes: Floats, entries: Floats, assign: _Assign) -> None:
    """Leave in `shapes` what the stage just trained does not catch."""
    assign.prepare(entries)
    for rows in _blocks(shapes):
        rows -= entries[assign(rows)[1]]


def _draw(shapes: Floats, size: int, rng: np.random.Generator) -> Floats:
    return np.array(shapes[np.sort(rng.choice(len(shapes), size, replace=False))])


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(array), BLOCK_ROWS):
        yield array[first : first + BLOCK_ROWS]


def _working_copy(
    parts: Sequence[Floats], sample: int | None, rng: np.random.Generator, names: Sequence[str]
) -> Floats:
    """Return the shapes to train on, in memory or, if they are too many, in a temporary file."""
    total, n_bands = sum(map(len, parts)), parts[0].shape[1]
    chosen = None
    if sample is not None and sample < total:
        chosen = np.sort(rng.choice(total, sample, replace=False))
    n = total if chosen is None else len(chosen)
    copy: Floats
    if n * n_bands * 4 <= MEMORY_BYTES:
        copy = np.empty((n, n_bands), dtype=np.float32)
    else:
        with tempfile.TemporaryFile() as handle:  # the map keeps the file until it goes itself
            copy = np.memmap(handle, dtype=np.float32, mode="w+", shape=(n, n_bands))
    filled = first_row = 0
    for i, part in enumerate(parts):
        rows = (
            np.arange(len(part))
            if chosen is None
            else chosen[(chosen >= first_row) & (chosen < first_row + len(part))] - first_row
        )
        for block_rows in _blocks(rows):
            with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
                block = np.asarray(part[block_rows], dtype=np.float32)
            _check_values(block, block_rows, names[i] if names else "vectors")
            copy[filled : filled + len(block)] = zero_mean(block)
            filled += len(block)
        first_row += len(part)
    return copy


def _check_values(block: Floats, rows: NDArray[np.int64], name: str) -> None:
    bad = first_bad_row(block)
    if bad is not None:
        row, what = bad
        raise Codec2EqError(
            name,
            f"row {int(rows[row])} (counted from 0) {what}",
            "codebooks are trained on decibels in little-endian float32, make the vectors again",
        )


def _check_options(
    parts: Sequence[Floats],
    sizes: Sequence[int],
    iterations: int,
    survivors: int,
    sample: int | None,
    names: Sequence[str],
) -> None:
    shapes = [part.shape for part in parts]
    if not shapes or any(len(s) != 2 or s[1:] != shapes[0][1:] or s[1] == 0 for s in shapes):
        raise Codec2EqError(f"vectors of shapes {shapes}", "expected (n, bands), all alike")
    if not sizes or min(sizes) < 1:
        raise Codec2EqError(f"sizes {list(sizes)}", "each stage needs at least one entry")
    if iterations < 1 or survivors < 1:
        raise Codec2EqError(f"iterations {iterations}, survivors {survivors}", "at least 1 each")
    n = sum(map(len, parts))
    n = n if sample is None else min(sample, n)
    if n < max(sizes):
        raise Codec2EqError(
            names[0] if len(set(names)) == 1 else "",
            f"{n} vectors, fewer than the {max(sizes)} entries wanted",
            "give more vectors or smaller sizes",
        )


def map_vectors(path: PathLike, *, format: str | None = None) -> Floats:
    """Open a vector file as a (n, K) float32 array without reading it, where its format allows.

    .npz, .mlfeat and pipes are read. Raises Codec2EqError as `codec2_eq.vectors.read_vectors`
    does, but for values that are not finite, which training finds.
    """
    chosen = input_format(path, format)
    if os.fspath(path) == "-" or is_pipe(path) or chosen in ("npz", "mlfeat"):
        return read_vectors(path, format=chosen)
    VectorReader(path, format=chosen).close()  # checks what it can without reading it all
    if os.path.getsize(path) == 0:
        return np.empty((0, K), dtype=np.float32)
    if chosen == "npy":
        try:
            return np.load(path, mmap_mode="r")
        except (ValueError, OSError):  # cut, or of a header that only NumPy finds fault with
            return read_vectors(path, format=chosen)
    return np.memmap(path, dtype="<f4", mode="r").reshape(-1, K)
