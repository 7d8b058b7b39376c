# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recordings through the compiled analysis block by block; long ones on several cores."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import Analyser
from codec2_eq.audio.pool import Pool
from codec2_eq.codec2 import HOP, RATE_HZ

SPAN = 16 * 40_960
"""Samples that one worker analyses at a time [82 s]: whole blocks of the analysis."""

SAMPLES_ALONE = 3600 * RATE_HZ
"""Samples at the start, whole frames, that are not shared out: threads would cost more there."""

WARM_UP = 100 * HOP
"""Samples before a span after which its worker's memory is, almost always, the true one."""

Arrays = tuple[NDArray[Any], ...]


def analyse_blocks(
    blocks: Iterable[NDArray[np.float32]], step: int, *, jobs: int = 1, harmonics: bool = False
) -> Iterator[Arrays]:
    """Analyse mono 8 kHz blocks in the scale of int16; yield what `Analyser` returns, in order.

    step : 10 ms frames from one that is returned to the next;  jobs : threads
    With one job each block is analysed as it comes. With more, what follows on the first hour
    is shared out in spans of 82 s; the numbers are the same for any jobs.
    """
    idle = _idle_analysers.take((step, harmonics)) or _new_analyser(step, harmonics)
    analyser, start = idle
    alone = sys.maxsize if jobs == 1 else SAMPLES_ALONE
    blocks, rest = iter(blocks), np.empty(0, np.float32)
    try:
        while alone > 0 and (block := next(blocks, None)) is not None:
            yield analyser.process(block[:alone])
            alone, rest = alone - len(block), block[alone:]
        spans = _regroup(itertools.chain([rest], blocks), SPAN)
        if (first := next(spans, None)) is not None:
            yield from _in_parallel(first, spans, analyser, jobs)
    finally:
        analyser.state = start
        _idle_analysers.give((step, harmonics), idle)


_idle_analysers: Pool[tuple[Any, bytes]] = Pool(4)
"""Analysers and the state that all begin with, by step and harmonics: the memory of a new one costs
as much as 0.4 s of speech."""


def _new_analyser(step: int, harmonics: bool) -> tuple[Any, bytes]:
    analyser = Analyser(step, harmonics=harmonics)
    return analyser, analyser.state


def _in_parallel(
    first: NDArray[np.float32], spans: Iterator[NDArray[np.float32]], analyser: Any, jobs: int
) -> Iterator[Arrays]:
    """Analyse spans in threads, each from a guess of its memory that is verified afterwards.

    All that crosses from frame to frame fades: the pitch filters forget, and the previous pitch
    only halves a threshold. So a worker begins WARM_UP samples early; where its memory at the
    start of the span is not what the span before has left, the span is analysed again.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(jobs) as pool:
        pending: deque[tuple[NDArray[np.float32], Future[Any]]] = deque()
        span = first
        yield analyser.process(first)
        while True:
            while len(pending) <= jobs and (following := next(spans, None)) is not None:
                guess = pool.submit(_analyse_span, span[-WARM_UP:], following, analyser)
                pending.append((following, guess))
                span = following
            if not pending:
                return
            samples, guess = pending.popleft()
            started, arrays, state = guess.result()
            if started == analyser.state:
                analyser.state = state
            else:
                whole = len(samples) - len(samples) % HOP
                arrays = analyser.process(samples[:whole])
            yield arrays


def _analyse_span(
    before: NDArray[np.float32], span: NDArray[np.float32], alike: Any
) -> tuple[bytes, Arrays, bytes]:
    """Analyse one span: memory at its start, results, memory at its end."""
    analyser = Analyser(alike.step, harmonics=alike.harmonics)
    analyser.process(before)
    started = analyser.state
    arrays = analyser.process(span[: len(span) - len(span) % HOP])
    return started, arrays, analyser.state


def _regroup(blocks: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Regroup blocks into arrays of `size` samples; the last one is shorter."""
    held: list[NDArray[np.float32]] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        if n_held >= size:
            joined = np.concatenate(held)
            n_whole = n_held - n_held % size
            for start in range(0, n_whole, size):
                yield joined[start : start + size]
            held, n_held = [joined[n_whole:]], n_held - n_whole
    if n_held:
        yield np.concatenate(held)
