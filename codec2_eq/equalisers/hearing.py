# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an equaliser learns of a recording that it hears before it equalises it.

Two things carry over: the memory that a stream ends with when it has heard all of it twice, and,
for equalisers that aim at the quantiser's codebook, a constant curve on top. That curve is the
fixed point of c += 1.8 mean(e - VQ(e)), e what a stream with that memory puts out less c: with it
the errors of the quantiser average to zero over the active frames.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec2_eq.equalisers.classic import CMN_ACTIVE_DB, CMN_SILENCE_DB
from codec2_eq.equalisers.stream import EqualiserStream, Floats, State
from codec2_eq.records import remove_mean

if TYPE_CHECKING:
    from codec2_eq.vq.quantiser import Quantiser

STEP = np.float32(1.8)  # over-relaxed: the cells of a quantiser move with the curve
STEPS = 5  # chosen on training speakers, as are the two hearings; more gain next to nothing
HEARINGS = 2  # the second judges the start by what the first has learnt
MOST_FRAMES = 500
"""Most active frames that the curve is found from [20 s at 40 ms]; evenly spaced ones of more."""

LOUD_SHARE = 0.95  # of the frames are softer than what counts as loud
_LEVELS_DB = 512  # whole decibels that are counted apart, half of them below 0

Start = Callable[[], EqualiserStream]


class Knowledge(NamedTuple):
    """What was learnt: the memory to start with, and the constant curve (K,) dB, or None."""

    state: State
    curve: Floats | None


class Hearing:
    """Hears speech block by block, all of it HEARINGS times with `hear`, then with `settle`."""

    def __init__(self, start: Start, state: State | None = None) -> None:
        self._start = start
        self._stream = start()
        if state is not None:
            self._stream.restore(state)
        self._levels = np.zeros(_LEVELS_DB, np.int64)
        self._again: EqualiserStream | None = None
        self._kept: list[NDArray[np.float32]] = []
        self._n_active = 0
        self._stride = 1

    def hear(self, vectors: NDArray[Any]) -> None:
        """Take the next vectors (n, K) dB."""
        self._stream.process(vectors)
        self._levels += np.bincount(_level_index(vectors), minlength=_LEVELS_DB)

    def settle(self, vectors: NDArray[Any]) -> None:
        """Take the same vectors again, to find the constant curve; the division may differ."""
        if not self._stream.aims_at_codebook:
            return
        if self._again is None:
            self._again = start_knowing(self._start, Knowledge(self._stream.state(), None))
        active = self._again.process(vectors)[_level_index(vectors) > self._floor]
        first = -self._n_active % self._stride
        self._kept += list(active[first :: self._stride])
        self._n_active += len(active)
        while len(self._kept) > MOST_FRAMES:
            self._kept = self._kept[::2]
            self._stride *= 2

    def learnt(self) -> Knowledge:
        """Return what was learnt from all that was heard."""
        return Knowledge(self._stream.state(), self._curve())

    @functools.cached_property
    def _floor(self) -> int:
        """Index of the level above which a frame is active, as `_level_index` counts."""
        heard = np.cumsum(self._levels)
        loud = int(np.searchsorted(heard, LOUD_SHARE * heard[-1]))
        return max(loud - round(CMN_ACTIVE_DB), round(CMN_SILENCE_DB) + _LEVELS_DB // 2)

    def _curve(self) -> Floats | None:
        if not self._kept:
            return None
        quantiser = _quantiser()
        shapes = np.array(self._kept)
        curve = np.zeros(shapes.shape[1], np.float32)
        for _ in range(STEPS):
            left = shapes - curve
            curve += STEP * (left - quantiser.quantise(left)[0]).mean(axis=0)
        return curve - curve.mean()


@functools.cache
def _quantiser() -> Quantiser:
    from codec2_eq.codec2.library import codebook_700c
    from codec2_eq.vq.quantiser import Quantiser

    return Quantiser(codebook_700c())


def _level_index(vectors: NDArray[Any]) -> NDArray[np.int64]:
    """Levels of (n, K) vectors in whole decibels, counted from 0."""
    level = remove_mean(np.asarray(vectors, np.float32))[0]
    half = _LEVELS_DB // 2
    return (np.clip(np.floor(level), -half, half - 1) + half).astype(np.int64)


def start_knowing(start: Start, known: Knowledge) -> EqualiserStream:
    """Start a stream that knows what was learnt."""
    stream = start()
    stream.restore(known.state)
    return stream if known.curve is None else _Settled(stream, known.curve)


class _Settled(EqualiserStream):
    """Another stream with a constant curve on top, which is no part of its state."""

    def __init__(self, stream: EqualiserStream, curve: Floats) -> None:
        self._stream = stream
        self._curve = curve
        self.aims_at_codebook = stream.aims_at_codebook

    @property
    def curve_db(self) -> Floats | None:
        """As `EqualiserStream.curve_db`."""
        moving = self._stream.curve_db
        return None if moving is None else moving + self._curve

    def state(self) -> dict[str, NDArray[Any]]:
        """As `EqualiserStream.state`."""
        return self._stream.state()

    def restore(self, state: State) -> None:
        """As `EqualiserStream.restore`."""
        self._stream.restore(state)

    def _next(self, rows: Floats) -> Floats:
        return self._stream.process(rows) - self._curve
