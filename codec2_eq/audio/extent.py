# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the recordings of a file are, and what libsndfile is given to read of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from codec2_eq.errors import Codec2EqError

_STRANGE_BYTES = 1024
"""Up to this many bytes that belong to nothing are ignored: notes and padding by programs."""

_MOST_MARKS = 100_000
"""Titles, damaged pages and beginnings of recordings; only a hostile file has more."""

AS_FAR = "; processed as far as it goes"


class Part(NamedTuple):
    """A recording among those of a file.

    start, end : offsets of its first byte and behind its last
    n_samples : its length if its own header does not state it, else None
    head : bytes that state it, for before `start`; empty if there is no way to
    """

    start: int
    end: int
    n_samples: int | None = None
    head: bytes = b""


@dataclass(frozen=True)
class Extent:
    """The recordings of a file, and what is wrong with it.

    parts : empty if libsndfile reads the file as it is
    wrapped : whether it is FLAC in pages of Ogg
    problems : one line each
    """

    parts: tuple[Part, ...] = ()
    wrapped: bool = False
    problems: tuple[str, ...] = ()


def strange(n_bytes: int, kind: str) -> list[str]:
    """Return the problem of n_bytes that are not of this kind, if it is worth a warning."""
    if n_bytes <= _STRANGE_BYTES:
        return []
    return [f"holds {n_bytes} bytes that are not {kind}, skipped"]


def check_marks(n_marks: int) -> None:
    """Raise Codec2EqError if a file would take forever to look through."""
    if n_marks > _MOST_MARKS:
        raise Codec2EqError(
            "",
            f"holds over {_MOST_MARKS:,} titles, damaged pages or beginnings of recordings",
            "repair it or split it into files",
        )
