# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small .npz files with a JSON text `meta`, read without trusting their contents."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, read_error
from codec2_eq.vectors import npy

MOST_BYTES = 1 << 27
"""Largest file, and largest content when unpacked: a network of 32 million weights."""


class NoArchive(ValueError):
    """Raised for a file that is no such archive; the caller knows what it should be."""


def read_archive(path: PathLike) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the object in `meta` and the other arrays.

    Raises Codec2EqError if the file cannot be read or is too large, NoArchive if it is another.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as handle:
            content = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise read_error(name, error) from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            require_small(name, max(len(content), sum(member.file_size for member in members)))
            arrays = {
                member.filename.removesuffix(".npy"): _read_array(archive, member)
                for member in members
            }
        meta = json.loads(str(arrays.pop("meta")[0]))
    except Codec2EqError:
        raise
    except (
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise NoArchive(str(error)) from error
    if not isinstance(meta, dict):
        raise NoArchive("meta is no object")
    return meta, arrays


def require_small(name: str, n_bytes: int) -> None:
    """Raise Codec2EqError for a file that is larger than any network."""
    if n_bytes > MOST_BYTES:
        raise Codec2EqError(
            name, f"{n_bytes:,} bytes of arrays, at most {MOST_BYTES:,}", "is it another file?"
        )


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as handle:
        try:
            array = npy.ArrayReader(handle, member.filename)
            if array.dtype.kind == "U":
                return np.array([array.text(MOST_BYTES)])
            if array.dtype.kind not in "fiub" or array.n_bytes > MOST_BYTES:
                raise NoArchive(f"{member.filename} is of {array.shape} {array.dtype}")
            return np.concatenate(list(array.blocks(MOST_BYTES)))
        except Codec2EqError as error:
            raise NoArchive(str(error)) from error
