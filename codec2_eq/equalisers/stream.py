# SPDX-License-Identifier: LGPL-2.1-or-later
"""The streaming interface of equalisers: blocks of vectors in, blocks of shapes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import K
from codec2_eq.errors import Codec2EqError, OneThread
from codec2_eq.records import first_bad_row, float_vectors

Floats = NDArray[np.float32]
State = Mapping[str, NDArray[Any]]


class EqualiserStream:
    """An equaliser running on one utterance; holds only its memory.

    Examples
    --------
    >>> vectors = ce.extract_file("samples/espeak_male_1.wav").vectors
    >>> equaliser = ce.load_equaliser("cmn")
    >>> stream = equaliser.stream()
    >>> blocks = [stream.process(block) for block in np.array_split(vectors, 9)]
    >>> np.array_equal(np.concatenate(blocks), equaliser(vectors))
    True
    """

    aims_at_codebook = False
    """Whether it moves speech towards the codebook's mean."""

    _alone: OneThread

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make a stream, of whatever memory, that one thread may use at a time."""
        stream = super().__new__(cls)
        stream._alone = OneThread("EqualiserStream")
        return stream

    def process(self, block: NDArray[Any]) -> Floats:
        """Equalise the next frames.

        Parameters
        ----------
        block : ndarray of shape (n, K)
            Vectors in dB, n from 0. Not modified.

        Returns
        -------
        ndarray of float32, shape (n, K)
            Equalised vectors, dB; a new array.

        Raises
        ------
        Codec2EqError
            For another shape, values that are not finite or no decibels, and while another
            thread is in it.
        """
        rows = float_vectors(block)
        if rows.ndim != 2 or rows.shape[1] != K:
            raise Codec2EqError(f"vectors of shape {rows.shape}", f"expected (frames, {K})")
        rows = np.ascontiguousarray(rows)
        if (bad := first_bad_row(rows)) is not None:
            raise Codec2EqError(
                f"vector {bad[0]}", bad[1], "vectors are decibels, as extract gives them"
            )
        with self._alone:
            return self._next(rows)

    @property
    def curve_db(self) -> Floats | None:
        """The curve that it removes from the next frame, (K,) dB; None if it has none."""
        return None

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what it remembers, to `restore` later; empty without memory."""
        return {}

    def restore(self, state: State) -> None:
        """Continue from another stream's state, so that a station's microphone is known at once.

        Parameters
        ----------
        state : mapping of str to ndarray
            What `state` returned, of the same equaliser.

        Raises
        ------
        Codec2EqError
            If the state belongs to another equaliser, or is damaged.
        """
        if not isinstance(state, Mapping):
            raise Codec2EqError(
                f"state of type {type(state).__name__}", "expected arrays by name, as from np.load"
            )
        own = self.state()
        if {n: v.shape for n, v in own.items()} != {n: np.shape(v) for n, v in state.items()}:
            held, wanted = (", ".join(names) or "nothing" for names in (state, own))
            raise Codec2EqError(
                "",
                f"state of {held}, expected {wanted}",
                "save it from a stream of the same equaliser",
            )
        values = [np.asarray(value) for value in state.values()]
        if not all(v.dtype.kind in "biuf" and np.isfinite(v).all() for v in values):
            raise Codec2EqError("state", "holds values that are not finite numbers", "start afresh")
        self._remember({n: np.array(state[n], v.dtype) for n, v in own.items()})

    def _remember(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over a state that is known to fit."""

    def _next(self, rows: Floats) -> Floats:
        raise NotImplementedError
