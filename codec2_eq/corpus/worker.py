# SPDX-License-Identifier: LGPL-2.1-or-later
"""The work of a worker: turns a task's recordings into vectors, and joins the pieces of a part.

A worker gets a few numbers and reads the plan in the output folder. So handing over a task costs
the same for any size, and a cluster needs nothing but a common folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec2_eq import __version__
from codec2_eq.audio.resample import RATE_HZ
from codec2_eq.corpus import speakers
from codec2_eq.corpus.build import code_sha256
from codec2_eq.corpus.containers import CONTAINERS, LEVELS_PIECE_SUFFIX
from codec2_eq.corpus.digests import content_of
from codec2_eq.corpus.entries import Entry, Record, TaskLine
from codec2_eq.corpus.listing import ABSENT, WHOLE, Stamp
from codec2_eq.corpus.options import Options
from codec2_eq.corpus.plan import CRASHED, levels_name, part_name, read_task
from codec2_eq.corpus.recording import Heard, equalised, failure, frames_of, require_file, status_of
from codec2_eq.corpus.sinks import OutputError, Sink, Writing, open_sink
from codec2_eq.corpus.store import Store, records_json, remove
from codec2_eq.equalisers.equaliser import Equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import RateK
from codec2_eq.system import append_file, host_name, open_new, sync_path, write_at_start

JOB_FILE = "job.pickle"


@dataclass(frozen=True)
class Job:
    """What all tasks of a run have in common."""

    store: Store
    options: Options
    equaliser: Equaliser
    check_content: bool = False


class JobFile(NamedTuple):
    """Where workers find the job, its sha256, and whose code it is for: they run no other.

    code_sha256 : empty for workers that are forks of ours, or start from the same files
    """

    path: str
    sha256: str
    version: str
    code_sha256: str


class TaskResult(NamedTuple):
    """Result of a task, for the progress; failures are paths and reasons."""

    n_bytes: int
    n_samples: int
    n_recordings: int
    failures: list[tuple[str, str]]


def write_job(job: Job, *, elsewhere: bool) -> JobFile:
    """Write the job where workers find it; elsewhere if they may run other code."""
    data = pickle.dumps(job)
    path = os.path.join(job.store.hidden, JOB_FILE)
    job.store.write(path, data, durable=False)
    code = code_sha256() if elsewhere else ""
    return JobFile(path, hashlib.sha256(data).hexdigest(), __version__, code)


@functools.lru_cache(maxsize=4)
def _load_job(file: JobFile) -> Job:
    code = code_sha256() if file.code_sha256 else ""
    if (__version__, code) != (file.version, file.code_sha256):
        raise OutputError(
            f"worker {os.getpid()} on {host_name()}",
            f"runs codec2_eq {__version__} (code {code[:8]}), the job is for "
            f"{file.version} (code {file.code_sha256[:8]})",
            "install the same on all machines",
        )
    data = Store(os.path.dirname(os.path.dirname(file.path))).read(file.path)
    if data is None:
        raise OutputError(
            file.path,
            "cannot be read by a worker",
            "workers need the recordings and the output folder under the same paths",
        )
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise OutputError(file.path, "is not this run's", "is another run at work?")
    return pickle.loads(data)


def do_task(file: JobFile, task: TaskLine, skip: tuple[str, ...] = ()) -> TaskResult:
    """Do what is left of a task.

    skip : recordings on which workers have died
    Raises OutputError if the output cannot be written; what is wrong with a recording is recorded.
    """
    job = _load_job(file)
    store = job.store
    target = store.piece(task.number, ".jsonl")
    records = {r.name: r for r in store.read_records(target) or ()}
    entries = read_task(store, task)
    n_bytes = sum(entry.size for entry in entries)
    if entries and len(records) == len(entries):  # by a worker that died after it was done
        return TaskResult(n_bytes, 0, 0, [])
    fresh = []
    with open_sink(store, job.options, task) as sink, Whereabouts(store, task).open() as here:
        for index, entry in enumerate(entries):
            if entry.name not in records:
                here.tell(index)
                records[entry.name] = _do(job, entry, sink, skip)
                fresh.append((entry, records[entry.name]))
        sink.close()
        draft = store.write_draft(target, records_json(records[e.name] for e in entries))
        with Writing(target):
            store.publish(sink.drafts, record=(draft, target))
        sink.drafts.clear()
    failed = [(entry, record) for entry, record in fresh if record.problem is not None]
    return TaskResult(
        n_bytes,
        sum(record.n_samples for _, record in fresh),
        len(fresh),
        [(os.path.join(job.options.base, e.path), record.error) for e, record in failed],
    )


def hear_speakers(file: JobFile, drawn: list[tuple[str, list[Entry]]]) -> None:
    """Make the first passes over some speakers' recordings."""
    job = _load_job(file)
    for speaker, entries in drawn:
        speakers.hear(job.store, job.options, job.equaliser, speaker, entries)


