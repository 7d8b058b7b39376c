# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user should see: warnings of the library, and lines of the command line on stderr.

Warnings go to the logger "codec2_eq", which the command line shows on stderr.
"""

from __future__ import annotations

import sys

_prefix: str | None = None
_verbosity = 0


def show_on_stderr(prefix: str, *, verbosity: int = 0) -> None:
    """Print warnings, each with a prefix; logging itself is imported with the first of them.

    verbosity : -1 for warnings only, 1 for more than `tell` prints
    """
    global _prefix, _verbosity
    _prefix, _verbosity = prefix, verbosity


def printable(text: str) -> str:
    """Return text as one line without control characters, which file names may contain.

    They could control a terminal; what cannot be shown becomes a Python escape sequence.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def tell(text: str) -> None:
    """Print lines about the work on stderr, unless -q was given."""
    if not is_quiet():
        lines = map(printable, text.split("\n"))
        print("\n".join(lines), file=sys.stderr, flush=True)


def tell_more(line: str) -> None:
    """Print a line on stderr if -v was given."""
    if _verbosity > 0:
        tell(line)


def is_quiet() -> bool:
    """Whether -q was given."""
    return _verbosity < 0


def print_error(message: str) -> None:
    """Print what ended a command, or the work on one of its inputs, as one line on stderr."""
    print(f"codec2-eq: error: {printable(message)}", file=sys.stderr)


def shows_progress() -> bool:
    """Whether stderr is a terminal, and -q was not given."""
    return not is_quiet() and sys.stderr.isatty()


def warn(message: str) -> None:
    """Log a warning that the user should see once."""
    import logging

    logger = logging.getLogger("codec2_eq")
    if _prefix is not None and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"{_prefix}%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.warning("%s", printable(message))
