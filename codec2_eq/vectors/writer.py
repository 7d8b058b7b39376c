# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vector files out, as streams: .f32, .npy and .npz.

Memory does not depend on the length of a file: .npy and .npz, whose headers hold a length that is
known only at the end, go through a seek or a temporary file.
"""

from __future__ import annotations

import contextlib
import os
from typing import IO, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import FRAME_MS, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, is_stdout, open_output
from codec2_eq.records import RateK, plain_array
from codec2_eq.vectors import npy
from codec2_eq.vectors.record import COLUMNS, FORMATS, VectorRecord, vector_format


class VectorWriter:
    """Context manager that writes vectors to a file or stdout (`-`), block by block.

    The file appears when the context ends without an exception. To a pipe, .f32 is written and
    flushed with each block; .npy and .npz at the end, as they begin with their length.

    Parameters
    ----------
    path : str or path
        The file; "-" is stdout.
    format : {"f32", "npy", "npz"}, optional
        By default by the suffix, f32 for a pipe.
    force : bool
        Overwrite an existing file.
    model : str
        Name of the equaliser that made the vectors, kept in .npz.
    frame_ms : {10, 20, 40}
        Time between vectors, ms, kept in .npz.
    freqs_hz : ndarray of shape (K,), optional
        Centres of the bands, Hz, kept in .npz; by default those of the frames, or of Codec 2.
    durable : bool
        The file outlives a power loss once it is there.

    Raises
    ------
    Codec2EqError
        If the file exists and `force` is false, or cannot be written.

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
        freqs_hz: NDArray[np.float32] | None = None,
        durable: bool = True,
    ) -> None:
        self.path = path
        # mlfeat in the options of a command speaks of its input
        self.format = vector_format(path, None if format == "mlfeat" else format)
        if self.format not in FORMATS:
            raise Codec2EqError(
                os.fspath(path),
                f".{self.format} is written only by extract",
                f"name one of {', '.join(FORMATS)}",
            )
        self.force = force
        self.n_frames = 0
        self._once: dict[str, Any] = {"frame_ms": frame_ms, "model": model}
        if freqs_hz is not None:
            self._once["freqs_hz"] = np.asarray(freqs_hz, "<f4")
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
            files.push(lambda kind, error, traceback: self._finish(sink) if kind is None else None)
            self._resources = files.pop_all()
        return self

    def _finish(self, sink: _Sink) -> None:
        if self.format == "npz" and "freqs_hz" not in self._once:
            from codec2_eq.analysis import band_centres_hz

            self._once["freqs_hz"] = np.asarray(band_centres_hz(), "<f4")
        sink.finish()

    def _make_sink(self, out: IO[bytes], spools: contextlib.ExitStack) -> _Sink:
        if self.format == "f32":
            return _F32Sink(out)
        # Standard output may be a file that is appended to, where a seek has no effect.
        in_place = out.seekable() and not is_stdout(self.path)
        if self.format == "npy":
            return _NpySink(out, spools, in_place=in_place)
        return _NpzSink(out if in_place else _Forward(out), spools, self._once)

    def write(
        self, vectors: NDArray[Any] | RateK, frames: RateK | VectorRecord | None = None
    ) -> None:
        """Write the next vectors.

        Parameters
        ----------
        vectors : ndarray of shape (n, K), or RateK
            dB, n from 0; a record with all that is known of its frames.
        frames : RateK or VectorRecord, optional
            What else is known of these frames, whatever became of their vectors. In .npz either all
            blocks have pitch, voicing and energy, or none.
        """
        if self._sink is None:
            raise ValueError("VectorWriter is not open: use it in a with statement")
        if frames is None and isinstance(vectors, RateK):
            frames = vectors
        vectors = plain_array(vectors, "vectors")
        if vectors.ndim != 2 or vectors.shape[1] != K:
            raise Codec2EqError(f"vectors of shape {vectors.shape}", f"expected (n_frames, {K})")
        record = VectorRecord(vectors)
        if frames is not None:
            record = VectorRecord(vectors, frames.mean_db, frames.f0_hz, frames.voiced)
        if isinstance(frames, RateK):
            if self.format == "npz" and frames.frame_ms != self._once["frame_ms"]:
                raise Codec2EqError(
                    f"frames {frames.frame_ms} ms apart",
                    f"the file holds those {self._once['frame_ms']} ms apart",
                    f"open it with frame_ms={frames.frame_ms}",
                )
            self._once.setdefault("freqs_hz", np.asarray(frames.freqs_hz, "<f4"))
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
        once: dict[str, Any],
    ) -> None:
        self._out = out
        self._spools = spools
        self._columns: dict[str, npy.Column] | None = None
        self._once = once

    def _columns_of(self, record: VectorRecord) -> dict[str, npy.Column]:
        names = [name for name in COLUMNS if getattr(record, name) is not None]
        if self._columns is None:
            self._columns = {
                name: npy.Column(
                    COLUMNS[name],
                    (K,) if name == "vectors" else (),
                    self._spools.enter_context(npy.temporary_file()),
                )
                for name in names
            }
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
