# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two passes over what comes in blocks: hear it all, then equalise it from the start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, Protocol, TypeVar

from codec2_eq.equalisers.equaliser import Equaliser, check_passes
from codec2_eq.equalisers.hearing import HEARINGS, Hearing, start_knowing
from codec2_eq.equalisers.stream import EqualiserStream, Floats, State


class _Block(Protocol):
    @property
    def vectors(self) -> Floats: ...


_B = TypeVar("_B", bound=_Block)


@contextlib.contextmanager
def begin(
    equaliser: Equaliser,
    blocks: Iterable[_B],
    *,
    passes: int = 1,
    state: State | None = None,
) -> Iterator[tuple[EqualiserStream, Iterable[_B]]]:
    """Make the stream that is to equalise some blocks, and the blocks to give it.

    blocks : records with `vectors`, such as those of `codec2_eq.extraction.stream_file`
    passes : 1 hands on the blocks as they come. 2 has the equaliser hear them first, keeping them
        in a temporary file so that memory stays flat, and start again knowing them; an equaliser
        without memory has nothing to learn and hears nothing
    state : of an earlier stream, to begin the first pass from
    """
    if check_passes(passes) == 1 or not equaliser.stateful:
        yield equaliser.stream(state), blocks
        return
    import pickle
    import tempfile

    with tempfile.TemporaryFile() as spool:
        hearing = Hearing(equaliser.stream, state)
        for block in blocks:
            hearing.hear(block.vectors)
            pickle.dump(block, spool)
        for _ in range(1, HEARINGS):
            for heard in _unspool(spool):
                hearing.hear(heard.vectors)
        for heard in _unspool(spool):
            hearing.settle(heard.vectors)
        yield start_knowing(equaliser.stream, hearing.learnt()), _unspool(spool)


def _unspool(spool: IO[bytes]) -> Iterator[Any]:
    import pickle

    spool.seek(0)
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(spool)  # our own, from a file without a name
