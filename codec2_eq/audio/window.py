# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes of a regular file by their offsets.

The file is read, not mapped: if a mapped file is cut meanwhile, a signal ends the process.
"""

from __future__ import annotations

import os
import re

_WINDOW_BYTES = 1 << 18
_MOST_PATTERN_BYTES = 16


class FileWindow:
    """A file that is sliced and searched like `bytes`; little of it is in memory at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._start = 0
        self._held = b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice) -> bytes:
        start = min(span.start or 0, self._size)
        stop = min(span.stop, self._size)
        if start < self._start or stop > self._start + len(self._held):
            self._read(start, stop)
        return self._held[start - self._start : max(start, stop) - self._start]

    def search(self, pattern: re.Pattern[bytes], start: int, stop: int | None = None) -> int:
        """Return the first offset from `start` on where a pattern matches, otherwise the end.

        pattern : of at most _MOST_PATTERN_BYTES
        stop : where to give up, or a little later; by default at the end
        """
        while start < (self._size if stop is None else min(stop, self._size)):
            held_to = self._start + len(self._held)
            enough = held_to == self._size or start + _MOST_PATTERN_BYTES <= held_to
            if not (self._start <= start and enough):
                self._read(start, start + _MOST_PATTERN_BYTES)
                held_to = self._start + len(self._held)
            if match := pattern.search(self._held, start - self._start):
                return self._start + match.start()
            start = held_to if held_to == self._size else held_to - _MOST_PATTERN_BYTES + 1
        return self._size

    def _read(self, start: int, stop: int) -> None:
        """Hold the bytes from start to at least stop; a file that is shorter by now ends there."""
        wanted = max(stop - start, _WINDOW_BYTES)
        os.lseek(self._descriptor, start, os.SEEK_SET)
        held = bytearray()
        while len(held) < wanted and (data := os.read(self._descriptor, wanted - len(held))):
            held += data
        self._start, self._held = start, bytes(held)
        if len(held) < min(wanted, self._size - start):
            self._size = start + len(held)
