# SPDX-License-Identifier: LGPL-2.1-or-later
"""The plan of a corpus: recordings cut into tasks and parts, and what is left to do of it.

A task is what a worker does in one go: enough recordings to make up for handing it over. A part is
a run of tasks: one shard, one file of records. Where they are cut depends on the recordings alone,
and the plan is on disk before the work begins: so the same recordings give the same files, in the
same order, whatever the number of workers and however often the work is interrupted.

A corpus only grows. What was planned keeps its place; recordings that are found later follow in
parts of their own. What changed or is missing is done again. A recording that is gone stays in the
corpus if it was done, and leaves it if it was not.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codec2_eq.corpus.listing import Listing
from codec2_eq.corpus.store import (
    MANIFEST_FILE,
    ROW_BYTES,
    Entry,
    Options,
    Record,
    Store,
    TaskLine,
    json_line,
    remove,
)
from codec2_eq.errors import Codec2EqError

TASKS = 512
"""Tasks that a corpus is cut into, as far as their bounds allow: enough to be shared out evenly."""

TASK_FILES = (128, 2048)
TASK_BYTES = (4 << 20, 64 << 20)
"""Bounds of what fills a task: at least about 0.05 s of work, to be worth its handing over; at most
0.6 s, to keep the largest cluster busy that a Dask scheduler with its 5 ms a task can."""

PART_FILES = 65536
PART_BYTES = 1 << 30
"""What fills a part: 19 hours of 16-bit 8 kHz, whose shard has 130 MB at 40 ms."""

CRASHED = "workers die on it, in a crash of its decoder or for want of memory"


class Task(NamedTuple):
    """A task with its recordings."""

    part: int
    number: int
    entries: list[Entry]


@dataclass(frozen=True)
class Part:
    """A part and what is left to do of it; nothing to do means that its records are there."""

    part: int
    tasks: tuple[TaskLine, ...]
    to_do: tuple[TaskLine, ...]
    done: bool


@dataclass(frozen=True)
class Plan:
    """The whole plan: its parts in order, and sizes for the progress."""

    parts: list[Part]
    n_recordings: int
    n_bytes: int
    n_bytes_done: int


def make_plan(
    store: Store, options: Options, listing: Listing, retry: Callable[[str], bool], *, force: bool
) -> Plan:
    """Bring the plan up to date with the recordings; return what is left to do.

    retry : whether a recording that failed before can be read now
    force : overwrite vector files that no plan knows

    Raises Codec2EqError if recordings of the corpus exist that are not in the listing, if a vector
    file would be overwritten that is not of this corpus, or if a shard would have to be made again
    without recordings that are gone; nothing is changed then.
    """
    planned = [Task(t.part, t.number, entries) for t, entries in store.read_plan()]
    _refuse_unnamed(store, options, listing, planned)
    fresh = _new_entries(store, options, listing, planned, force=force)
    review = _Review(store, options, listing, retry)
    groups = itertools.groupby(planned, key=lambda task: task.part)
    verdicts = [review.judge(part, list(group)) for part, group in groups]
    tasks: list[Task] = []
    done_parts = set()
    for verdict in verdicts:
        part, own, done = verdict.part, *review.settle(verdict)
        tasks += own
        if done:
            done_parts.add(part)
    tasks += cut(fresh, tasks[-1] if tasks else None)
    _clear_pieces(store, {task.number for task in tasks if task.part not in done_parts})
    if fresh:
        review.change()
    return _work(tasks, _write_plan(store, tasks), done_parts, review.whole_pieces)


def _clear_pieces(store: Store, current: set[int]) -> None:
    """Remove pieces that a run left behind when it was killed while it removed them."""
    for number, path in store.pieces():
        if number not in current:
            remove(path)


def _work(
    tasks: Sequence[Task], places: Sequence[TaskLine], done_parts: set[int], whole: set[int]
) -> Plan:
    parts = []
    to_do: set[int] = set()
    for part, group in itertools.groupby(places, key=lambda task: task.part):
        own = tuple(group)
        left = () if part in done_parts else tuple(t for t in own if t.number not in whole)
        to_do |= {task.number for task in left}
        parts.append(Part(part, own, left, part in done_parts))
    n_bytes = sum(entry.size for task in tasks for entry in task.entries)
    n_left = sum(e.size for task in tasks if task.number in to_do for e in task.entries)
    return Plan(parts, sum(len(task.entries) for task in tasks), n_bytes, n_bytes - n_left)


def _refuse_unnamed(
    store: Store, options: Options, listing: Listing, planned: Iterable[Task]
) -> None:
    """Raise Codec2EqError if the corpus has recordings that this run was not asked for."""
    paths = (
        os.path.join(options.base, entry.name)
        for task in planned
        for entry in task.entries
        if entry.name not in listing.stamps
    )
    unnamed = [path for path in paths if os.path.lexists(path) and not os.path.isdir(path)]
    if unnamed:
        more = f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else ""
        raise Codec2EqError(
            f"{store.root}: holds {unnamed[0]}{more}, not named this time; name all inputs of "
            "before (others may be added), or choose another output folder"
        )


class _Verdict(NamedTuple):
    """A part as it was found: its tasks, less what has gone if it is valid, and its records.

    records : of a valid part those that stay, None if all do; of one to be made again all
    """

    part: int
    tasks: list[Task]
    valid: bool
    records: list[Record] | None


class _Review:
    """Compares what was done with the recordings as they are, part by part."""

    def __init__(
        self, store: Store, options: Options, listing: Listing, retry: Callable[[str], bool]
    ) -> None:
        self.store = store
        self.base = options.base
        self.in_shards = options.layout == "shards"
        self.plain = options.format == "f32"
        self.stamps = listing.stamps
        self.retry = retry
        self.whole_pieces: set[int] = set()
        self.changed = False

    def judge(self, part: int, tasks: list[Task]) -> _Verdict:
        """Look at a part, and change nothing.

        Raises Codec2EqError if vectors would be lost: of recordings that are gone, in a shard that
        others in it force to be made again.
        """
        joined = self.store.read_records(self.store.part(part))
        if joined is None:
            return _Verdict(part, tasks, False, None)
        left = self._without_gone(tasks, joined)
        names = {entry.name for task in left for entry in task.entries}
        records = [record for record in joined if record.name in names]
        if self._joined_is_valid(part, left, records):
            return _Verdict(part, left, True, records if len(records) < len(joined) else None)
        if self.in_shards and os.path.exists(self.store.shard(part)):
            self._refuse_loss(part, records)
        return _Verdict(part, tasks, False, joined)

    def _refuse_loss(self, part: int, records: list[Record]) -> None:
        gone = [r.name for r in records if r.problem is None and r.name not in self.stamps]
        if gone:
            more = f" and {len(gone) - 1} more are" if len(gone) > 1 else " is"
            raise Codec2EqError(
                f"{self.store.shard(part)}: is to be made again, for recordings in it have changed "
                f"or it is damaged, but {os.path.join(self.base, gone[0])}{more} gone; bring back "
                "what is gone, choose another output folder, or pass -f to do without it"
            )

    def settle(self, verdict: _Verdict) -> tuple[list[Task], bool]:
        """Return the part's tasks without what has gone, and whether it is all done.

        Of a part that is not, the pieces of its tasks are left as far as they hold.
        """
        part, tasks, valid, records = verdict
        if valid:
            if records is not None:
                self.change()
                self.store.write_records(self.store.part(part), records)
            return tasks, True
        self.change()
        by_name = {record.name: record for record in records or ()}
        left = [self._settle_piece(task, by_name) for task in tasks]
        remove(self.store.part(part))
        if self.in_shards:
            remove(self.store.shard(part))
        return left, False

    def change(self) -> None:
        """Remove the manifest, before anything that it tells of goes."""
        if not self.changed:
            remove(self.store.path(MANIFEST_FILE))
        self.changed = True

    def _joined_is_valid(self, part: int, tasks: list[Task], records: list[Record]) -> bool:
        """Whether a finished part holds all that it should, and nothing outdated."""
        outputs = {entry.name: entry.output for task in tasks for entry in task.entries}
        if self.in_shards:
            n_bytes = sum(record.n_frames for record in records) * ROW_BYTES
            if _size(self.store.shard(part)) != n_bytes:
                return False
        return len(records) == len(outputs) and all(
            self._holds(record, outputs[record.name], joined=True) for record in records
        )

    def _settle_piece(self, task: Task, joined: Mapping[str, Record]) -> Task:
        """Leave a task's piece with what holds of it; return the task without what has gone."""
        path = self.store.piece(task.number, ".jsonl")
        vectors = self.store.piece(task.number, ".f32")
        if joined and not self.in_shards:
            records = [joined[entry.name] for entry in task.entries if entry.name in joined]
        else:
            records = self.store.read_records(path) or []
        outputs = {entry.name: entry.output for entry in task.entries}
        kept = [r for r in records if r.name in outputs and self._holds(r, outputs[r.name])]
        if self.in_shards:
            n_bytes = sum(record.n_frames for record in records) * ROW_BYTES
            if len(kept) < len(task.entries) or _size(vectors) != n_bytes:
                kept = []
        if kept:
            self.store.write_records(path, kept)
        else:
            remove(path)
            remove(vectors)
        (left,) = self._without_gone([task], kept)
        if kept and len(kept) == len(left.entries):
            self.whole_pieces.add(task.number)
        return left

    def _holds(self, record: Record, output: str, *, joined: bool = False) -> bool:
        """Whether a record is still true, and what it tells of still there."""
        stamp = self.stamps.get(record.name)
        if record.problem is not None:
            if stamp != record.stamp:
                return False
            if record.problem == CRASHED:
                return True
            # In a shard one recording cannot be done again without all others.
            return self.in_shards and not (joined and self.retry(record.name))
        if stamp is not None and stamp != record.stamp:
            return False
        if self.in_shards:
            return True
        size = _size(self.store.path(output))
        return size == record.n_frames * ROW_BYTES if self.plain else size is not None

    def _without_gone(self, tasks: Iterable[Task], records: Iterable[Record]) -> list[Task]:
        """Drop recordings that are gone and of which no vectors are there."""
        stays = {record.name for record in records if record.problem is None}
        return [
            task._replace(
                entries=[e for e in task.entries if e.name in self.stamps or e.name in stays]
            )
            for task in tasks
        ]


