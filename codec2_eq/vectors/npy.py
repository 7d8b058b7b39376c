# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arrays of the .npy format in blocks, for files and pipes larger than memory.

numpy.load and numpy.save want the whole array, a seek, and the length beforehand. Here an array is
read as its bytes arrive, and written column by column while its length is still unknown.

The format, version 1.0 and up: magic, version, length of the header, header as a Python dictionary,
rows.
"""

from __future__ import annotations

import ast
import contextlib
import struct
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_error, write_error

_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 128
_SPOOL_BYTES = 1 << 20  # what a temporary file keeps in memory before it goes to the disk


def array_blocks(
    handle: IO[bytes], name: str, block_rows: int, *, text: bool = False
) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array in blocks of block_rows, one at least; a scalar as one row.

    name : of the file, for errors
    text : whether strings are allowed besides numbers
    Raises Codec2EqError if it is no .npy array, cut, goes on after its end, or of another type.
    """
    dtype, columns_first, shape = _read_header(handle, name, "fiub" + "U" * text)
    shape = shape or (1,)
    row_items = int(np.prod(shape[1:], dtype=np.int64))
    n_rows = shape[0]
    # In Fortran's order the rows are complete only with the last column.
    step = n_rows if columns_first else block_rows
    for first in range(0, max(1, n_rows), max(1, step)):
        rows = min(step, n_rows - first)
        data = _read_exactly(handle, name, rows * row_items * dtype.itemsize)
        block = np.frombuffer(data, dtype)
        yield block.reshape((rows, *shape[1:]), order="F" if columns_first else "C")
    # To the very end, where a zip archive checks its sum.
    if _read(handle, name, 1):
        raise Codec2EqError(f"{name}: goes on after its array; is it of another format?")


def _read_header(
    handle: IO[bytes], name: str, kinds: str
) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Return type, whether columns come first, and shape; refuse Python objects."""
    head = _read(handle, name, 8)
    if head[:6] != _MAGIC or len(head) < 8 or head[6] not in (1, 2, 3):
        raise Codec2EqError(f"{name}: not a .npy array; is it cut, or of another format?")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(_read_exactly(handle, name, width), "little")
    if length > 65536:
        raise Codec2EqError(f"{name}: its .npy header has {length} bytes: damaged; make it again")
    text = _read_exactly(handle, name, length).decode("latin1")
    try:
        fields = ast.literal_eval(text.strip())
        dtype, columns_first = np.dtype(fields["descr"]), bool(fields["fortran_order"])
        shape = tuple(int(size) for size in fields["shape"])
        if any(size < 0 for size in shape):
            raise ValueError(f"shape {shape}")
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise Codec2EqError(f"{name}: its .npy header is damaged; make it again") from error
    if dtype.hasobject:
        raise Codec2EqError(
            f"{name}: holds pickled Python objects, which may run any code and are not read; "
            "save plain floats"
        )
    if dtype.kind not in kinds:
        raise Codec2EqError(f"{name}: holds values of type {dtype}, numbers expected")
    return dtype, columns_first, shape


def _read(handle: IO[bytes], name: str, n_bytes: int) -> bytes:
    """Return the next n_bytes, fewer at the end."""
    try:
        return handle.read(n_bytes)
    except OSError as error:
        raise read_error(name, error) from error
    except (OverflowError, MemoryError):  # a damaged header tells of more than can be
        return b""


def _read_exactly(handle: IO[bytes], name: str, n_bytes: int) -> bytes:
    data = _read(handle, name, n_bytes)
    if len(data) < n_bytes:
        raise Codec2EqError(
            f"{name}: ends before its array does ({n_bytes - len(data)} bytes are missing); "
            "make or fetch it again"
        )
    return data


def spool(handle: IO[bytes], name: str, files: contextlib.ExitStack) -> IO[bytes]:
    """Copy a pipe to a temporary file, which `files` closes, for formats that need to seek."""
    copy = files.enter_context(temporary_file())
    while data := _read(handle, name, _SPOOL_BYTES):
        _store(copy, data)
    copy.seek(0)
    return copy


def _store(file: IO[bytes], data: bytes | memoryview) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise write_error("temporary file", error) from error


def temporary_file() -> IO[bytes]:
    """Return a file that keeps little in memory and vanishes when it is closed."""
    import tempfile

    return tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)


class Column:
    """Rows of one type on their way to a .npy array; `store` takes their bytes."""

    def __init__(self, dtype: str, row_shape: tuple[int, ...], store: IO[bytes]) -> None:
        self.dtype = dtype
        self.row_shape = row_shape
        self.store = store
        self.n_rows = 0

    def write(self, rows: NDArray[Any]) -> None:
        """Add rows (n, *row_shape)."""
        if rows.shape[1:] != self.row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]}: expected {self.row_shape}")
        _store(self.store, as_bytes(rows, self.dtype))
        self.n_rows += len(rows)

    def header(self) -> bytes:
        """Return the .npy header for the rows so far, of one size for any number of them."""
        text = str(
            {
                "descr": self.dtype,
                "fortran_order": False,
                "shape": (self.n_rows, *self.row_shape),
            }
        )
        length = _HEADER_BYTES - 10
        padded = text.ljust(length - 1).encode("latin1") + b"\n"
        return _MAGIC + b"\x01\x00" + struct.pack("<H", length) + padded

    def copy_to(self, out: IO[bytes]) -> None:
        """Write header and rows."""
        import shutil

        self.store.seek(0)
        out.write(self.header())
        shutil.copyfileobj(self.store, out, _SPOOL_BYTES)


def as_bytes(rows: NDArray[Any], dtype: str) -> memoryview:
    """Return the bytes of rows in C's order as type dtype, without a copy where none is needed."""
    return np.ascontiguousarray(rows, dtype=dtype).reshape(-1).view(np.uint8).data
