# SPDX-License-Identifier: LGPL-2.1-or-later
"""Multi-stage vector quantisation of rate-K shapes: m-best search and distortion.

A quantised shape is the sum of one entry of each stage. The search keeps the best few sums from
stage to stage (the survivors), in the order of operations of Codec 2, so that the indexes are
those of ``c2enc 700C`` and ``vq_mbest``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError
from codec2_eq.records import float_vectors, remove_mean
from codec2_eq.vq import SURVIVORS
from codec2_eq.vq._search import group_entries, search
from codec2_eq.vq.codebooks import SEARCHABLE_DB, Floats, check_codebook, first_beyond, peak

MEAN_TOLERANCE_DB = 1e-4
"""A smaller mean is the rounding of one that was removed before: removing it again would move
the vector by no more than noise, but could tip an index from one of two equally near entries."""

MOST_SURVIVORS = 4096
"""Survivors beyond some tens change nothing; so many fit any codebook that is searched."""

Ints = NDArray[np.int32]


class Quantiser:
    """A multi-stage vector quantiser with m-best search.

    The search is Codec 2's (mbest_search): the same float32 operations in the same order.

    Parameters
    ----------
    codebooks : sequence of ndarray, each of shape (size, n_bands)
        One for each stage, dB; any sizes.
    survivors : int
        Sums kept from stage to stage; 1 is the greedy search.
    start, end : int
        Bands [start, end) that count in the search (all others are still quantised);
        ``vq_mbest --st S --en E`` is start=S, end=E+1.

    Raises
    ------
    Codec2EqError
        If the codebooks do not fit each other, or an option is out of range.

    Examples
    --------
    >>> quantiser = ce.Quantiser(ce.load_codebooks("700c"), survivors=5)
    >>> quantised, indexes = quantiser.quantise(np.zeros((3, 20), np.float32))
    >>> quantised.shape, indexes.shape
    ((3, 20), (3, 2))
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
            raise Codec2EqError("", "no codebook given", "name at least one stage")
        self.codebooks = tuple(
            check_codebook(c, f"codebook {i + 1}") for i, c in enumerate(codebooks)
        )
        self.n_bands = self.codebooks[0].shape[1]
        widths = [c.shape[1] for c in self.codebooks]
        if widths != [self.n_bands] * len(widths):
            raise Codec2EqError(f"codebooks of {widths} bands", "all stages need the same number")
        if not 1 <= survivors <= MOST_SURVIVORS:
            raise Codec2EqError(
                f"survivors {survivors}", f"from 1 to {MOST_SURVIVORS} are possible"
            )
        self.survivors = survivors
        self.start, self.end = start, self.n_bands if end is None else end
        if not 0 <= self.start < self.end <= self.n_bands:
            raise Codec2EqError(
                f"bands {self.start} to {self.end - 1}",
                f"expected a range within 0 to {self.n_bands - 1}, both included",
            )
        # Before the last stage there are no more sums than entries to add.
        self._kept = min(survivors, math.prod(len(c) for c in self.codebooks[:-1]))
        self._searched = [np.ascontiguousarray(c[:, self.start : self.end]) for c in self.codebooks]
        self._grouped = [group_entries(c) for c in self._searched]

    def search(self, shapes: Floats) -> Ints:
        """Return entries' indexes, (n, n_stages) int32, for (n, n_bands) shapes in dB."""
        shapes = _check_vectors(shapes, self.n_bands)
        searched = np.ascontiguousarray(shapes[:, self.start : self.end])
        return search(searched, self._searched, self._grouped, self._kept)

    def lookup(self, indexes: Ints) -> Floats:
        """Return the sums of the entries at (n, n_stages) indexes, (n, n_bands) float32, dB."""
        quantised = self.codebooks[0][indexes[:, 0]]
        for stage, codebook in enumerate(self.codebooks[1:], start=1):
            quantised += codebook[indexes[:, stage]]
        return quantised

    def quantise(self, shapes: Floats) -> tuple[Floats, Ints]:
        """Quantise shapes.

        Parameters
        ----------
        shapes : ndarray of shape (n, n_bands)
            Vectors without their mean, dB.

        Returns
        -------
        quantised : ndarray of float32, shape (n, n_bands)
            Sums of the chosen entries, dB.
        indexes : ndarray of int32, shape (n, n_stages)
            Which entries they are.

        Raises
        ------
        Codec2EqError
            If shapes are not of n_bands, not finite or beyond SEARCHABLE_DB.
        """
        indexes = self.search(shapes)
        return self.lookup(indexes), indexes

    def distortion(self, shapes: Floats) -> float:
        """Return the mean squared error, dB^2 per band, of (n, n_bands) shapes without mean."""
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
        self._squares += float(np.square(error).sum()) / error.shape[1]
        error -= error.mean(axis=1, keepdims=True)
        self._squares_without_mean += float(np.square(error).sum()) / error.shape[1]
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


def zero_mean(vectors: Floats) -> Floats:
    """Return (n, K) vectors in dB as shapes without mean, float32.

    Shapes whose mean was removed before come back untouched, bit for bit.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    mean, shapes = remove_mean(vectors)
    return np.where(np.abs(mean)[:, None] < MEAN_TOLERANCE_DB, vectors, shapes)


def _check_vectors(vectors: np.ndarray, n_bands: int) -> Floats:
    vectors = float_vectors(vectors)
    if vectors.ndim != 2 or vectors.shape[1] != n_bands:
        raise Codec2EqError(
            f"vectors of shape {vectors.shape}",
            f"the codebooks have {n_bands} bands, so (n, {n_bands}) is needed",
        )
    bad = first_beyond(vectors, SEARCHABLE_DB)
    if bad is not None:
        if not np.isfinite(vectors[bad]).all():
            raise Codec2EqError(
                "", f"vector {bad} holds NaN or infinity", "only finite vectors can be quantised"
            )
        raise Codec2EqError(
            "",
            f"vector {bad} reaches {peak(vectors[bad]):.3g} dB, at most "
            f"{SEARCHABLE_DB:g} can be searched",
            "is it in dB?",
        )
    return vectors
