# SPDX-License-Identifier: LGPL-2.1-or-later
"""Binary files and standard streams: whole files or none, and errors that name the remedy.

`-` is stdin or stdout. An output file appears under its final name only when it is whole. Devices,
pipes and standard output are written directly, each write at once and without a buffer, so that
whoever reads them never waits for us.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import IO, Any

from codec2_eq import system
from codec2_eq.errors import Codec2EqError
from codec2_eq.messages import printable
from codec2_eq.system import sync_path

STANDARD = "-"
"""The path that means stdin or stdout."""

_OWN_DESCRIPTORS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")

_READ_REMEDIES = {
    errno.ENOENT: "no such file",
    errno.EISDIR: "is a directory, not a file; name the files in it",
    errno.ENOTDIR: "part of this path is a file, not a folder",
    errno.EACCES: "no permission to read it; check its mode and owner",
}
_WRITE_REMEDIES = {
    errno.ENOENT: "its folder does not exist; create it first",
    errno.EISDIR: "is a directory; name a file in it",
    errno.EEXIST: "is a file; name a folder",
    errno.ENOTDIR: "part of this path is a file, not a folder",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "disk full; free some space or write elsewhere",
    errno.EDQUOT: "disk quota exceeded; free some space or write elsewhere",
    errno.EFBIG: "file too large for its file system; split the job or write elsewhere",
}

PathLike = str | os.PathLike[str]


def display_name(path: PathLike, *, standard: str = "stdin") -> str:
    """Return the name that messages use: the path, or `standard` for `-`; safe to be printed."""
    return standard if os.fspath(path) == STANDARD else printable(os.fspath(path))


def read_error(name: str, error: OSError) -> Codec2EqError:
    """Describe an OSError from opening or reading `name` in one line."""
    return _translate(name, error, _READ_REMEDIES)


def write_error(name: str, error: OSError) -> Codec2EqError:
    """Describe an OSError from opening or writing `name` in one line."""
    return _translate(name, error, _WRITE_REMEDIES)


def _translate(name: str, error: OSError, remedies: dict[int, str]) -> Codec2EqError:
    reason = remedies.get(error.errno or 0, error.strerror or str(error))
    problem, _, remedy = reason.partition("; ")
    return Codec2EqError(name, problem, remedy)


def regular_size(handle: IO[bytes]) -> int | None:
    """Return the length of a regular file that is at its beginning, None for all that streams."""
    try:
        found = os.fstat(handle.fileno())
        whole = stat.S_ISREG(found.st_mode) and handle.tell() == 0
    except (OSError, ValueError):  # an object in memory
        return None
    return found.st_size if whole else None


def read_bytes(handle: IO[bytes], name: str, n_bytes: int) -> bytes:
    """Return the next n_bytes, fewer at the end; raise Codec2EqError if they cannot be read."""
    try:
        return handle.read(n_bytes)
    except OSError as error:
        raise read_error(name, error) from error


class OutputFile(io.FileIO):
    """An unbuffered binary output whose failures are reported in one line.

    ``write`` writes all it is given. A broken pipe stays a BrokenPipeError: it is no error of ours
    and ends a program quietly.
    """

    def __init__(self, file: str | int, *, name: str, closefd: bool = True, **options: Any) -> None:
        super().__init__(file, "w", closefd=closefd, **options)
        self.display_name = name

    def write(self, data: Any, /) -> int:
        """Write all bytes of a contiguous buffer; raise Codec2EqError on a full disk."""
        view = memoryview(data)
        if not view.nbytes:  # an empty view cannot be cast
            return 0
        view = view.cast("B")
        written = 0
        try:
            while written < len(view):
                written += super().write(view[written:])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise write_error(self.display_name, error) from error
        return written


def is_stdout(path: PathLike) -> bool:
    """Whether `path` means standard output, whatever that is connected to."""
    return os.fspath(path) in (STANDARD, "/dev/stdout")


def is_pipe(path: PathLike) -> bool:
    """Whether `path` is read as it comes (a pipe on stdin, a fifo, a device), without a length."""
    try:
        standard = os.fspath(path) == STANDARD
        mode = os.stat(sys.stdin.fileno() if standard else path).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or an object in memory
        return os.fspath(path) == STANDARD
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextlib.contextmanager
def open_input(path: PathLike) -> Iterator[io.BufferedReader]:
    """Open a file or stdin (`-`) for reading; ``read1`` hands on what has arrived.

    Raises Codec2EqError if it cannot be opened or is a terminal.
    """
    if os.fspath(path) == STANDARD:
        if sys.stdin is None or sys.stdin.closed:
            raise Codec2EqError("stdin", "is closed", "name a file or pipe data in")
        if sys.stdin.isatty():
            raise Codec2EqError("stdin", "is a terminal", "name a file or pipe data in")
        system.make_binary(sys.stdin)
        yield sys.stdin.buffer  # type: ignore[misc]  # a BytesIO in tests, with the same methods
        return
    try:
        handle = open(path, "rb")
    except OSError as error:
        raise read_error(os.fspath(path), error) from error
    with handle:
        yield handle


@contextlib.contextmanager
def open_output(
    path: PathLike, *, force: bool = False, durable: bool = True
) -> Iterator[IO[bytes]]:
    """Open a file or stdout (`-`) for binary writing; a file appears only once it is complete.

    Raises Codec2EqError as `atomic_output` does, and if stdout is a terminal.
    """
    if not is_stdout(path):
        with atomic_output(path, force=force, durable=durable) as handle:
            yield handle
        return
    if sys.stdout is None or sys.stdout.closed:
        raise Codec2EqError("stdout", "is closed", "write to a file with -o FILE")
    if sys.stdout.isatty():
        raise Codec2EqError(
            "stdout",
            "is a terminal, and the output is binary",
            "write to a file with -o FILE, or pipe it on",
        )
    sys.stdout.flush()
    system.make_binary(sys.stdout)
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # replaced by an object in memory, as test tools do
        yield sys.stdout.buffer
        return
    with OutputFile(descriptor, name="stdout", closefd=False) as handle:
        yield handle


@contextlib.contextmanager
def atomic_output(
    path: PathLike, *, force: bool = False, durable: bool = True
) -> Iterator[IO[bytes]]:
    """Write a binary file under a temporary name beside its target; rename it on success.

    durable : the file outlives a power loss once it is there

    On any exception the temporary file is removed and the target is as before. A device, fifo or
    own descriptor (/dev/null, /dev/fd/3) is written directly. A symbolic link is followed.

    Raises Codec2EqError if the target exists and `force` is false, is a directory, or cannot be
    written.
    """
    name = os.fspath(path)
    if is_pipe(name) or name.startswith(_OWN_DESCRIPTORS):
        with _create(name, name) as handle:
            yield handle
        return
    target = os.path.realpath(name)
    mode = _check_target(name, target, force)
    part, handle = _open_part(target, name)
    try:
        if mode is not None:
            system.set_mode(handle.fileno(), mode)
        yield handle
        _check_target(name, target, force)  # it may have appeared meanwhile
        try:
            if durable:
                os.fsync(handle.fileno())
            handle.close()
            system.replace_file(part, target)
            if durable:
                sync_path(os.path.dirname(target))
        except OSError as error:
            raise write_error(name, error) from error
    except BaseException:
        with contextlib.suppress(OSError):
            handle.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _open_part(target: str, name: str) -> tuple[str, OutputFile]:
    """Open a new file beside a target, locked; remove those that killed runs have left there."""
    found: tuple[str, OutputFile] | None = None
    folder, base = os.path.split(target)
    number = -1
    while True:
        number += 1
        tag = f"{binascii.crc32(os.fsencode(base)):08x}-{number}"
        path = os.path.join(folder, f".codec2-eq-{tag}.part")
        there = os.path.lexists(path)
        if there and _is_left_behind(path):
            with contextlib.suppress(OSError):
                os.unlink(path)
            there = os.path.lexists(path)
        if there:
            continue
        if found is not None:
            return found
        with contextlib.suppress(FileExistsError):
            handle = _create(path, name, opener=_open_new)
            if system.lock(handle.fileno()) is not False and os.fstat(handle.fileno()).st_nlink:
                found = path, handle
            else:  # another run took it for left behind
                handle.close()


def _is_left_behind(path: str) -> bool:
    """Whether nobody writes to a temporary file any more."""
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and system.lock(descriptor) is True
    finally:
        os.close(descriptor)


def write_text(path: PathLike, text: str, *, force: bool = False) -> None:
    """Write text to a file, whole or not at all, or to stdout (`-`), be that a terminal or not.

    Raises Codec2EqError as `atomic_output` does.
    """
    if is_stdout(path):
        print(text, end="")
        return
    with atomic_output(path, force=force) as handle:
        handle.write(text.encode())


def require_writable(path: PathLike, *, force: bool = False, standard: bool = True) -> None:
    """Raise Codec2EqError if `path` cannot be written: before long work, and not after it.

    standard : whether `-` may be stdout
    """
    if not standard and os.fspath(path) == STANDARD:
        raise Codec2EqError(STANDARD, "stdout cannot take this", "name a file")
    if is_pipe(path) or is_stdout(path):  # a reader would take the trial for all there is
        return
    with contextlib.suppress(_OnlyTried), atomic_output(path, force=force):
        raise _OnlyTried


class _OnlyTried(Exception):
    """Undoes an output that was only tried."""


def _check_target(name: str, target: str, force: bool) -> int | None:
    """Return the mode of an existing target that may be replaced, None if there is none."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise write_error(name, error) from error
    if stat.S_ISDIR(mode):
        raise write_error(name, IsADirectoryError(errno.EISDIR, ""))
    if not force:
        raise Codec2EqError(name, "exists already", "pass -f to overwrite it")
    return stat.S_IMODE(mode)


def _create(path: str, name: str, **options: Any) -> OutputFile:
    try:
        return OutputFile(path, name=name, **options)
    except OSError as error:
        raise write_error(name, error) from error


def _open_new(path: str, flags: int) -> int:
    """Open a file that must be new, with the mode that the user's umask gives any new file."""
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | system.BINARY, 0o666)
