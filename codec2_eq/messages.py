# SPDX-License-Identifier: LGPL-2.1-or-later
"""Warnings of the library: to the logger "codec2_eq", which the command line shows on stderr."""

from __future__ import annotations

_prefix: str | None = None


def show_on_stderr(prefix: str) -> None:
    """Print warnings, each with a prefix; logging itself is imported with the first of them."""
    global _prefix
    _prefix = prefix


def warn(message: str) -> None:
    """Log a warning that the user should see once."""
    import logging

    logger = logging.getLogger("codec2_eq")
    if _prefix is not None and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"{_prefix}%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.warning(message)