def _new_entries(
    store: Store, options: Options, listing: Listing, tasks: Sequence[Task], *, force: bool
) -> list[Entry]:
    """Plan entries for the recordings that are not in the plan yet."""
    planned = {entry.name for task in tasks for entry in task.entries}
    fresh = [name for name in listing.stamps if name not in planned]
    if options.layout == "shards":
        return [Entry(name, listing.stamps[name].size) for name in fresh]
    taken = {entry.output for task in tasks for entry in task.entries}
    outputs = name_outputs(fresh, f".{options.format}", taken)
    entries = [Entry(name, listing.stamps[name].size, outputs[name]) for name in fresh]
    for entry in entries:
        if not force and os.path.lexists(store.path(entry.output)):
            raise Codec2EqError(
                f"{store.path(entry.output)}: exists already and is not of this corpus; choose "
                "another output folder, or pass -f to overwrite it"
            )
    return entries


def name_outputs(names: Sequence[str], suffix: str, taken: set[str]) -> dict[str, str]:
    """Name the vector file of each recording: its suffix replaced, or kept where that is shared.

    ``a.wav`` becomes ``a.f32``; beside an ``a.flac`` they are ``a.wav.f32`` and ``a.flac.f32``.
    taken : names that files of earlier runs have
    """
    short = {name: os.path.splitext(name)[0] for name in names}
    shared = Counter(short.values())
    full = {n for n, s in short.items() if shared[s] > 1 or s + suffix in taken}
    while clash := {n for n, s in short.items() if n not in full and s in full}:
        full |= clash
    outputs = {name: (name if name in full else short[name]) + suffix for name in names}
    for name in full:
        if outputs[name] in taken:
            raise Codec2EqError(
                f"{name}: its vectors would be {outputs[name]}, which are another recording's; "
                "rename it"
            )
    return outputs


