# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a worker does: recordings of a task to vectors and records, pieces of a part to a shard.

A worker is told a few numbers and reads the plan where it writes its results, so that a task costs
the same to hand over whatever it holds, and a cluster needs nothing but a common folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pickle
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.resample import MAX_RATE_HZ, RATE_HZ, to_8khz
from codec2_eq.audio.stream import stream_audio
from codec2_eq.audio.wav import plain_samples
from codec2_eq.corpus.listing import ABSENT, Stamp
from codec2_eq.corpus.plan import CRASHED
from codec2_eq.corpus.sinks import OutputError, Sink, Writing, open_sink
from codec2_eq.corpus.store import ROW_BYTES, Entry, Options, Record, Store, TaskLine, remove
from codec2_eq.equalisers.equaliser import Equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract_blocks
from codec2_eq.files import read_error
from codec2_eq.records import RateK
from codec2_eq.system import BINARY, append_file, open_new, replace_file, write_at_start

JOB_FILE = "job.pickle"

SHORT_BYTES = 1 << 20
"""Recordings below are read at once if they are plain WAV: a minute."""


@dataclass(frozen=True)
class Job:
    """What all tasks of a run have in common."""

    store: Store
    options: Options
    equaliser: Equaliser


class JobFile(NamedTuple):
    """Where workers find the job, and the sha256 of it: they run no other."""

    path: str
    sha256: str


class TaskResult(NamedTuple):
    """What a task comes to, for the progress; failures are paths and reasons."""

    n_bytes: int
    n_samples: int
    n_recordings: int
    failures: list[tuple[str, str]]


def write_job(job: Job) -> JobFile:
    """Leave the job where workers find it."""
    data = pickle.dumps(job)
    path = os.path.join(job.store.hidden, JOB_FILE)
    job.store.write(path, data)
    return JobFile(path, hashlib.sha256(data).hexdigest())


@functools.lru_cache(maxsize=4)
def _load_job(file: JobFile) -> Job:
    try:
        with open(file.path, "rb") as handle:
            data = handle.read()
    except OSError as error:
        raise OutputError(
            f"{file.path}: cannot be read by a worker ({error.strerror}); workers need the "
            "recordings and the output folder under the same paths"
        ) from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise OutputError(f"{file.path}: is not of this run; is another one at work?")
    return pickle.loads(data)


def do_task(file: JobFile, task: TaskLine, skip: tuple[str, ...] = ()) -> TaskResult:
    """Do what is left of a task.

    skip : recordings on which workers have died
    Raises OutputError if the output cannot be written; what is wrong with a recording is recorded.
    """
    job = _load_job(file)
    store = job.store
    records = {r.name: r for r in store.read_records(store.piece(task.number, ".jsonl")) or ()}
    entries = store.read_task(task)
    n_bytes = sum(entry.size for entry in entries)
    if entries and len(records) == len(entries):  # by a worker that died after it was done
        return TaskResult(n_bytes, 0, 0, [])
    fresh = []
    with open_sink(store, job.options, task) as sink, Whereabouts(store, task).open() as here:
        for index, entry in enumerate(entries):
            if entry.name not in records:
                here.tell(index)
                records[entry.name] = _do(job, entry, sink, skip)
                fresh.append(records[entry.name])
    store.write_records(store.piece(task.number, ".jsonl"), [records[e.name] for e in entries])
    return TaskResult(
        n_bytes,
        sum(record.n_samples for record in fresh),
        len(fresh),
        [(os.path.join(job.options.base, r.name), r.error) for r in fresh if r.problem is not None],
    )


def join_part(file: JobFile, part: int, tasks: tuple[TaskLine, ...]) -> None:
    """Join the pieces of a part's tasks to its records and, in layout shards, its shard."""
    job = _load_job(file)
    store = job.store
    if os.path.exists(store.part(part)):  # a worker that died after it has done this
        return
    lines = b"".join(_read(store.piece(task.number, ".jsonl")) for task in tasks)
    if job.options.layout == "shards":
        records = (Record(*json.loads(line)) for line in lines.splitlines())
        _join_shard(store, part, tasks, sum(record.n_frames for record in records))
    store.write(store.part(part), lines)
    for task in tasks:
        remove(store.piece(task.number, ".jsonl"))
        remove(store.piece(task.number, ".f32"))


def _join_shard(store: Store, part: int, tasks: tuple[TaskLine, ...], n_frames: int) -> None:
    draft = store.draft(".f32")
    with Writing(store.shard(part)):
        with open(draft, "wb", buffering=0) as out:
            for task in tasks:
                with open(store.piece(task.number, ".f32"), "rb", buffering=0) as piece:
                    append_file(piece.fileno(), out.fileno())
            n_bytes = out.tell()
        if n_bytes != n_frames * ROW_BYTES:
            raise OutputError(
                f"{store.shard(part)}: pieces of {n_bytes} bytes for {n_frames} frames; was the "
                f"folder {store.hidden} changed meanwhile? run again"
            )
        replace_file(draft, store.shard(part))


def _read(path: str) -> bytes:
    with open(path, "rb") as handle:
        return handle.read()


