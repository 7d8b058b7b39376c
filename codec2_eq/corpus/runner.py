# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a corpus: plans, works, joins and lists."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, NamedTuple

from codec2_eq import __version__
from codec2_eq.codec2 import FRAME_MS, RATE_HZ
from codec2_eq.corpus import speakers as first_pass
from codec2_eq.corpus.entries import Entry, TaskLine
from codec2_eq.corpus.executors import Call, Pool, given_workers, local_workers
from codec2_eq.corpus.listing import Listing, list_recordings
from codec2_eq.corpus.lists import read_manifest, read_scp
from codec2_eq.corpus.manifest import Manifest, Summary, script_names
from codec2_eq.corpus.options import Options, check_channel, check_options
from codec2_eq.corpus.plan import (
    Part,
    Plan,
    clear_hidden,
    discard,
    read_plan,
    refuse_existing,
)
from codec2_eq.corpus.review import make_plan
from codec2_eq.corpus.store import MANIFEST_FILE, OPTIONS_FILE, Store, remove
from codec2_eq.corpus.worker import (
    Job,
    JobFile,
    TaskResult,
    Whereabouts,
    do_task,
    hear_speakers,
    join_part,
    try_recording,
    write_job,
)
from codec2_eq.equalisers.equaliser import check_passes, load_equaliser
from codec2_eq.equalisers.names import DEFAULT_MODEL
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import check_knots
from codec2_eq.files import PathLike, write_error
from codec2_eq.system import core_count

Paths = PathLike | Iterable[PathLike]

HEARD_AT_ONCE = 64
"""Recordings whose first pass is one call, at least."""


class Progress(NamedTuple):
    """State of a run after each task; bytes are those of the whole corpus."""

    n_bytes: int
    n_bytes_done: int
    hours: float
    n_failures: int
    new_failures: list[tuple[str, str]]


class Source(NamedTuple):
    """Where the recordings are listed: see `batch`."""

    inputs: list[str]
    scp: list[str]
    manifest: list[str]
    speakers: str