def cut(entries: Sequence[Entry], last: Task | None) -> Iterator[Task]:
    """Cut recordings into tasks, and these into parts, after the last task of a plan."""
    most_files = _within(len(entries) // TASKS, TASK_FILES)
    most_bytes = _within(sum(entry.size for entry in entries) // TASKS, TASK_BYTES)
    number, part = (last.number + 1, last.part + 1) if last else (0, 0)
    task: list[Entry] = []
    task_bytes = part_files = part_bytes = 0
    for entry in entries:
        task.append(entry)
        task_bytes += entry.size
        if len(task) < most_files and task_bytes < most_bytes:
            continue
        yield Task(part, number, task)
        number += 1
        part_files, part_bytes = part_files + len(task), part_bytes + task_bytes
        task, task_bytes = [], 0
        if part_files >= PART_FILES or part_bytes >= PART_BYTES:
            part, part_files, part_bytes = part + 1, 0, 0
    if task:
        yield Task(part, number, task)


def _within(value: int, bounds: tuple[int, int]) -> int:
    return min(max(value, bounds[0]), bounds[1])


def _write_plan(store: Store, tasks: Sequence[Task]) -> list[TaskLine]:
    """Write the plan; return the tasks with the places of their lines."""
    lines = []
    places = []
    position = 0
    for task in tasks:
        lines.append(
            json_line({"task": task.number, "part": task.part, "recordings": task.entries})
        )
        places.append(TaskLine(task.number, task.part, position))
        position += len(lines[-1])
    store.write(store.plan(), b"".join(lines))
    return places


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
