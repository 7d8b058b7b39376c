# SPDX-License-Identifier: LGPL-2.1-or-later
"""Digests of what a corpus holds, by which damage is found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import IO

from codec2_eq.corpus.containers import LEVEL_ROW_BYTES
from codec2_eq.corpus.entries import Record

DIGEST_BYTES = 16

_READ_BYTES = 1 << 20


def new_digest() -> hashlib.blake2b:
    """Return a digest to be updated."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def add_span(digest: hashlib.blake2b, file: IO[bytes], start: int, n_bytes: int) -> None:
    """Add a span of a file to a digest, as far as it is there."""
    file.seek(start)
    while n_bytes and (data := file.read(min(n_bytes, _READ_BYTES))):
        digest.update(data)
        n_bytes -= len(data)


def sealed(lines: bytes) -> bytes:
    """Return the lines of a state file with one more by which `unsealed` finds any change."""
    return lines + _seal(lines)


def unsealed(data: bytes) -> bytes:
    """Return the lines that were sealed; raise ValueError if they are others, or were cut."""
    end = data.rfind(b"\n", 0, -1) + 1
    lines = data[:end]
    if data[end:] != _seal(lines):
        raise ValueError("not as it was written")
    return lines


def _seal(lines: bytes) -> bytes:
    digest = new_digest()
    digest.update(lines)
    return b'"%b"\n' % digest.hexdigest().encode()  # JSON, as the lines are


def content_of(path: str) -> str:
    """Return the digest of a recording; empty if it cannot be read."""
    digest = new_digest()
    try:
        with open(path, "rb", buffering=0) as file:
            add_span(digest, file, 0, os.fstat(file.fileno()).st_size)
    except OSError:
        return ""
    return digest.hexdigest()


def spans_hold(records: Iterable[Record], path: str, levels: str | None = None) -> bool:
    """Whether the spans of a file, one after another, have the digests of their records."""
    try:
        files = [open(name, "rb", buffering=0) for name in (path, levels) if name is not None]
    except OSError:
        return False
    try:
        return all(_next_span_holds(record, files) for record in records if record.problem is None)
    except OSError:
        return False
    finally:
        for file in files:
            file.close()


def _next_span_holds(record: Record, files: Sequence[IO[bytes]]) -> bool:
    digest = new_digest()
    sizes = (record.n_bytes, record.n_frames * LEVEL_ROW_BYTES)
    for file, n_bytes in zip(files, sizes, strict=False):
        add_span(digest, file, file.tell(), n_bytes)
    return digest.hexdigest() == record.digest
