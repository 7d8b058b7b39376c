# SPDX-License-Identifier: LGPL-2.1-or-later
"""A corpus from its recordings to its manifest: plan, work, join, tell."""

from __future__ import annotations

import contextlib
import filecmp
import functools
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import IO, Any, NamedTuple

from codec2_eq import __version__
from codec2_eq.audio.resample import RATE_HZ
from codec2_eq.corpus.executors import Call, Workers, given_workers, local_workers
from codec2_eq.corpus.listing import list_recordings
from codec2_eq.corpus.plan import PartWork, Work, make_plan
from codec2_eq.corpus.store import (
    MANIFEST_FILE,
    OPTIONS_FILE,
    Options,
    Record,
    Store,
    Task,
    json_line,
    remove,
    shard_name,
)
from codec2_eq.corpus.work import (
    Job,
    JobPlace,
    TaskResult,
    Whereabouts,
    join_part,
    run_task,
    try_recording,
    write_job,
)
from codec2_eq.equalisers.equaliser import DEFAULT, load_equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import check_knots
from codec2_eq.files import PathLike, write_error
from codec2_eq.vectors.reader import FORMATS

LAYOUTS = ("tree", "shards")


class Progress(NamedTuple):
    """How far a run is, after each task; bytes and recordings are those of the whole corpus."""

    n_bytes: int
    n_bytes_done: int
    hours: float
    n_failures: int
    new_failures: list[tuple[str, str]]


@dataclass
class Summary:
    """What a corpus holds, and how the run went that has completed it.

    utterances, frames and hours are those with vectors; the names that begin with ``run_`` are of
    this run alone.
    """

    output: str
    model: str
    frame_ms: int
    utterances: int = 0
    failures: int = 0
    failures_by_reason: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    frames: int = 0
    hours: float = 0.0
    run_recordings: int = 0
    run_hours: float = 0.0
    run_elapsed_s: float = 0.0
    run_times_real_time: float = 0.0
    run_vectors_per_s: float = 0.0


