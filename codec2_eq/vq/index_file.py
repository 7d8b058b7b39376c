# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of VQ indexes: lines of text, or an array."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.files import is_stdout, open_output

Ints = NDArray[np.int32]


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
        if os.fspath(self._path).endswith(".npy"):  # its header holds the length
            self._blocks.append(indexes)
        else:
            lines = (" ".join(map(str, row)) + "\n" for row in indexes.tolist())
            self._handle.write("".join(lines).encode())
            self._handle.flush()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None and self._blocks:
            np.save(self._handle, np.concatenate(self._blocks))
        self._resources.__exit__(kind, error, traceback)