def batch(
    inputs: Paths,
    output: PathLike,
    *,
    scp: Paths = (),
    manifest: Paths = (),
    model: str = DEFAULT_MODEL,
    frame_ms: int = FRAME_MS,
    knots: str = "pick",
    passes: int = 1,
    speakers: PathLike | None = None,
    layout: str = "tree",
    format: str = "f32",
    records: bool = False,
    before_floor: bool = False,
    channel: int | str = "mix",
    raw: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    force: bool = False,
    check_content: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Summary:
    """Extract and equalise recordings into a folder, or do what is missing of that.

    Parameters
    ----------
    inputs : path or sequence of paths
        Files, folders, and ``@lists`` of these.
    output : str or path
        Folder of the corpus.
    scp, manifest : path or sequence of paths
        Lists like Kaldi's wav.scp; JSON lines of NeMo or Lhotse.
    model : str
        Name or path of an equaliser.
    frame_ms, knots, channel, raw
        As for `codec2_eq.extract_file`.
    passes : {1, 2}
        2 equalises each recording from what a first pass over it taught.
    speakers : path or "folder", optional
        Pool first passes: a file of lines ``utterance-or-path speaker``, or each folder is one.
    layout : {"tree", "shards", "kaldi", "webdataset"}
        A vector file for each recording; few large ``.f32`` files; archives; tars.
    format, records : {"f32", "npy", "npz"}, bool
        Of files in layout tree; keep level, pitch and voicing too in layout shards.
    before_floor : bool
        Equalise picked frames before the floor of rate K, as encoders do; not with speakers.
    jobs : int, optional
        Local processes, by default one for each core.
    executor : concurrent.futures.Executor, optional
        Workers that see the same paths, such as those of Dask's ``Client.get_executor()``.
    force : bool
        Make the corpus anew if there is one.
    check_content : bool
        Compare what recordings and outputs hold, not only their sizes and times.
    progress : callable, optional
        Called with a `Progress` now and then.

    Returns
    -------
    Summary
        Counts of the corpus, and speed of this run. What could not be read is a failure, in
        the manifest; the others go on.

    Raises
    ------
    Codec2EqError
        If the output is in use by another run, or of other options or inputs, or cannot be
        written. What is done stays; a further run goes on there.

    Examples
    --------
    >>> summary = ce.batch("samples", "corpus", model="cmn", jobs=1)
    >>> summary.utterances, summary.failures
    (12, 0)
    """
    source = Source(_paths(inputs), _paths(scp), _paths(manifest), os.fspath(speakers or ""))
    if speakers and check_passes(passes) == 1:
        raise Codec2EqError("speakers", "are pooled in a first pass", "pass passes=2 (--passes 2)")
    equaliser = load_equaliser(model, frame_ms=frame_ms)
    store = Store(os.fspath(output))
    options = Options(
        base="",
        model=equaliser.name,
        model_sha256=equaliser.sha256,
        frame_ms=frame_ms,
        layout=layout,
        format=format,
        channel=check_channel(channel),
        raw=raw,
        version=__version__,
        knots=check_knots(knots, frame_ms),
        passes=check_passes(passes),
        speakers="" if not speakers else first_pass.kind_of(source.speakers),
        records=records,
        before_floor=before_floor,
    )
    check_options(options)
    if jobs is not None and jobs < 1:
        raise Codec2EqError(f"jobs {jobs}", "at least one is needed")
    store.create()
    try:
        with store.locked():
            job = Job(store, options, equaliser, check_content)
            job, plan, listing, unused = _prepare(job, source, force=force)
            choice = given_workers(executor) if executor else local_workers(_n_jobs(jobs, plan))
            with choice as pool, _job_on_disk(job, elsewhere=executor is not None) as file:
                summary = _Run(job, file, plan, pool, progress or (lambda _: None)).run()
    except OSError as error:  # of the folder's own files; errors of recordings are in their records
        raise write_error(error.filename or store.root, error) from error
    summary.passed_over = dict(listing.passed_over)
    summary.unused_speaker_lines = unused
    return summary


def _paths(given: Paths) -> list[str]:
    named = [given] if isinstance(given, (str, os.PathLike)) else given
    return [os.fspath(path) for path in named]


def _prepare(job: Job, source: Source, *, force: bool) -> tuple[Job, Plan, Listing, int]:
    """Find the recordings and what is left to do; the job returned has its base.

    With force what was there before is discarded, once the recordings are found.
    """
    store = job.store
    before = None
    with contextlib.suppress(Codec2EqError) if force else contextlib.nullcontext():
        before = store.read_options()
    items = [item for path in source.scp for item in read_scp(path)]
    items += [item for path in source.manifest for item in read_manifest(path)]
    base = before.base if before and not force else None
    listing = list_recordings(source.inputs, base, items=items)
    unused = 0
    if source.speakers:
        listing, unused = first_pass.with_speakers(listing, source.speakers)
    job = replace(job, options=replace(job.options, base=listing.base))
    if force:
        discard(store, before)
        before = None
    elif before is None:
        for name in (MANIFEST_FILE, *script_names(job.options)):
            refuse_existing(store.path(name))
    if before is None:
        clear_hidden(store)
        store.write_options(job.options)
    else:
        _refuse_changes(store, before, job.options)
    try:
        retry = functools.partial(try_recording, job)
        plan = make_plan(
            store, job.options, listing, retry, own=force, check_content=job.check_content
        )
    except Codec2EqError:
        if before is None:  # there is no corpus yet, and its options may be others
            remove(store.path(OPTIONS_FILE))
        raise
    if before is not None and not store.has_options(job.options):  # it was cut
        store.write_options(job.options)
    return job, plan, listing, unused


def _n_jobs(wanted: int | None, plan: Plan) -> int:
    """As many as wanted, or cores, but no more than there are tasks; one in its own process."""
    jobs = wanted or core_count()
    return min(jobs, max(2, sum(len(part.to_do) for part in plan.parts)))


def _refuse_changes(store: Store, before: Options, wanted: Options) -> None:
    """Raise Codec2EqError if the existing corpus was made with other options."""
    if before == wanted:
        return
    changed = [
        f"{name} {getattr(before, name)!r}, now {getattr(wanted, name)!r}"
        for name in vars(wanted)
        if getattr(before, name) != getattr(wanted, name)
    ]
    raise Codec2EqError(
        store.root,
        f"was made with {'; '.join(changed)}",
        "choose another output folder, or pass -f to make it anew",
    )


@contextlib.contextmanager
def _job_on_disk(job: Job, *, elsewhere: bool) -> Iterator[JobFile]:
    file = write_job(job, elsewhere=elsewhere)
    try:
        yield file
    finally:
        remove(file.path)


class _Run:
    """One run: calls workers, joins their results in order and sums them up."""

    def __init__(
        self,
        job: Job,
        file: JobFile,
        plan: Plan,
        pool: Pool,
        progress: Callable[[Progress], object],
    ) -> None:
        self._job = job
        self._store = job.store
        self._manifest = Manifest(job.store, job.options)
        self._file = file
        self._plan = plan
        self._pool = pool
        self._progress = progress
        self._left = {part.part: len(part.to_do) for part in plan.parts if not part.done}
        self._joined = {part.part for part in plan.parts if part.done}
        self._unlisted = deque(plan.parts)
        self._n_samples = 0
        self._n_bytes_done = plan.n_bytes_done
        self._n_failures = 0
        self._n_recordings = 0

    def run(self) -> Summary:
        """Do what is left; return a summary of the corpus."""
        started = time.monotonic()
        self._tell([])
        with self._manifest:
            self._list_joined()
            late = self._hear_speakers()
            self._pool.calls.extend(self._calls())
            self._pool.run()
            summary = self._manifest.finish()
        summary.late = late
        elapsed_s = time.monotonic() - started
        first_pass.forget_frames(self._store)
        return self._complete(summary, elapsed_s)

    def _hear_speakers(self) -> int:
        """Make the first passes that are missing; return how many recordings came after theirs."""
        if not self._job.options.speakers or not self._job.equaliser.stateful:
            return 0
        plan = read_plan(self._store, self._job.options) or []
        to_hear, late = first_pass.first_passes(self._store, plan)
        group: list[tuple[str, list[Entry]]] = []
        for speaker in to_hear:
            group.append(speaker)
            if sum(len(entries) for _, entries in group) >= HEARD_AT_ONCE or speaker is to_hear[-1]:
                self._pool.calls.append(Call(hear_speakers, (self._file, group), lambda _: None))
                group = []
        self._pool.run()
        return late

    def _calls(self) -> Iterator[Call]:
        for part in self._plan.parts:
            for task in part.to_do:
                yield self._task_call(part, task)
            if not part.done and not part.to_do:
                yield self._join_call(part)

    def _task_call(self, part: Part, task: TaskLine) -> Call:
        skip: list[str] = []
        seen: set[str] = set()

        def done(result: TaskResult) -> None:
            self._count(result)
            self._left[part.part] -= 1
            if not self._left[part.part]:
                self._pool.calls.appendleft(self._join_call(part))

        def blame() -> tuple[Any, ...] | None:
            name = Whereabouts(self._store, task).last_seen()
            if name is None:
                return None
            if name not in seen:  # workers are killed for other reasons, too
                seen.add(name)
                return None
            skip.append(name)
            return (tuple(skip),)

        return Call(do_task, (self._file, task), done, blame)

    def _join_call(self, part: Part) -> Call:
        def done(_: None) -> None:
            self._joined.add(part.part)
            self._list_joined()

        return Call(join_part, (self._file, part.part, part.tasks), done)

    def _list_joined(self) -> None:
        """Add parts to the manifest, in their order, as far as they are joined."""
        while self._unlisted and self._unlisted[0].part in self._joined:
            self._manifest.add(self._unlisted.popleft())

    def _count(self, result: TaskResult) -> None:
        self._n_samples += result.n_samples
        self._n_bytes_done += result.n_bytes
        self._n_recordings += result.n_recordings
        self._n_failures += len(result.failures)
        self._tell(result.failures)

    def _tell(self, failures: list[tuple[str, str]]) -> None:
        self._progress(
            Progress(
                self._plan.n_bytes,
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
