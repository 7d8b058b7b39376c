# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vector files in, as streams: .f32, .npy and .npz.

.f32 is headerless little-endian float32, frames x 20, row after row, as c2enc, vqtrain and vq_mbest
read it. .npy holds the same array. .npz adds what the analysis knows of each frame: `vectors`,
`mean_db`, `f0_hz`, `voiced`, `freqs_hz`, `frame_ms`, `model`.

Memory does not depend on the length of a file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import FRAME_MS, FRAME_MS_CHOICES, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, display_name, open_input, read_bytes, read_error, regular_size
from codec2_eq.records import first_bad_row
from codec2_eq.vectors import mlfeat, npy
from codec2_eq.vectors.record import COLUMNS, VectorRecord, vector_format

if TYPE_CHECKING:
    import zipfile

BLOCK_ROWS = 4096
"""Most rows read at once."""

MOST_EXPANSION = 100
"""A compressed array of a .npz may be this many times as large as the file has it; speech is twice.
Small arrays may be any number of times, see `_SMALL_BYTES`."""

_SMALL_BYTES = 64 << 20
_ROW_BYTES = 4 * K


def read_vectors(path: PathLike, *, format: str | None = None) -> NDArray[np.float32]:
    """Read a whole vector file.

    Parameters
    ----------
    path, format
        As for `VectorReader`.

    Returns
    -------
    ndarray of float32, shape (n, K)
        Vectors in dB, n from 0.

    Raises
    ------
    Codec2EqError
        As `VectorReader` does.

    Examples
    --------
    >>> np.save("two.npy", np.zeros((2, 20), np.float32))
    >>> ce.read_vectors("two.npy").shape
    (2, 20)
    """
    with VectorReader(path, format=format) as reader:
        return reader.read().vectors