def batch(
    inputs: PathLike | Iterable[PathLike],
    output: PathLike,
    *,
    model: str = DEFAULT,
    frame_ms: int = 40,
    knots: str = "pick",
    layout: str = "tree",
    format: str = "f32",
    channel: int | str = "mix",
    raw: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    force: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Summary:
    """Extract and equalise recordings into a folder; do what is missing if that was begun before.

    inputs : files, folders, and ``@lists`` of these
    frame_ms, knots : time between two vectors, and how they are made: see `codec2_eq.Extractor`
    layout : "tree", a vector file for each recording; "shards", few large ``.f32`` files
    format : of the files in layout tree: "f32", "npy" or "npz"
    jobs : local processes, by default all cores; executor : any other workers, such as those of
        Dask's ``Client.get_executor()``, which see inputs and output under the same paths
    force : make the corpus anew if there is one
    progress : called now and then

    A recording that cannot be read is a failure in the manifest; the others go on.
    Raises Codec2EqError if the output is in use by another run, was made with other options or of
    other inputs, or cannot be written. What is done then stays; a further run goes on there.
    """
    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    names = [os.fspath(path) for path in named]
    equaliser = load_equaliser(model, frame_ms=frame_ms)
    store = Store(os.fspath(output))
    options = Options(
        base="",
        model=equaliser.name,
        model_sha256=equaliser.version,
        frame_ms=frame_ms,
        layout=layout,
        format=_check_format(layout, format),
        channel=_check_channel(channel),
        raw=raw,
        version=__version__,
        knots=check_knots(knots, frame_ms),
    )
    if jobs is not None and jobs < 1:
        raise Codec2EqError(f"jobs {jobs}: at least one is needed")
    store.create()
    with store.locked():
        job, plan = _prepare(Job(store, options, equaliser), names, force=force)
        choice = given_workers(executor) if executor else local_workers(_n_jobs(jobs, plan))
        with choice as workers, _job_on_disk(job) as place:
            return _Run(job, place, plan, workers, progress or (lambda _: None)).run()


def _prepare(job: Job, inputs: list[str], *, force: bool) -> tuple[Job, Work]:
    """Find the recordings and what is left to do; the job returned has its base.

    With force what was there before is discarded, once the recordings are found.
    """
    store = job.store
    before = None if force else store.read_options()
    listing = list_recordings(inputs, before.base if before else None)
    if force:
        store.discard()
    job = replace(job, options=replace(job.options, base=listing.base))
    if before is None:
        store.write_options(job.options)
    else:
        _refuse_changes(store, before, job.options)
    try:
        retry = functools.partial(try_recording, job)
        return job, make_plan(store, job.options, listing, retry, force=force)
    except Codec2EqError:
        if before is None:  # there is no corpus yet, and its options may be others
            remove(store.path(OPTIONS_FILE))
        raise


def _check_format(layout: str, format: str) -> str:
    if layout not in LAYOUTS:
        raise Codec2EqError(f"layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    if format not in FORMATS:
        raise Codec2EqError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    if layout == "shards" and format != "f32":
        raise Codec2EqError(f"format {format}: shards are .f32; choose layout tree for {format}")
    return format


def _check_channel(channel: int | str) -> str:
    text = str(channel)
    if text != "mix" and (not text.isdecimal() or int(text) < 1):
        raise Codec2EqError(f"channel {text!r}: expected 'mix' or a number from 1")
    return text


def _n_jobs(wanted: int | None, plan: Work) -> int:
    """As many as wanted, or cores, but no more than there are tasks; one in its own process."""
    jobs = wanted or len(os.sched_getaffinity(0))
    return min(jobs, max(2, sum(len(part.to_do) for part in plan.parts)))


def _refuse_changes(store: Store, before: Options, wanted: Options) -> None:
    """Raise Codec2EqError if the corpus that is there was made otherwise."""
    if before == wanted:
        return
    changed = [
        f"{name} {getattr(before, name)!r}, now {getattr(wanted, name)!r}"
        for name in vars(wanted)
        if getattr(before, name) != getattr(wanted, name)
    ]
    raise Codec2EqError(
        f"{store.root}: was made with {'; '.join(changed)}; choose another output folder, or pass "
        "-f to make it anew"
    )


@contextlib.contextmanager
def _job_on_disk(job: Job) -> Iterator[JobPlace]:
    place = write_job(job)
    try:
        yield place
    finally:
        remove(place.path)


class _Run:
    """One run: calls to workers, in what order their results are joined, and what they come to."""

    def __init__(
        self,
        job: Job,
        place: JobPlace,
        work: Work,
        workers: Workers,
        progress: Callable[[Progress], object],
    ) -> None:
        self._job = job
        self._store = job.store
        self._place = place
        self._work = work
        self._workers = workers
        self._progress = progress
        self._left = {part.part: len(part.to_do) for part in work.parts if not part.done}
        self._tasks = {part.part: part.tasks for part in work.parts}
        self._joined = {part.part for part in work.parts if part.done}
        self._n_samples = 0
        self._n_bytes_done = work.n_bytes_done
        self._n_failures = 0
        self._n_recordings = 0

    def run(self) -> Summary:
        """Do all that is left; return what the corpus holds then."""
        started = time.monotonic()
        self._tell([])
        with _Manifest(self._job) as manifest:
            parts = iter(self._work.parts)
            waiting = self._add_while_joined(manifest, parts, next(parts, None))
            self._workers.calls.extend(self._calls())
            for call, result in self._workers.results():
                if call.function is run_task:
                    self._after_task(call.arguments[1], result)
                else:
                    self._joined.add(call.arguments[1])
                    waiting = self._add_while_joined(manifest, parts, waiting)
            summary = manifest.finish()
        elapsed_s = time.monotonic() - started
        return self._complete(summary, elapsed_s)

    def _calls(self) -> Iterator[Call]:
        for part in self._work.parts:
            for task in part.to_do:
                yield self._task_call(task)
            if not part.done and not part.to_do:
                yield self._join_call(part.part)

    def _task_call(self, task: Task) -> Call:
        skip: list[str] = []
        seen: set[str] = set()

        def blame() -> tuple[Any, ...] | None:
            name = Whereabouts(self._store, task).last_seen()
            if name is None:
                return None
            if name not in seen:  # workers are killed for other reasons, too
                seen.add(name)
                return None
            skip.append(name)
            return (tuple(skip),)

        return Call(run_task, (self._place, task), blame)

    def _join_call(self, part: int) -> Call:
        return Call(join_part, (self._place, part, self._tasks[part]), lambda: None)

    def _after_task(self, task: Task, result: TaskResult) -> None:
        self._n_samples += result.n_samples
        self._n_bytes_done += result.n_bytes
        self._n_recordings += result.n_recordings
        self._n_failures += len(result.failures)
        self._tell(result.failures)
        self._left[task.part] -= 1
        if not self._left[task.part]:
            self._workers.calls.appendleft(self._join_call(task.part))

    def _add_while_joined(
        self, manifest: _Manifest, parts: Iterator[PartWork], part: PartWork | None
    ) -> PartWork | None:
        """Add parts to the manifest while those before are there; return the first that is not."""
        while part is not None and part.part in self._joined:
            manifest.add(part)
            part = next(parts, None)
        return part

    def _tell(self, failures: list[tuple[str, str]]) -> None:
        self._progress(
            Progress(
                self._work.n_bytes,
                self._n_bytes_done,
                self._n_samples / RATE_HZ / 3600,
                self._n_failures,
                failures,
            )
        )

    def _complete(self, summary: Summary, elapsed_s: float) -> Summary:
        run_s = self._n_samples / RATE_HZ
        summary.run_recordings = self._n_recordings
        summary.run_hours = round(run_s / 3600, 6)
        summary.run_elapsed_s = round(elapsed_s, 3)
        summary.run_times_real_time = round(run_s / elapsed_s, 1)
        summary.run_vectors_per_s = round(run_s * 1000 / summary.frame_ms / elapsed_s, 1)
        return summary


class _Manifest:
    """The manifest in the making, part after part, and the sums over it.

    It grows out of sight. One that is there already and tells the same is left.
    """

    def __init__(self, job: Job) -> None:
        self._store = job.store
        self._options = job.options
        self._target = job.store.path(MANIFEST_FILE)
        self._draft = os.path.join(job.store.state, MANIFEST_FILE)
        self._file: IO[bytes]
        self._reasons: Counter[str] = Counter()
        self._n_samples = 0
        self._summary = Summary(job.store.root, job.options.model, job.options.frame_ms)

    def __enter__(self) -> _Manifest:
        with self._writing():
            self._file = open(self._draft, "wb")
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # of a disk that is full, told before
            self._file.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._target, error) from error

    def add(self, part: PartWork) -> None:
        """Add a part whose records are there."""
        records = self._store.read_records(self._store.part(part.part)) or []
        if self._options.layout == "shards":
            outputs = dict.fromkeys((r.name for r in records), shard_name(part.part))
        else:
            outputs = {e.name: e.output for task in part.tasks for e in self._store.read_task(task)}
        offset = 0
        lines = []
        for record in records:
            self._count(record)
            lines.append(json_line(self._describe(record, outputs[record.name], offset)))
            if self._options.layout == "shards":
                offset += record.n_frames
        with self._writing():
            self._file.writelines(lines)
            self._file.flush()

    def _describe(self, record: Record, output: str, offset: int) -> dict[str, Any]:
        failed = record.error is not None
        line = {
            "audio_filepath": os.path.join(self._options.base, record.name),
            "duration": record.n_samples / RATE_HZ,
            "frames": record.n_frames,
            "path": None if failed else output,
            "offset": None if failed else offset,
            "model": self._options.model,
        }
        if failed:
            line["error"] = record.error
        if record.warning is not None:
            line["warning"] = record.warning
        return line

    def _count(self, record: Record) -> None:
        summary = self._summary
        summary.warnings += record.warning is not None
        if record.error is not None:
            summary.failures += 1
            self._reasons[_kind(record.error)] += 1
            return
        summary.utterances += 1
        summary.frames += record.n_frames
        self._n_samples += record.n_samples

    def finish(self) -> Summary:
        """Let the manifest appear; return the sums."""
        with self._writing():
            self._file.close()
            if _same(self._draft, self._target):
                remove(self._draft)
            else:
                os.replace(self._draft, self._target)
        self._summary.hours = round(self._n_samples / RATE_HZ / 3600, 6)
        self._summary.failures_by_reason = dict(self._reasons.most_common())
        return self._summary


def _same(path: str, other: str) -> bool:
    return os.path.exists(other) and filecmp.cmp(path, other, shallow=False)


def _kind(reason: str) -> str:
    """Return the reason of a failure without its remedy and its numbers, to be counted."""
    return re.sub(r"\b\d[\d.,]*", "N", re.sub(r"(?<!\S)/\S+", "PATH", reason.split(";")[0]))
