# SPDX-License-Identifier: LGPL-2.1-or-later
"""What outlives a power loss: data reach the disk before a name or a record says they are there."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterable

from codec2_eq.system import BINARY


def sync_path(path: str) -> None:
    """Have a file's data, or a folder's names, reach the disk."""
    folder = os.path.isdir(path)
    if folder and not hasattr(os, "O_DIRECTORY"):  # Windows keeps names by itself
        return
    descriptor = os.open(path, os.O_RDONLY | BINARY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno not in (errno.EINVAL, errno.EBADF):  # network file systems
            raise
    finally:
        os.close(descriptor)


def sync_together(folder: str, paths: Iterable[str]) -> None:
    """Have many files and folders reach the disk in one go, where the system can.

    folder : on the same file system
    """
    sync = _syncfs()
    if sync is None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                sync_path(path)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def _syncfs() -> Callable[[int], None] | None:
    """Return Linux's syncfs, None on other systems."""
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        return None

    def call(descriptor: int) -> None:
        if function(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return call
