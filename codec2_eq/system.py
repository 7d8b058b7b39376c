# SPDX-License-Identifier: LGPL-2.1-or-later
"""What operating systems do differently: no other module uses a name that one of them lacks.

Linux, macOS and Windows are served. What a system may lack is looked up when it is used.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + getattr(signal, "SIGPIPE", 13)  # 13 on every system that has it

BINARY = getattr(os, "O_BINARY", 0)
"""Flag for `os.open`: no translation of line ends, which Windows would do."""

REPLACE_PATIENCE_S = 2.0
"""How long a file's reader may keep it from being replaced, where readers can."""

_COPY_BYTES = 1 << 20


def core_count() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host_name() -> str:
    """Return this machine's name in the network."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def read_names_as_utf8() -> None:
    """Restart this program in UTF-8 mode if it would decode file names otherwise.

    Names are written into manifests, whose bytes must not depend on the locale.
    """
    if sys.platform == "win32" or sys.getfilesystemencoding() == "utf-8":
        return
    if os.environ.get("PYTHONUTF8") == "1" or not sys.executable:  # it did not help
        return
    if sys.stderr is not None:
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stderr.encoding}:backslashreplace")
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, sys.orig_argv)


def on_end_signal(leave: Callable[[int], None]) -> None:
    """Call `leave` with the signal's number when the user or the system politely ends us.

    SIGHUP, a closed terminal, is left alone where it is ignored: ``nohup`` means to go on.
    """
    signal.signal(signal.SIGTERM, lambda number, _: leave(number))
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        signal.signal(hangup, lambda number, _: leave(number))


def start_method(*, alone: bool) -> str:
    """Return how to start worker processes.

    alone : no other thread runs, which might hold a lock that would stay locked in a fork

    ``fork`` is ready at once; ``forkserver`` is safe beside threads; ``spawn`` is what there is on
    Windows, and on macOS the only one that its system libraries bear.
    """
    if sys.platform in ("darwin", "win32") or not hasattr(os, "fork"):
        return "spawn"
    return "fork" if alone else "forkserver"


def make_binary(stream: IO[str]) -> None:
    """Have a standard stream wait for data and leave the bytes as they are.

    Who started us may have left its descriptor not waiting; Windows would change line ends.
    """
    with contextlib.suppress(OSError, ValueError):  # it may be an object in memory
        descriptor = stream.fileno()
        if hasattr(os, "set_blocking"):
            os.set_blocking(descriptor, True)
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(descriptor, BINARY)


_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY
_NEW_FLAGS |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def open_new(path: str) -> int:
    """Open a file for writing, made anew, for this process and its forks alone."""
    return os.open(path, _NEW_FLAGS, 0o666)


def lock(descriptor: int) -> bool | None:
    """Lock an open file without waiting: whether it is ours now, None where nothing can be locked.

    The lock ends with the last descriptor of the file, however a process ends. On Windows every
    open file is locked in that it cannot be removed.
    """
    try:
        import fcntl
    except ImportError:
        return True if sys.platform == "win32" else None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def set_mode(descriptor: int, mode: int) -> None:
    """Give an open file permissions, where files have any."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)


def write_at_start(descriptor: int, data: bytes) -> None:
    """Write a few bytes at the beginning of a file, in one call."""
    if hasattr(os, "pwrite"):
        os.pwrite(descriptor, data, 0)
    else:
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, data)


def append_file(source: int, target: int) -> None:
    """Append what is left of one file to another; within the kernel, where that can be."""
    if sys.platform == "linux" and hasattr(os, "sendfile"):
        while os.sendfile(target, source, None, 1 << 30):
            pass
        return
    while data := os.read(source, _COPY_BYTES):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]


def replace_file(source: str, target: str) -> None:
    """Rename a file over another, which is then there as it was or as it shall be.

    On Windows a reader of `target` keeps it from being replaced: try for REPLACE_PATIENCE_S.

    Raises OSError as `os.replace` does.
    """
    deadline = None
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            deadline = deadline or time.monotonic() + REPLACE_PATIENCE_S
            if sys.platform != "win32" or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def flush_c_streams() -> None:
    """Write out what the C library of this process has buffered."""
    import ctypes

    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    library.fflush(None)


def open_descriptors() -> Iterator[tuple[int, str]]:
    """Yield this process's open descriptors and their files' paths, where the system tells."""
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            yield int(name), os.readlink(os.path.join(folder, name))


# What outlives a power loss: data reach the disk before a name or a record says they are there.


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
        for path in dict.fromkeys(paths):
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
