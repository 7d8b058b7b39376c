# SPDX-License-Identifier: LGPL-2.1-or-later
"""Idle objects that are costly to make, kept for the next caller that needs one of their kind."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """At most `most` idle objects; beyond that, the oldest ones go.

    Each step is atomic, so that threads may share it, and no lock is held when a process forks.
    """

    def __init__(self, most: int) -> None:
        self._idle: deque[tuple[Hashable, T]] = deque(maxlen=most)

    def take(self, kind: Hashable) -> T | None:
        """Return an idle object of a kind, which then is the caller's alone, or None."""
        for _ in range(len(self._idle)):
            try:
                own, idle = self._idle.popleft()
            except IndexError:  # another thread was faster
                break
            if own == kind:
                return idle
            self._idle.append((own, idle))
        return None

    def give(self, kind: Hashable, idle: T) -> None:
        """Keep an object that is as new."""
        self._idle.append((kind, idle))
