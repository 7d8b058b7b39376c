# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arrays of the .npy format in blocks, for files and pipes larger than memory.

numpy.load and numpy.save want the whole array, a seek, and the length beforehand. Here an array is
read as its bytes arrive, and written column by column while its length is still unknown.

The format, version 1.0 and up: magic, version, length of the header, header as a Python dictionary,
rows. What a header says is checked before anything is read or made room for.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_bytes, write_error

MAGIC = b"\x93NUMPY"

_HEADER_BYTES = 128
_MOST_HEADER_BYTES = 10_000  # as NumPy has it
_SPOOL_BYTES = 1 << 20  # what a temporary file keeps in memory before it goes to the disk
_MOST_COLUMN_BYTES = 256 << 20  # an array in Fortran's order must be in memory to be transposed
_MOST_TEXT_BYTES = 4096

_FIELDS = {
    "descr": re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?[?biufcmMOSUV]\d{0,9})['"]"""),
    "order": re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)\b"""),
    "shape": re.compile(
        r"""['"]shape['"]\s*:\s*\(\s*((?:\d{1,19}L?\s*,\s*)*(?:\d{1,19}L?)?)\s*\)"""
    ),
}


class ArrayReader:
    """An array whose rows are read as they arrive.

    dtype : of its values;  shape : (rows, ...), of a scalar (1,)

    handle, name : where it begins, and the name of the file for errors
    Raises Codec2EqError if no .npy array of numbers begins there.
    """

    def __init__(self, handle: IO[bytes], name: str) -> None:
        self._handle = handle
        self._name = name
        self.dtype, self._columns_first, self.shape = _read_header(handle, name)

    def blocks(self, block_rows: int) -> Iterator[NDArray[Any]]:
        """Yield the rows in blocks of block_rows, one block at least.

        Raises Codec2EqError if the array is cut, or the file goes on after its end.
        """
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        n_rows = self.shape[0]
        # In Fortran's order the rows are complete only with the last column.
        step = n_rows if self._columns_first else block_rows
        if self._columns_first and n_rows * row_bytes > _MOST_COLUMN_BYTES:
            raise Codec2EqError(
                self._name,
                f"holds an array of {n_rows * row_bytes} bytes in Fortran's order, at most "
                f"{_MOST_COLUMN_BYTES} can be turned",
                "save it in C's order (numpy.ascontiguousarray)",
            )
        if not row_bytes:
            step = n_rows
        for first in range(0, max(1, n_rows), max(1, step)):
            rows = min(step, n_rows - first)
            data = _read_exactly(self._handle, self._name, rows * row_bytes)
            block = np.frombuffer(data, self.dtype)
            order: Any = "F" if self._columns_first else "C"
            yield block.reshape((rows, *self.shape[1:]), order=order)
        # To the very end, where a zip archive checks its sum.
        if read_bytes(self._handle, self._name, 1):
            raise Codec2EqError(
                self._name, "goes on after its array", "is it cut from another, or of another kind?"
            )

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        return math.prod(self.shape) * self.dtype.itemsize

    def text(self, most_bytes: int = _MOST_TEXT_BYTES) -> str:
        """Return the only value, a string or a number, as text of at most_bytes.

        Raises Codec2EqError if there are more, or it is no text.
        """
        if self.shape != (1,) or self.dtype.itemsize > most_bytes:
            raise Codec2EqError(
                self._name, f"holds no single text, but an array {self.shape} of {self.dtype}"
            )
        data = _read_exactly(self._handle, self._name, self.dtype.itemsize)
        if self.dtype.kind != "U":
            return str(np.frombuffer(data, self.dtype)[0])
        big = self.dtype.str.startswith(">")
        try:
            return data.decode("utf-32-be" if big else "utf-32-le").rstrip("\0")
        except UnicodeDecodeError as error:
            raise Codec2EqError(self._name, "holds damaged text") from error


def _read_header(handle: IO[bytes], name: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Return type, whether columns come first, and shape; refuse Python objects."""
    head = read_bytes(handle, name, 8)
    if head[:6] != MAGIC or len(head) < 8 or head[6] not in (1, 2, 3):
        raise Codec2EqError(name, "not a .npy array", "is it cut, or of another format?")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(_read_exactly(handle, name, width), "little")
    if length > _MOST_HEADER_BYTES:
        raise Codec2EqError(name, f"its .npy header has {length} bytes: damaged", "make it again")
    text = _read_exactly(handle, name, length).decode("latin1")
    found = {field: pattern.search(text) for field, pattern in _FIELDS.items()}
    try:
        descr, order, shape = (match[1] for match in found.values() if match is not None)
        dtype = np.dtype(descr)
        sizes = tuple(int(size.rstrip("L ")) for size in shape.split(",") if size.strip())
    except (TypeError, ValueError) as error:
        raise Codec2EqError(name, "its .npy header is damaged", "make it again") from error
    if dtype.hasobject:
        raise Codec2EqError(
            name,
            "holds pickled Python objects, which may run any code and are not read",
            "save plain floats",
        )
    if len(sizes) > 32 or math.prod(size for size in sizes if size) * dtype.itemsize >= 1 << 63:
        raise Codec2EqError(
            name, f"its .npy header gives the impossible shape {sizes}", "make it again"
        )
    return dtype, order == "True", sizes or (1,)


def _read_exactly(handle: IO[bytes], name: str, n_bytes: int) -> bytes:
    data = read_bytes(handle, name, n_bytes)
    if len(data) < n_bytes:
        raise Codec2EqError(
            name,
            f"ends before its array does ({n_bytes - len(data)} bytes are missing)",
            "make or fetch it again",
        )
    return data


def spool(handle: IO[bytes], name: str, files: contextlib.ExitStack, head: bytes) -> IO[bytes]:
    """Copy a pipe, of which `head` was read, to a temporary file, which `files` closes."""
    copy = files.enter_context(temporary_file())
    data = head
    while data:
        _store(copy, data)
        data = read_bytes(handle, name, _SPOOL_BYTES)
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
        return MAGIC + b"\x01\x00" + struct.pack("<H", length) + padded

    def copy_to(self, out: IO[bytes]) -> None:
        """Write header and rows."""
        import shutil

        self.store.seek(0)
        out.write(self.header())
        shutil.copyfileobj(self.store, out, _SPOOL_BYTES)


def as_bytes(rows: NDArray[Any], dtype: str) -> memoryview:
    """Return the bytes of rows in C's order as type dtype, without a copy where none is needed."""
    return np.ascontiguousarray(rows, dtype=dtype).reshape(-1).view(np.uint8).data
