# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the vectors of a corpus go: files of their own, or one behind another in a shard."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codec2_eq.corpus.store import Options, Store, TaskLine, remove
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import write_error
from codec2_eq.records import RateK
from codec2_eq.system import open_new, replace_file
from codec2_eq.vectors.reader import VectorWriter


class OutputError(Codec2EqError):
    """The output cannot be written: the run ends, since the next recording would fare no better."""


_NAME_ERRORS = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ})
"""What is wrong with one output's name, and not with the disk."""


class Writing:
    """Context in which an OSError is one of writing to a path; a class, as it is quick to enter."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            told = write_error(self._path, error)
            raise (told if error.errno in _NAME_ERRORS else OutputError(str(told))) from error


class Sink(Protocol):
    """Takes the vectors of one recording after another; after an abort all is as before."""

    n_frames: int

    def begin(self) -> None:
        """Expect a recording."""

    def write(self, block: RateK, vectors: NDArray[np.float32]) -> None:
        """Take its next vectors, and what the analysis told of them."""

    def commit(self, output: str) -> None:
        """Let the recording appear, in layout tree under its name in the corpus."""

    def abort(self) -> None:
        """Drop the recording."""


@contextlib.contextmanager
def open_sink(store: Store, options: Options, task: TaskLine) -> Iterator[Sink]:
    """Take the vectors of a task; what it wrote appears at the end, or file by file."""
    if options.layout == "shards":
        shard = _ShardSink(store, task)
        with contextlib.closing(shard):
            yield shard
            shard.finish()
    else:
        plain = options.format == "f32"
        sink = _PlainSink(store, options) if plain else _WriterSink(store, options)
        try:
            yield sink
        except BaseException:
            sink.abort()
            raise


class _ShardSink:
    """One recording after another in one file, the piece of a shard."""

    def __init__(self, store: Store, task: TaskLine) -> None:
        self.n_frames = 0
        self._path = store.piece(task.number, ".f32")
        self._draft = store.draft(".f32")
        self._end = 0  # of the recordings committed
        with Writing(self._path):
            self._file = open(self._draft, "wb", buffering=0)

    def begin(self) -> None:
        self.n_frames = 0

    def write(self, block: RateK, vectors: NDArray[np.float32]) -> None:
        with Writing(self._path):
            _write_all(self._file.fileno(), vectors)
        self.n_frames += len(vectors)

    def commit(self, output: str) -> None:
        self._end = self._file.tell()

    def abort(self) -> None:
        with Writing(self._path):
            self._file.truncate(self._end)
            self._file.seek(self._end)

    def finish(self) -> None:
        """Let the piece appear."""
        with Writing(self._path):
            replace_file(self._draft, self._path)

    def close(self) -> None:
        """Close the file; remove it if it has not become the piece."""
        self._file.close()
        remove(self._draft)


class _TreeSink:
    """A file for each recording, which appears where it belongs when it is whole."""

    def __init__(self, store: Store, options: Options) -> None:
        self.n_frames = 0
        self._store = store
        self._options = options
        self._draft = store.draft(f".{options.format}")

    def _place(self, output: str) -> None:
        target = self._store.path(output)
        with Writing(target):
            try:
                replace_file(self._draft, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                replace_file(self._draft, target)


class _PlainSink(_TreeSink):
    """Files of layout tree in .f32, of which there are many: no detour."""

    _descriptor = -1

    def begin(self) -> None:
        self.n_frames = 0
        with Writing(self._draft):
            self._descriptor = open_new(self._draft)

    def write(self, block: RateK, vectors: NDArray[np.float32]) -> None:
        with Writing(self._draft):
            _write_all(self._descriptor, vectors)
        self.n_frames += len(vectors)

    def commit(self, output: str) -> None:
        self._close()
        self._place(output)

    def abort(self) -> None:
        self._close()
        remove(self._draft)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with Writing(self._draft):
                os.close(descriptor)


class _WriterSink(_TreeSink):
    """Files of layout tree in .npy and .npz."""

    def __init__(self, store: Store, options: Options) -> None:
        super().__init__(store, options)
        self._open = contextlib.ExitStack()

    def begin(self) -> None:
        options = self._options
        self._writer = VectorWriter(
            self._draft,
            format=options.format,
            force=True,
            model=options.model,
            frame_ms=options.frame_ms,
        )
        with self._telling():
            self._open.enter_context(self._writer)

    def write(self, block: RateK, vectors: NDArray[np.float32]) -> None:
        with self._telling():
            self._writer.write(replace(block, vectors=vectors))

    def commit(self, output: str) -> None:
        with self._telling():
            self._open.close()
        self.n_frames = self._writer.n_frames
        self._place(output)

    def abort(self) -> None:
        with contextlib.suppress(_Abandoned), self._open.pop_all():
            raise _Abandoned
        remove(self._draft)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Codec2EqError as error:
            raise OutputError(str(error)) from error


class _Abandoned(Exception):
    """Makes a VectorWriter drop its file."""


def _write_all(descriptor: int, vectors: NDArray[np.float32]) -> None:
    """Write vectors as little-endian float32."""
    view = np.ascontiguousarray(vectors, "<f4").reshape(-1).view(np.uint8).data
    while view:
        view = view[os.write(descriptor, view) :]
