# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bytes around an utterance's rows in layouts of few large files.

Rows are float32 in all of them. A shard of layout `shards` holds nothing else. A Kaldi archive has
the key and the size of the matrix before each utterance. A WebDataset tar has headers before it
and a JSON member after it that describes the utterance.
"""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codec2_eq.codec2 import K

LEVELS_SUFFIX = ".records.f32"
"""Of the file beside a shard that holds its frames' levels, in place of the shard's own suffix."""

LEVELS_PIECE_SUFFIX = ".levels"
"""Of such a file while it is a task's."""

LEVEL_ROW_BYTES = 12
"""Bytes of a frame's level, pitch and voicing there."""

TAR_BLOCK_BYTES = 512

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Container:
    """A kind of file: its suffix, and the bytes that surround rows and end the file.

    head : from the key and the number of rows; its length depends on the key alone
    tail : from the key, the number of bytes of the rows, and a function that returns the facts
        about the utterance
    """

    suffix: str
    head: Callable[[str, int], bytes]
    tail: Callable[[str, int, Callable[[], dict[str, Any]]], bytes]
    end: bytes = b""


def _kaldi_head(key: str, n_frames: int) -> bytes:
    """Return the key and a binary header; Kaldi matrix/kaldi-matrix.cc."""
    return key_bytes(key) + b" \0BFM " + struct.pack("<bibi", 4, n_frames, 4, K)


def key_bytes(key: str) -> bytes:
    """Return a key as bytes: those of the file name where it is not UTF-8."""
    return key.encode("utf-8", "surrogateescape")


def is_text(value: str) -> bool:
    """Whether there are bytes for a text; JSON may hold halves of characters, which have none."""
    try:
        key_bytes(value)
    except UnicodeEncodeError:
        return False
    return True


def _npy_header(n_frames: int) -> bytes:
    """Return an .npy header of fixed length."""
    rows = np.broadcast_to(np.float32(0), (n_frames, K))
    header = io.BytesIO()
    fields = np.lib.format.header_data_from_array_1_0(rows) | {"fortran_order": False}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def _tar_header(name: str, n_bytes: int) -> bytes:
    import tarfile

    member = tarfile.TarInfo(name)
    member.size = n_bytes
    member.mode = 0o644
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padding(n_bytes: int) -> bytes:
    return b"\0" * (-n_bytes % TAR_BLOCK_BYTES)


def _tar_head(key: str, n_frames: int) -> bytes:
    header = _npy_header(n_frames)
    return _tar_header(f"{key}.npy", len(header) + 4 * K * n_frames) + header


def _tar_tail(key: str, n_bytes: int, facts: Callable[[], dict[str, Any]]) -> bytes:
    text = json.dumps(facts()).encode()
    member = _tar_header(f"{key}.json", len(text)) + text + _padding(len(text))
    return _padding(len(_npy_header(0)) + n_bytes) + member


def _nothing(*_: Any) -> bytes:
    return b""


CONTAINERS = {
    "shards": Container(".f32", _nothing, _nothing),
    "kaldi": Container(".ark", _kaldi_head, _nothing),
    "webdataset": Container(".tar", _tar_head, _tar_tail, b"\0" * (2 * TAR_BLOCK_BYTES)),
}
"""By layout. Layout `tree` has none, since each utterance has its own file."""

LAYOUTS = ("tree", *CONTAINERS)


def key_of(layout: str, stem: str) -> str:
    """Return the key of an utterance in an archive: its id or name as the format can have it."""
    key = "_".join(_CONTROL.sub(" ", stem).split()) or "_"
    if layout == "webdataset":  # where a key ends at its first dot
        key = key.replace(".", "_")
    return key