def join_part(file: JobFile, part: int, tasks: tuple[TaskLine, ...]) -> None:
    """Join the pieces of a part's tasks to its records and, but in layout tree, its file."""
    job = _load_job(file)
    store, options = job.store, job.options
    target = store.part(part)
    if os.path.exists(target):  # a worker that died after it has done this
        return
    records = [_records_of(store, task) for task in tasks]
    drafts = []
    if not options.is_tree:
        container = CONTAINERS[options.layout]
        n_bytes = sum(record.n_bytes for piece in records for record in piece)
        path = store.path(part_name(options, part))
        drafts.append((_join(store, tasks, container.suffix, path, n_bytes, container.end), path))
        if options.records:
            path = store.path(levels_name(part))
            drafts.append((_join(store, tasks, LEVELS_PIECE_SUFFIX, path, None, b""), path))
    draft = store.write_draft(target, records_json(r for piece in records for r in piece))
    with Writing(target):
        store.publish(drafts, record=(draft, target))
        sync_path(os.path.dirname(target))
    for task in tasks:
        for path in store.piece_files(task.number):
            remove(path)


def _records_of(store: Store, task: TaskLine) -> list[Record]:
    path = store.piece(task.number, ".jsonl")
    records = store.read_records(path)
    if records is None:
        raise _changed_meanwhile(store, path)
    return records


def _join(
    store: Store,
    tasks: tuple[TaskLine, ...],
    suffix: str,
    path: str,
    n_bytes: int | None,
    end: bytes,
) -> str:
    """Join pieces to a draft of a file; return the draft's path."""
    draft = store.draft(suffix)
    with Writing(path), open(draft, "xb", buffering=0) as out:
        for task in tasks:
            with open(store.piece(task.number, suffix), "rb", buffering=0) as piece:
                append_file(piece.fileno(), out.fileno())
        joined = out.seek(0, os.SEEK_END)
        if n_bytes is not None and joined != n_bytes:
            raise _changed_meanwhile(store, path)
        out.write(end)
    return draft


def _changed_meanwhile(store: Store, path: str) -> OutputError:
    return OutputError(
        path,
        "its pieces have changed since they were made",
        f"was {store.hidden} changed? run again",
    )


# One utterance


def try_recording(job: Job, entry: Entry) -> bool:
    """Whether an utterance can be read from beginning to end."""
    try:
        path = os.path.join(job.options.base, entry.path)
        require_file(path, status_of(path))
        for _ in frames_of(job.options, entry, Heard()):
            pass
    except Exception:
        return False
    return True