# One recording


def try_recording(job: Job, name: str) -> bool:
    """Whether a recording can be read from beginning to end."""
    path = os.path.join(job.options.base, name)
    try:
        _require_file(path)
        for _ in _vectors(job, path, _Counter()):
            pass
    except Exception:
        return False
    return True


def _do(job: Job, entry: Entry, sink: Sink, skip: tuple[str, ...]) -> Record:
    """Extract and equalise one recording; return what has become of it."""
    path = os.path.join(job.options.base, entry.name)
    stamp = ABSENT
    counter = _Counter()
    try:
        stamp = _stamp_of(path)
        _require_file(path)
        if entry.name in skip:
            raise Codec2EqError(path, CRASHED, "convert it to WAV")
        sink.begin()
        for block, vectors in _vectors(job, path, counter):
            sink.write(block, vectors)
        if _stamp_of(path) != stamp:
            raise Codec2EqError(path, "changed while it was read", "run again when it is complete")
        sink.commit(entry.output)
    except OutputError:
        raise
    except Exception as error:  # decoders may raise anything; it is this recording's matter
        sink.abort()
        return Record(entry.name, *stamp, 0, 0, *_failure(path, error))
    warning = "; ".join(counter.warnings) or None
    return Record(entry.name, *stamp, counter.n_samples, sink.n_frames, warning=warning)


class _Counter:
    """Counts samples on their way, and keeps what was odd about them."""

    def __init__(self) -> None:
        self.n_samples = 0
        self.warnings: list[str] = []


def _vectors(job: Job, path: str, counter: _Counter) -> Iterator[tuple[RateK, NDArray[np.float32]]]:
    """Yield what the analysis says of each block, and its equalised vectors."""
    equaliser = job.equaliser.stream()
    samples, options = _samples(job, path, counter), job.options
    for block in extract_blocks(samples, frame_ms=options.frame_ms, knots=options.knots):
        yield block, equaliser.process(block.vectors)


def _samples(job: Job, path: str, counter: _Counter) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of a recording; of one that is short and plain, all of it."""
    options = job.options
    if options.channel in ("mix", "1") and not options.raw and path.endswith(".wav"):
        plain = _read_plain(path)
        if plain is not None:
            counter.n_samples = len(plain)
            yield plain
            return
    with stream_audio(path, channel=options.channel, raw=options.raw, log=False) as blocks:
        counter.warnings = blocks.warnings
        for block in blocks:
            counter.n_samples += len(block)
            yield block


def _read_plain(path: str) -> NDArray[np.float32] | None:
    """Read a short and plain WAV file at 8 kHz; None for all else, be it that it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | BINARY)
        try:
            n_bytes = os.fstat(descriptor).st_size
            data = os.read(descriptor, n_bytes + 1) if n_bytes < SHORT_BYTES else b""
        finally:
            os.close(descriptor)
    except OSError:
        return None
    plain = plain_samples(data)
    if plain is None or not RATE_HZ <= plain[1] <= MAX_RATE_HZ:
        return None
    samples, rate = plain
    return samples.astype(np.float32) if rate == RATE_HZ else to_8khz(samples, rate)


def _stamp_of(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError as error:
        raise read_error(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise Codec2EqError(path, "no permission to list this folder", "check its mode and owner")
    return Stamp(found.st_size, found.st_mtime_ns)


def _require_file(path: str) -> None:
    """Raise Codec2EqError for what might be read without end, or block."""
    if not os.path.isfile(path):
        raise Codec2EqError(
            path, "is a pipe or device, not a file", "process it with codec2-eq run"
        )


def _failure(path: str, error: Exception) -> tuple[str, str]:
    """Return why a recording failed and the remedy, both without its path."""
    if not isinstance(error, Codec2EqError):
        return f"{type(error).__name__}: {error}", ""
    if error.problem:
        return error.problem, error.remedy
    problem, _, remedy = error.subject.removeprefix(f"{path}: ").partition("; ")
    return problem, remedy


# Where a worker is, should it die


class Whereabouts:
    """A few bytes on disk that tell which recording of a task is being read."""

    def __init__(self, store: Store, task: TaskLine) -> None:
        self._path = os.path.join(store.new, f"{task.number:08d}.at")
        self._store = store
        self._task = task
        self._descriptor = -1

    @contextlib.contextmanager
    def open(self) -> Iterator[Whereabouts]:
        """Tell where we are until the task ends."""
        with Writing(self._path):
            self._descriptor = open_new(self._path)
        try:
            yield self
        finally:
            os.close(self._descriptor)
            remove(self._path)

    def tell(self, index: int) -> None:
        """Note that a recording is begun."""
        with Writing(self._path):
            write_at_start(self._descriptor, struct.pack("<q", index))

    def last_seen(self) -> str | None:
        """Name of the recording on which the worker died; None if it had begun with none."""
        try:
            with open(self._path, "rb") as handle:
                data = handle.read()
        except FileNotFoundError:
            return None
        if len(data) < 8:
            return None
        return self._store.read_task(self._task)[struct.unpack("<q", data)[0]].name