def stream_vectors(
    path: PathLike, *, format: str | None = None, block_rows: int = BLOCK_ROWS
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks (n, K) float32 dB of a vector file or stdin (`-`), n > 0.

    It is `VectorReader` without what else a file holds of the frames.
    """
    with VectorReader(path, format=format, block_rows=block_rows) as reader:
        for record in reader:
            yield record.vectors


def input_format(path: PathLike, format: str | None = None) -> str:
    """Return the format of a vector file to read, as `vector_format` does.

    Raises Codec2EqError as that does; of a file that cannot be opened, as `open_input` does.
    """
    try:
        return vector_format(path, format)
    except Codec2EqError:
        with open_input(path):  # a missing file is no file of another format
            raise


class VectorReader:
    """Iterator over records of n > 0 frames of a vector file or stdin (`-`); a context manager.

    On a pipe in .f32 a record is the whole rows that have arrived; .npz from a pipe is read to its
    end first.

    Parameters
    ----------
    path : str or path
        The file; "-" is stdin.
    format : {"f32", "npy", "npz", "mlfeat"}, optional
        By default by the suffix, f32 for a pipe.
    block_rows : int
        Most frames of a record.

    Attributes
    ----------
    frame_ms : int or None
        Time between two vectors, ms. None here and below: the file does not say.
    model : str or None
        Name of the equaliser that made the vectors.
    freqs_hz : ndarray of float32, shape (K,), or None
        Centres of the bands, Hz.

    Raises
    ------
    Codec2EqError
        Here or on the way, if the file cannot be read, is cut, is of another shape or type, or has
        values that are NaN or infinite. A file of no rows is no error.

    Examples
    --------
    >>> np.savez("three.npz", vectors=np.zeros((3, 20), np.float32), frame_ms=40)
    >>> with ce.VectorReader("three.npz") as reader:
    ...     print(reader.frame_ms, [len(record) for record in reader])
    40 [3]
    """

    def __init__(
        self, path: PathLike, *, format: str | None = None, block_rows: int = BLOCK_ROWS
    ) -> None:
        self.name = display_name(path)
        self.frame_ms: int | None = None
        self.model: str | None = None
        self.freqs_hz: NDArray[np.float32] | None = None
        self._columns: list[str] = ["vectors"]
        self._files = contextlib.ExitStack()
        self._n_rows = 0
        self._damage: tuple[type[Exception], ...] = ()  # what damaged archives raise
        begin = {
            "f32": self._f32,
            "npy": self._npy,
            "npz": self._npz,
            "mlfeat": self._mlfeat,
        }[input_format(path, format)]
        try:
            handle = self._files.enter_context(open_input(path))
            with self._telling():
                self._records = self._checked(begin(handle, block_rows))
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[VectorRecord]:
        return self._records

    def __next__(self) -> VectorRecord:
        return next(self._records)

    def __enter__(self) -> VectorReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the iterator must not be used any more."""
        self._files.close()

    def read(self) -> VectorRecord:
        """Return all that is left as one record of n >= 0 frames."""
        parts = [self._empty(), *self]
        return VectorRecord(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in self._columns
            }
        )

    def _empty(self) -> VectorRecord:
        columns = {name: np.empty(0, COLUMNS[name]) for name in self._columns}
        return VectorRecord(**{**columns, "vectors": np.empty((0, K), np.float32)})

    def _checked(self, records: Iterator[VectorRecord]) -> Iterator[VectorRecord]:
        with self._files, self._telling():
            for record in records:
                bad = first_bad_row(record.vectors)
                if bad is not None:
                    row, what = bad
                    raise Codec2EqError(
                        self.name,
                        f"row {self._n_rows + row} (counted from 0) {what}",
                        "rate-K vectors are decibels in little-endian float32, make them again",
                    )
                self._n_rows += len(record)
                if len(record):
                    yield record

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Name the file in errors of reading it."""
        try:
            yield
        except Codec2EqError:
            raise
        except OSError as error:
            raise read_error(self.name, error) from error
        except self._damage as error:
            raise self._no_npz(str(error)) from error

    def _no_npz(self, reason: str) -> Codec2EqError:
        return Codec2EqError(
            self.name, f"not a whole .npz file ({reason})", "is it cut, or of another format?"
        )

    # One for each format: reads the head, returns an iterator over the rows.

    def _f32(self, handle: IO[bytes], block_rows: int) -> Iterator[VectorRecord]:
        n_bytes = regular_size(handle)
        if n_bytes is not None and n_bytes % _ROW_BYTES:
            raise self._cut_f32(n_bytes)
        return self._rows_f32(handle, block_rows)

    def _rows_f32(self, handle: IO[bytes], block_rows: int) -> Iterator[VectorRecord]:
        rest = b""
        n_read = 0
        while data := handle.read1(block_rows * _ROW_BYTES - len(rest)):  # type: ignore[attr-defined]
            n_read += len(data)
            data = rest + data if rest else data
            whole = len(data) - len(data) % _ROW_BYTES
            rest = data[whole:]
            rows = np.frombuffer(data, "<f4", count=whole // 4).reshape(-1, K)
            yield VectorRecord(rows.astype(np.float32))
        if rest:
            raise self._cut_f32(n_read)

    def _cut_f32(self, n_bytes: int) -> Codec2EqError:
        return Codec2EqError(
            self.name,
            f"{n_bytes} bytes are no whole number of rows of {_ROW_BYTES} bytes ({K} float32)",
            "is it cut, or of another format?",
        )

    def _npy(self, handle: IO[bytes], block_rows: int) -> Iterator[VectorRecord]:
        array = npy.ArrayReader(handle, self.name)
        self._require_vectors(array)
        return (VectorRecord(_as_float32(block)) for block in array.blocks(block_rows))

    def _mlfeat(self, handle: IO[bytes], block_rows: int) -> Iterator[VectorRecord]:
        self.frame_ms = FRAME_MS
        self._columns = ["vectors", "mean_db"]
        records = mlfeat.read_records(handle, self.name, block_rows)
        return (VectorRecord(vectors, means) for means, vectors in records)

    def _npz(self, handle: IO[bytes], block_rows: int) -> Iterator[VectorRecord]:
        members = self._members(handle)
        if "vectors" not in members:
            raise Codec2EqError(
                self.name,
                "holds no array 'vectors'",
                "a file made by extract, equalise or run expected",
            )
        self._read_facts(members)
        self._columns = [column for column in COLUMNS if column in members]
        arrays = {column: members[column] for column in self._columns}
        self._require_vectors(arrays["vectors"])
        n_rows = arrays["vectors"].shape[0]
        for array in arrays.values():
            if array.shape[0] != n_rows or len(array.shape) > 1 and array is not arrays["vectors"]:
                raise Codec2EqError(
                    self.name,
                    "its arrays have different numbers of frames",
                    "make the file again",
                )
            if array.dtype.kind not in "fiub":
                raise self._not_numbers(array)
        blocks = [array.blocks(block_rows) for array in arrays.values()]
        return self._rows_npz(blocks)

    def _rows_npz(self, blocks: list[Iterator[NDArray[Any]]]) -> Iterator[VectorRecord]:
        for parts in zip(*blocks, strict=True):
            columns = dict(zip(self._columns, parts, strict=True))
            with np.errstate(all="ignore"):  # only what is finite in the vectors is relied upon
                others = {
                    name: part.astype(COLUMNS[name])
                    for name, part in columns.items()
                    if name != "vectors"
                }
            yield VectorRecord(_as_float32(columns["vectors"]), **others)

    def _members(self, handle: IO[bytes]) -> dict[str, npy.ArrayReader]:
        """Open all arrays of an archive that are known here, by name."""
        import struct
        import zipfile
        import zlib

        self._damage = (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            ValueError,
            struct.error,
        )
        if regular_size(handle) is None:
            head = read_bytes(handle, self.name, 4)
            if head[:2] != b"PK":
                raise self._no_npz("no ZIP archive")
            handle = npy.spool(handle, self.name, self._files, head)
        try:
            archive = self._files.enter_context(zipfile.ZipFile(handle))
        except ValueError as error:  # as of a name that cannot be decoded
            raise self._no_npz(str(error)) from error
        known = {f"{name}.npy" for name in (*COLUMNS, "freqs_hz", "frame_ms", "model")}
        infos = [info for info in archive.infolist() if info.filename in known]
        return {info.filename[:-4]: self._member(archive, info) for info in infos}

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npy.ArrayReader:
        if info.compress_type not in (0, 8):
            raise self._no_npz(f"compressed by method {info.compress_type}")
        expansion = info.file_size / max(1, info.compress_size)
        if info.file_size > _SMALL_BYTES and expansion > MOST_EXPANSION:
            raise Codec2EqError(
                self.name,
                f"its {info.filename} is {expansion:.0f} times as large as the file has it, at "
                f"most {MOST_EXPANSION} times are read: damaged or made to do harm",
            )
        return npy.ArrayReader(self._files.enter_context(archive.open(info)), self.name)

    def _read_facts(self, members: dict[str, npy.ArrayReader]) -> None:
        """Read what an .npz file holds once and not per frame."""
        again = "make the file again"
        if "freqs_hz" in members:
            array = members["freqs_hz"]
            if array.shape != (K,) or array.dtype.kind != "f":
                raise Codec2EqError(self.name, f"freqs_hz is not of {K} numbers", again)
            (self.freqs_hz,) = array.blocks(K)
        if "frame_ms" in members:
            if members["frame_ms"].shape != (1,):
                raise Codec2EqError(self.name, "frame_ms is no single value", again)
            text = members["frame_ms"].text()
            choices = {str(choice): choice for choice in FRAME_MS_CHOICES}
            self.frame_ms = choices.get(text.removesuffix(".0"))
            if self.frame_ms is None:
                problem = f"frame_ms is {text[:20]}, expected one of {FRAME_MS_CHOICES}"
                raise Codec2EqError(self.name, problem, again)
        if "model" in members:
            self.model = members["model"].text()

    def _require_vectors(self, array: npy.ArrayReader) -> None:
        """Raise Codec2EqError unless it is an array (n, K) of floating point."""
        if array.dtype.kind not in "fiub":
            raise self._not_numbers(array)
        if len(array.shape) != 2 or array.shape[1] != K:
            shape = ", ".join(["n", *map(str, array.shape[1:])])
            raise Codec2EqError(
                self.name,
                f"holds an array of shape ({shape}), vectors of shape (n, {K}) expected",
                "is it another array?",
            )
        if array.dtype.kind != "f":
            raise Codec2EqError(
                self.name,
                f"holds values of type {array.dtype}, floating point expected",
                "convert them",
            )

    def _not_numbers(self, array: npy.ArrayReader) -> Codec2EqError:
        return Codec2EqError(self.name, f"holds values of type {array.dtype}, numbers expected")


def _as_float32(block: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused
        return block.astype(np.float32)