def _do(job: Job, entry: Entry, sink: Sink, skip: tuple[str, ...]) -> Record:
    """Extract and equalise one utterance; return its record."""
    path = os.path.join(job.options.base, entry.path)
    stamp = ABSENT
    try:
        found = status_of(path)
        stamp = Stamp.of(found)
        require_file(path, found)
        if entry.name in skip:
            raise Codec2EqError(path, CRASHED, "convert it to WAV")
        content = content_of(path) if job.check_content else ""
        heard, frames = _frames(job, entry, stamp)
        sink.begin(entry)
        for block, vectors in _vectors(job, entry, frames):
            sink.write(block, vectors)
        if (heard.stamp or Stamp.of(status_of(path))) != stamp:
            raise Codec2EqError(path, "changed while it was read", "run again when it is complete")
        warnings = list(heard.warnings)
        if not sink.n_frames and "is empty" not in " ".join(warnings):
            warnings.append(f"is empty: no frame of {job.options.frame_ms} ms in it")
        written = sink.commit(entry, functools.partial(_facts, job, entry, heard, sink.n_frames))
    except OutputError:
        raise
    except Exception as error:  # decoders may raise anything; only this recording fails
        sink.abort()
        return Record(entry.name, *stamp, 0, 0, *failure(error))
    return Record(
        entry.name,
        *stamp,
        heard.n_samples,
        sink.n_frames,
        warning="; ".join(warnings) or None,
        n_bytes=written.n_bytes,
        digest=written.digest,
        content=content,
    )


def _frames(job: Job, entry: Entry, stamp: Stamp) -> tuple[Heard, Iterable[RateK]]:
    """Return the frames of an utterance, from a first pass or from its recording."""
    kept = speakers.frames_kept(job.store, job.options, entry, stamp)
    if kept is not None:
        return kept[0], [kept[1]]
    heard = Heard()
    return heard, frames_of(job.options, entry, heard)


def _vectors(
    job: Job, entry: Entry, frames: Iterable[RateK]
) -> Iterator[tuple[RateK, NDArray[np.float32]]]:
    """Yield the frames of each block and their equalised vectors."""
    equaliser, passes = job.equaliser, job.options.passes
    if job.options.speakers and entry.origin.speaker is not None:
        equaliser, passes = speakers.knowing(job.store, equaliser, entry.origin.speaker), 1
    return equalised(equaliser, frames, passes=passes)


def _facts(job: Job, entry: Entry, heard: Heard, n_frames: int) -> dict[str, Any]:
    return {
        "audio_filepath": os.path.join(job.options.base, entry.path),
        "duration": heard.n_samples / RATE_HZ,
        "frames": n_frames,
        "model": job.options.model,
        **origin_facts(entry),
    }


def origin_facts(entry: Entry) -> dict[str, Any]:
    """Return the facts of a list about an utterance, as in manifests."""
    origin = entry.origin
    facts: dict[str, Any] = {}
    if origin is WHOLE:
        return facts
    if origin.id is not None:
        facts["id"] = origin.id
    if origin.speaker is not None:
        facts["speaker"] = origin.speaker
    if origin.offset or origin.duration is not None:
        facts["audio_offset"] = origin.offset
    return facts


# Where a worker is, should it die


_INDEX_BYTES = 8


class Whereabouts:
    """A few bytes on disk that hold which recording of a task is being read."""

    def __init__(self, store: Store, task: TaskLine) -> None:
        self._path = os.path.join(store.new, f"{task.number:08d}.at")
        self._writing = Writing(self._path)
        self._store = store
        self._task = task
        self._descriptor = -1

    @contextlib.contextmanager
    def open(self) -> Iterator[Whereabouts]:
        """Create the file until the task ends."""
        with self._writing:
            self._descriptor = open_new(self._path)
        try:
            yield self
        finally:
            os.close(self._descriptor)
            remove(self._path)

    def tell(self, index: int) -> None:
        """Note that a recording is begun."""
        with self._writing:
            write_at_start(self._descriptor, index.to_bytes(_INDEX_BYTES, "little"))

    def last_seen(self) -> str | None:
        """Name of the recording on which the worker died; None if it had begun with none."""
        data = self._store.read(self._path)
        if data is None or len(data) < _INDEX_BYTES:
            return None
        entries = read_task(self._store, self._task)
        index = int.from_bytes(data[:_INDEX_BYTES], "little")
        return entries[index].name if index < len(entries) else None
