# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the vectors of a corpus: a file for each utterance, or one after another in one file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from codec2_eq.corpus.containers import CONTAINERS, LEVELS_PIECE_SUFFIX
from codec2_eq.corpus.digests import add_span, new_digest
from codec2_eq.corpus.entries import Entry, TaskLine
from codec2_eq.corpus.options import Options
from codec2_eq.corpus.store import ROW_BYTES, Store, remove
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import write_error
from codec2_eq.records import RateK
from codec2_eq.system import open_new
from codec2_eq.vectors.writer import VectorWriter


class OutputError(Codec2EqError):
    """The output cannot be written, which ends the run: the next recording would fail as well."""


_NAME_ERRORS = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ})
"""Errors of one output's name rather than of the disk."""


class Writing:
    """Context in which an OSError is one of writing to a path; a class, as it is quick to enter."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            failure = write_error(self._path, error)
            if error.errno not in _NAME_ERRORS:
                raise as_output_error(failure) from error
            name = os.path.basename(self._path)
            raise Codec2EqError(
                self._path,
                f"its output {name} cannot be written: {failure.problem}",
                "rename the recording, or choose another output folder",
            ) from error


def as_output_error(error: Codec2EqError) -> OutputError:
    """Return an error as one of the output."""
    return OutputError(error.subject, error.problem, error.remedy)


Facts = Callable[[], dict[str, Any]]


class Written(NamedTuple):
    """Size and digest of the output of one utterance."""

    n_bytes: int
    digest: str


class Sink(Protocol):
    """Takes the vectors of one utterance after another; an abort leaves no trace.

    Committed utterances appear when the drafts are renamed to their targets.
    """

    n_frames: int
    drafts: list[tuple[str, str]]

    def begin(self, entry: Entry) -> None:
        """Expect an utterance."""

    def write(self, frames: RateK, vectors: NDArray[np.float32]) -> None:
        """Take its next vectors and their frames."""

    def commit(self, entry: Entry, facts: Facts) -> Written:
        """Keep the utterance; facts returns its manifest line."""

    def abort(self) -> None:
        """Drop the utterance."""

    def close(self) -> None:
        """Have all files complete, before they are renamed."""


@contextlib.contextmanager
def open_sink(store: Store, options: Options, task: TaskLine) -> Iterator[Sink]:
    """Take the vectors of a task; drafts that have not been renamed at the end are removed."""
    sink: Sink
    if not options.is_tree:
        sink = _PartSink(store, options, task)
    elif options.format == "f32":
        sink = _PlainSink(store, options)
    else:
        sink = _WriterSink(store, options)
    try:
        yield sink
    finally:
        with contextlib.suppress(Codec2EqError):
            sink.abort()
            sink.close()
        for draft, _ in sink.drafts:
            with contextlib.suppress(Codec2EqError):
                remove(draft)


class _PartSink:
    """One utterance after another in one file, the piece of a part."""

    def __init__(self, store: Store, options: Options, task: TaskLine) -> None:
        self.n_frames = 0
        self._container = CONTAINERS[options.layout]
        targets = [store.piece(task.number, self._container.suffix)]
        if options.records:
            targets.append(store.piece(task.number, LEVELS_PIECE_SUFFIX))
        self.drafts = [(store.draft(os.path.splitext(path)[1]), path) for path in targets]
        self._path = targets[0]
        self._ends = [0, 0]  # of the utterances committed
        self._head = b""
        self._files: list[IO[bytes]] = []
        with Writing(self._path):
            for draft, _ in self.drafts:
                self._files.append(open(draft, "x+b", buffering=0))

    def begin(self, entry: Entry) -> None:
        self.n_frames = 0
        self._head = self._container.head(entry.output, 0)
        if self._head:  # written again when the number of frames is known
            with Writing(self._path):
                _write_all(self._files[0], self._head)

    def write(self, frames: RateK, vectors: NDArray[np.float32]) -> None:
        with Writing(self._path):
            _write_all(self._files[0], _bytes_of(vectors))
            if len(self._files) > 1:
                _write_all(self._files[1], _bytes_of(_levels(frames)))
        self.n_frames += len(vectors)

    def commit(self, entry: Entry, facts: Facts) -> Written:
        main = self._files[0]
        with Writing(self._path):
            start, rows_end = self._ends[0], main.tell()
            if self._head:
                main.seek(start)
                _write_all(main, self._container.head(entry.output, self.n_frames))
                main.seek(rows_end)
            n_bytes = rows_end - start - len(self._head)
            _write_all(main, self._container.tail(entry.output, n_bytes, facts))
            digest = new_digest()
            for index, file in enumerate(self._files):
                end = file.tell()
                add_span(digest, file, self._ends[index], end - self._ends[index])
                self._ends[index] = end
        return Written(self._ends[0] - start, digest.hexdigest())

    def abort(self) -> None:
        with Writing(self._path):
            for file, end in zip(self._files, self._ends, strict=False):
                if not file.closed:
                    file.truncate(end)
                    file.seek(end)

    def close(self) -> None:
        with Writing(self._path):
            for file in self._files:
                file.close()


def _levels(frames: RateK) -> NDArray[np.float32]:
    """Return level [dB], pitch [Hz] and voicing of frames as rows."""
    return np.stack([frames.mean_db, frames.f0_hz, frames.voiced.astype(np.float32)], axis=1)


class _TreeSink:
    """A file for each utterance."""

    def __init__(self, store: Store, options: Options) -> None:
        self.n_frames = 0
        self.drafts: list[tuple[str, str]] = []
        self._store = store
        self._options = options
        self._suffix = f".{options.format}"
        self._draft = ""
        self._folders: set[str] = set()

    def _begin(self, entry: Entry) -> None:
        self.n_frames = 0
        self._target = self._store.path(entry.output)
        self._writing = Writing(self._target)
        self._draft = self._store.draft(self._suffix)

    def _keep(self, output: str) -> None:
        """Note that the draft is to get its name at the end; raise OSError if that cannot be."""
        folder = os.path.dirname(output)
        if folder not in self._folders:
            try:
                self._store.confined(output)
            except Codec2EqError as error:
                raise as_output_error(error) from error
            os.makedirs(self._store.path(folder), exist_ok=True)
            self._folders.add(folder)
        if os.access(self._target, os.F_OK) and stat.S_ISDIR(os.lstat(self._target).st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
        self.drafts.append((self._draft, self._target))
        self._draft = ""

    def abort(self) -> None:
        if self._draft:
            remove(self._draft)
            self._draft = ""

    def close(self) -> None:
        """Do nothing: each file is complete."""


class _PlainSink(_TreeSink):
    """Files of layout tree in .f32, written directly, since there may be many."""

    _descriptor = -1

    def begin(self, entry: Entry) -> None:
        self._begin(entry)
        self._digest = new_digest()
        with self._writing:
            self._descriptor = open_new(self._draft)

    def write(self, frames: RateK, vectors: NDArray[np.float32]) -> None:
        view = _bytes_of(vectors)
        self._digest.update(view)
        with self._writing:
            while view:
                view = view[os.write(self._descriptor, view) :]
        self.n_frames += len(vectors)

    def commit(self, entry: Entry, facts: Facts) -> Written:
        with self._writing:
            self._close()
            self._keep(entry.output)
        return Written(self.n_frames * ROW_BYTES, self._digest.hexdigest())

    def abort(self) -> None:
        if self._draft:
            with self._writing:
                self._close()
        super().abort()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _WriterSink(_TreeSink):
    """Files of layout tree in .npy and .npz."""

    def __init__(self, store: Store, options: Options) -> None:
        super().__init__(store, options)
        self._open = contextlib.ExitStack()

    def begin(self, entry: Entry) -> None:
        options = self._options
        self._begin(entry)
        self._writer = VectorWriter(
            self._draft,
            format=options.format,
            force=True,
            model=options.model,
            frame_ms=options.frame_ms,
            durable=False,
        )
        with self._reporting():
            self._open.enter_context(self._writer)

    def write(self, frames: RateK, vectors: NDArray[np.float32]) -> None:
        with self._reporting():
            self._writer.write(vectors, frames)
        self.n_frames += len(vectors)

    def commit(self, entry: Entry, facts: Facts) -> Written:
        with self._reporting():
            self._open.close()
            digest = new_digest()
            with open(self._draft, "rb", buffering=0) as file:
                n_bytes = os.fstat(file.fileno()).st_size
                add_span(digest, file, 0, n_bytes)
        with self._writing:
            self._keep(entry.output)
        return Written(n_bytes, digest.hexdigest())

    def abort(self) -> None:
        with contextlib.suppress(_Abandoned), self._open.pop_all():
            raise _Abandoned
        super().abort()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            with self._writing:
                yield
        except OutputError:
            raise
        except Codec2EqError as error:
            raise as_output_error(error) from error


class _Abandoned(Exception):
    """Makes a VectorWriter drop its file."""


def _bytes_of(rows: NDArray[np.float32]) -> memoryview:
    """Return rows as little-endian float32."""
    return np.ascontiguousarray(rows, "<f4").reshape(-1).view(np.uint8).data


def _write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
