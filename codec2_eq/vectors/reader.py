# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vector files in and out, as streams: .f32, .npy and .npz.

.f32 is headerless little-endian float32, frames x 20, row after row, as c2enc, vqtrain and vq_mbest
read it. .npy holds the same array. .npz adds what the analysis knows of each frame: `vectors`,
`mean_db`, `f0_hz`, `voiced`, `freqs_hz`, `frame_ms`, `model`.

Memory does not depend on the length of a file: .npy and .npz, whose headers tell a length that is
known only at the end, go through a seek or a temporary file.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import FRAME_MS, FRAME_MS_CHOICES, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import (
    PathLike,
    display_name,
    is_pipe,
    is_stdout,
    open_input,
    open_output,
    read_error,
)
from codec2_eq.records import RateK, first_bad_row
from codec2_eq.vectors import mlfeat, npy

FORMATS = ("f32", "npy", "npz")

READ_FORMATS = (*FORMATS, "mlfeat")
"""Those that are read: the records of c2enc are written by `extract` alone."""

BLOCK_ROWS = 4096
"""Most rows read at once."""

_ROW_BYTES = 4 * K
_COLUMNS = {"vectors": "<f4", "mean_db": "<f4", "f0_hz": "<f4", "voiced": "|b1"}


@dataclass(frozen=True, eq=False)
class VectorRecord:
    """Consecutive vectors as a file holds them; what it does not hold is None.

    vectors : (n, K) float32, dB
    mean_db : (n,) float32, dB; f0_hz : (n,) float32, Hz; voiced : (n,) bool
    freqs_hz : (K,) float32, Hz; frame_ms : 10, 20 or 40; model : name of the equaliser
    """

    vectors: NDArray[np.float32]
    mean_db: NDArray[np.float32] | None = None
    f0_hz: NDArray[np.float32] | None = None
    voiced: NDArray[np.bool_] | None = None
    freqs_hz: NDArray[np.float32] | None = None
    frame_ms: int | None = None
    model: str | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.vectors)

    @classmethod
    def of(cls, block: RateK | VectorRecord | NDArray[Any]) -> VectorRecord:
        """Return a block of any kind that can be written as a record."""
        if isinstance(block, VectorRecord):
            return block
        if isinstance(block, RateK):
            return cls(
                block.vectors,
                block.mean_db,
                block.f0_hz,
                block.voiced,
                block.freqs_hz,
                block.frame_ms,
            )
        return cls(np.asarray(block))


def vector_format(path: PathLike, format: str | None = None) -> str:
    """Return the format of a vector file: that of its suffix, else as asked for, f32 on a pipe.

    "mlfeat" is taken as asked for whatever the suffix, since what c2enc writes is often named .f32.
    Raises Codec2EqError on an unknown format or suffix.
    """
    if format not in (None, *READ_FORMATS):
        raise Codec2EqError(f"format {format!r}: expected one of {', '.join(READ_FORMATS)}")
    if format == "mlfeat":
        return format
    suffix = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    if suffix in READ_FORMATS:
        return suffix
    if format is not None:
        return format
    if is_pipe(path) or is_stdout(path):
        return "f32"
    raise Codec2EqError(
        f"{os.fspath(path)}: suffix '.{suffix}' names no vector format; use .f32, .npy or .npz, "
        "or pass --format"
    )


# Reading


def read_vectors(path: PathLike, *, format: str | None = None) -> NDArray[np.float32]:
    """Read a whole vector file or stdin (`-`) as (n, K) float32 dB, n >= 0.

    It is `stream_vectors` run to its end; see there for the errors.

    Examples
    --------
    >>> np.save("two.npy", np.zeros((2, 20), np.float32))
    >>> ce.read_vectors("two.npy").shape
    (2, 20)
    """
    return read_record(path, format=format).vectors


def read_record(path: PathLike, *, format: str | None = None) -> VectorRecord:
    """Read a whole vector file or stdin (`-`) with all that it holds besides the vectors."""
    parts = list(stream_records(path, format=format))
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _COLUMNS
        if getattr(parts[0], name) is not None
    }
    return replace(parts[0], **columns)


