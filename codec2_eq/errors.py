# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one exception that users see, and what raises it in many places."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any


class Codec2EqError(ValueError):
    """Bad data or a bad request, in three parts that `str` joins to one line.

    The command line prints it as ``codec2-eq: error: <subject>: <problem>; <remedy>`` and exits
    with 1.

    Parameters
    ----------
    subject : str or path
        What it is about, most often the name of a file.
    problem : str
        What is wrong, and the limit where there is one.
    remedy : str
        What the user can do.

    Examples
    --------
    >>> try:
    ...     ce.extract_file("nowhere.wav")
    ... except ce.Codec2EqError as error:
    ...     print(error)
    nowhere.wav: no such file
    """

    def __init__(
        self, subject: str | os.PathLike[str], problem: str = "", remedy: str = ""
    ) -> None:
        super().__init__(os.fspath(subject), problem, remedy)
        self.subject = os.fspath(subject)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        """Join the parts that are not empty."""
        head = ": ".join(part for part in (self.subject, self.problem) if part)
        return "; ".join(part for part in (head, self.remedy) if part)

    def about(self, subject: str) -> str:
        """Return the text for a place that names the subject already."""
        if self.subject != subject:
            return str(self)
        return "; ".join(part for part in (self.problem, self.remedy) if part)

    def of(self, subject: str) -> Codec2EqError:
        """Return the same error about another subject."""
        return type(self)(subject, self.problem, self.remedy)


class OneThread:
    """Context that keeps other threads out of a stream, whose samples they would mix up.

    Raises Codec2EqError, about `subject`, in the other thread.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise Codec2EqError(
                self._subject, "is in use by another thread", "give each thread one of its own"
            )

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        """Let streams be copied: a copy is free."""
        return OneThread, (self._subject,)


def require_extra(what: str, extra: str, *packages: str) -> None:
    """Import optional packages, before any work is done that would be lost without them.

    Raises Codec2EqError, naming the extra of setup.cfg to install, if one is missing.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise missing_extra(what, extra, error) from error


def missing_extra(what: str, extra: str, error: ImportError) -> Codec2EqError:
    """Return the error of an optional package that is not installed."""
    return Codec2EqError(
        what,
        f"needs {error.name or error}, which is not installed",
        f"in the folder of the sources run: pip install '.[{extra}]'",
    )