def stream_vectors(
    path: PathLike, *, format: str | None = None, block_rows: int = BLOCK_ROWS
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks (n, K) float32 dB of a vector file or stdin (`-`), n > 0.

    On a pipe in f32 a block is the whole rows that have arrived; other formats from a pipe are read
    to their end first.

    Raises Codec2EqError, here or on the way, if the file cannot be read, is cut, is of another
    shape or type, or has values that are NaN or infinite. A file of no rows is no error.
    """
    for record in stream_records(path, format=format, block_rows=block_rows):
        if len(record):
            yield record.vectors


def stream_records(
    path: PathLike, *, format: str | None = None, block_rows: int = BLOCK_ROWS
) -> Iterator[VectorRecord]:
    """Yield records as `stream_vectors` yields vectors; the first comes always, if with no rows.

    .f32 and .npy give vectors alone; .npz what it holds besides, .mlfeat the means.
    """
    name = display_name(path)
    chosen = vector_format(path, format)
    reader = _READERS[chosen]
    with open_input(path) as handle:
        n_rows = 0
        for index, record in enumerate(reader(handle, name, is_pipe(path), block_rows)):
            if index == 0 or len(record):
                _check_values(name, record.vectors, n_rows)
                n_rows += len(record)
                yield record


def _check_values(name: str, vectors: NDArray[np.float32], first_row: int) -> None:
    bad = first_bad_row(vectors)
    if bad is not None:
        row, what = bad
        raise Codec2EqError(
            f"{name}: row {first_row + row} (counted from 0) {what}; rate-K vectors are decibels "
            "in little-endian float32, make them again"
        )


Records = Iterator[VectorRecord]


def _records_f32(handle: IO[bytes], name: str, piped: bool, block_rows: int) -> Records:
    n_bytes = 0 if piped else os.fstat(handle.fileno()).st_size
    if n_bytes % _ROW_BYTES:
        raise _cut_f32(name, n_bytes)
    yield VectorRecord(np.empty((0, K), np.float32))
    rest = b""
    n_read = 0
    while data := _read1(handle, name, block_rows * _ROW_BYTES - len(rest)):
        n_read += len(data)
        data = rest + data if rest else data
        whole = len(data) - len(data) % _ROW_BYTES
        rest = data[whole:]
        rows = np.frombuffer(data, "<f4", count=whole // 4).reshape(-1, K)
        yield VectorRecord(rows.astype(np.float32))
    if rest:
        raise _cut_f32(name, n_read)


def _cut_f32(name: str, n_bytes: int) -> Codec2EqError:
    return Codec2EqError(
        f"{name}: {n_bytes} bytes are no whole number of rows of {_ROW_BYTES} bytes "
        f"({K} float32); is it cut, or of another format?"
    )


def _read1(handle: IO[bytes], name: str, n_bytes: int) -> bytes:
    """Return what has arrived, up to n_bytes; nothing at the end."""
    try:
        return handle.read1(n_bytes)  # type: ignore[attr-defined]
    except OSError as error:
        raise read_error(name, error) from error


def _records_mlfeat(handle: IO[bytes], name: str, piped: bool, block_rows: int) -> Records:
    yield VectorRecord(np.empty((0, K), np.float32), np.empty(0, np.float32), frame_ms=FRAME_MS)
    for means, vectors in mlfeat.read_records(handle, name, block_rows):
        yield VectorRecord(vectors, means, frame_ms=FRAME_MS)


def _records_npy(handle: IO[bytes], name: str, piped: bool, block_rows: int) -> Records:
    for block in npy.array_blocks(handle, name, block_rows):
        yield VectorRecord(_as_vectors(name, block))


def _records_npz(handle: IO[bytes], name: str, piped: bool, block_rows: int) -> Records:
    import zipfile
    import zlib

    with contextlib.ExitStack() as files:
        seekable = npy.spool(handle, name, files) if piped else handle
        try:
            archive = files.enter_context(zipfile.ZipFile(seekable))
            names = [info.filename for info in archive.infolist()]
            held = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
            if "vectors" not in held:
                raise Codec2EqError(
                    f"{name}: holds no array 'vectors'; a file made by extract, equalise or run "
                    "expected"
                )
            once = _read_once(archive, name, held)
            columns = {
                column: npy.array_blocks(
                    files.enter_context(archive.open(f"{column}.npy")), name, block_rows
                )
                for column in _COLUMNS
                if column in held
            }
            for blocks in zip(*columns.values(), strict=True):
                yield _npz_record(name, dict(zip(columns, blocks, strict=True)), once)
        except OSError as error:
            raise read_error(name, error) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error) as error:
            raise Codec2EqError(
                f"{name}: not a whole .npz file ({error}); is it cut, or of another format?"
            ) from error
        except ValueError as error:
            if isinstance(error, Codec2EqError):
                raise
            raise _unequal(name) from error


_READERS = {
    "f32": _records_f32,
    "npy": _records_npy,
    "npz": _records_npz,
    "mlfeat": _records_mlfeat,
}


def _unequal(name: str) -> Codec2EqError:
    return Codec2EqError(
        f"{name}: its arrays tell of different numbers of frames; make the file again"
    )


def _npz_record(
    name: str, blocks: Mapping[str, NDArray[Any]], once: Mapping[str, Any]
) -> VectorRecord:
    vectors = _as_vectors(name, blocks["vectors"])
    columns: dict[str, Any] = {}
    for column, block in blocks.items():
        if column == "vectors":
            continue
        if block.shape != (len(vectors),):
            raise _unequal(name)
        columns[column] = block.astype(_COLUMNS[column])
    return VectorRecord(vectors, **columns, **once)


def _read_once(archive: Any, name: str, held: set[str]) -> dict[str, Any]:
    """Read what an .npz file holds once and not per frame."""

    def array(key: str) -> NDArray[Any]:
        with archive.open(f"{key}.npy") as member:
            return np.concatenate(list(npy.array_blocks(member, name, BLOCK_ROWS, text=True)))

    def scalar(key: str) -> Any:
        value = array(key)
        if value.shape != (1,):
            raise Codec2EqError(f"{name}: {key} is no single value; make the file again")
        return value[0]

    once: dict[str, Any] = {}
    if "freqs_hz" in held:
        once["freqs_hz"] = array("freqs_hz")
        if once["freqs_hz"].shape != (K,) or once["freqs_hz"].dtype.kind != "f":
            raise Codec2EqError(f"{name}: freqs_hz is not of {K} numbers; make the file again")
    if "frame_ms" in held:
        once["frame_ms"] = scalar("frame_ms")
        if once["frame_ms"] not in FRAME_MS_CHOICES:
            raise Codec2EqError(
                f"{name}: frame_ms is {once['frame_ms']}, expected one of {FRAME_MS_CHOICES}; "
                "make the file again"
            )
        once["frame_ms"] = int(once["frame_ms"])
    if "model" in held:
        once["model"] = str(scalar("model"))
    return once


def _as_vectors(name: str, block: NDArray[Any]) -> NDArray[np.float32]:
    """Return a block as (n, K) float32; raise Codec2EqError on another shape or type."""
    if block.ndim != 2 or block.shape[1] != K:
        shape = "n" if block.ndim == 1 else f"n, {', '.join(map(str, block.shape[1:]))}"
        raise Codec2EqError(
            f"{name}: holds an array of shape ({shape}), vectors of shape (n, {K}) expected; "
            "is it another array?"
        )
    if block.dtype.kind != "f":
        raise Codec2EqError(
            f"{name}: holds values of type {block.dtype}, floating point expected; convert them"
        )
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        return block.astype(np.float32)


# Writing


class VectorWriter:
    """Context manager that writes vectors to a file or stdout (`-`), block by block.

    The file appears when the context ends without an exception. To a pipe, .f32 is written and
    flushed with each block; .npy and .npz at the end, as they begin with their length.

    format : "f32", "npy" or "npz"; by default by the suffix, f32 for a pipe
    model : name of the equaliser that made the vectors, told in .npz
    frame_ms : time between vectors that is told in .npz for blocks that do not tell it, ms
    durable : the file outlives a power loss once it is there

    Raises Codec2EqError if the file exists and `force` is false, or cannot be written.

    Examples
    --------
    >>> with ce.VectorWriter("flat.f32") as writer:
    ...     writer.write(np.zeros((3, 20), np.float32))
    >>> ce.read_vectors("flat.f32").shape
    (3, 20)
    """

    def __init__(
        self,
        path: PathLike,
        *,
        format: str | None = None,
        force: bool = False,
        model: str = "none",
        frame_ms: int = FRAME_MS,
        durable: bool = True,
    ) -> None:
        self.path = path
        # mlfeat in the options of a command speaks of its input
        self.format = vector_format(path, None if format == "mlfeat" else format)
        if self.format not in FORMATS:
            raise Codec2EqError(
                os.fspath(path),
                f".{self.format} is written by extract alone",
                f"name one of {', '.join(FORMATS)}",
            )
        self.force = force
        self.n_frames = 0
        self._model = model
        self._frame_ms = frame_ms
        self._durable = durable
        self._resources = contextlib.ExitStack()
        self._sink: _Sink | None = None

    def __enter__(self) -> VectorWriter:
        with contextlib.ExitStack() as files:
            out = files.enter_context(
                open_output(self.path, force=self.force, durable=self._durable)
            )
            spools = files.enter_context(contextlib.ExitStack())
            self._sink = sink = self._make_sink(out, spools)
            # Called first of all at the exit; what it raises keeps the file from appearing.
            files.push(lambda kind, error, traceback: sink.finish() if kind is None else None)
            self._resources = files.pop_all()
        return self

    def _make_sink(self, out: IO[bytes], spools: contextlib.ExitStack) -> _Sink:
        if self.format == "f32":
            return _F32Sink(out)
        # Standard output may be a file that is appended to, where a seek has no effect.
        in_place = out.seekable() and not is_stdout(self.path)
        if self.format == "npy":
            return _NpySink(out, spools, in_place=in_place)
        return _NpzSink(
            out if in_place else _Forward(out), spools, model=self._model, frame_ms=self._frame_ms
        )

    def write(self, block: RateK | VectorRecord | NDArray[Any]) -> None:
        """Write the next n >= 0 frames: a record of the analysis, or an array (n, K) in dB.

        In .npz either all blocks tell f0, voicing and energy, or none.
        """
        if self._sink is None:
            raise ValueError("VectorWriter is not open: use it in a with statement")
        record = VectorRecord.of(block)
        if record.vectors.ndim != 2 or record.vectors.shape[1] != K:
            raise ValueError(f"vectors of shape {record.vectors.shape}: expected (n_frames, {K})")
        self._sink.write(record)
        self.n_frames += len(record)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._sink = None
        self._resources.__exit__(kind, error, traceback)


class _Sink(Protocol):
    """Where the blocks of one format go."""

    def write(self, record: VectorRecord) -> None: ...

    def finish(self) -> None: ...


class _F32Sink:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, record: VectorRecord) -> None:
        if len(record):
            self._out.write(npy.as_bytes(record.vectors, "<f4"))
            self._out.flush()

    def finish(self) -> None:
        """Do nothing: every row is out."""


class _NpySink:
    """Array behind a header of fixed size, which is written again when the length is known."""

    def __init__(self, out: IO[bytes], spools: contextlib.ExitStack, *, in_place: bool) -> None:
        self._out = out
        self._in_place = in_place
        store = out if in_place else spools.enter_context(npy.temporary_file())
        self._column = npy.Column("<f4", (K,), store)
        if in_place:
            out.write(self._column.header())

    def write(self, record: VectorRecord) -> None:
        self._column.write(record.vectors)

    def finish(self) -> None:
        if self._in_place:
            self._out.seek(0)
            self._out.write(self._column.header())
        else:
            self._column.copy_to(self._out)


class _Forward:
    """An output without seek and tell, so that a zip archive is written from front to back."""

    def __init__(self, out: IO[bytes]) -> None:
        self.write = out.write
        self.flush = out.flush


class _NpzSink:
    """Columns in temporary files, joined to a zip archive at the end."""

    def __init__(
        self,
        out: IO[bytes] | _Forward,
        spools: contextlib.ExitStack,
        *,
        model: str,
        frame_ms: int,
    ) -> None:
        self._out = out
        self._spools = spools
        self._columns: dict[str, npy.Column] | None = None
        self._once: dict[str, Any] = {"frame_ms": frame_ms, "model": model}

    def _columns_of(self, record: VectorRecord) -> dict[str, npy.Column]:
        names = [name for name in _COLUMNS if getattr(record, name) is not None]
        if self._columns is None:
            self._columns = {
                name: npy.Column(
                    _COLUMNS[name],
                    (K,) if name == "vectors" else (),
                    self._spools.enter_context(npy.temporary_file()),
                )
                for name in names
            }
            if record.freqs_hz is not None:
                self._once["freqs_hz"] = np.asarray(record.freqs_hz, "<f4")
            if record.frame_ms is not None:
                self._once["frame_ms"] = record.frame_ms
        elif list(self._columns) != names:
            raise ValueError(f"block with {names}: blocks before had {list(self._columns)}")
        return self._columns

    def write(self, record: VectorRecord) -> None:
        for name, column in self._columns_of(record).items():
            column.write(getattr(record, name))

    def finish(self) -> None:
        import zipfile

        columns = self._columns
        if columns is None:
            columns = self._columns_of(VectorRecord(np.empty((0, K), np.float32)))
        with zipfile.ZipFile(cast(IO[bytes], self._out), "w", zipfile.ZIP_STORED) as archive:
            # Members carry no date, so that the same vectors give the same bytes.
            for name, column in columns.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    column.copy_to(member)
            for name, value in self._once.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                    np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
