# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds what is left to do of a corpus, by comparing its records with the files on disk.

A corpus only grows. Planned recordings keep their places; those found later follow in parts of
their own. Anything changed, missing or damaged is done again. A recording that has been deleted
stays in the corpus if it was done, and is dropped if it was not.

An output that has not changed since its record was written counts as whole; otherwise its digest is
compared.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from codec2_eq.corpus.containers import CONTAINERS, LEVEL_ROW_BYTES, LEVELS_PIECE_SUFFIX
from codec2_eq.corpus.digests import content_of, spans_hold
from codec2_eq.corpus.entries import Entry, Record, TaskLine
from codec2_eq.corpus.listing import Listing
from codec2_eq.corpus.options import Options
from codec2_eq.corpus.plan import (
    CRASHED,
    Part,
    Plan,
    Task,
    cut,
    group_parts,
    levels_name,
    new_entries,
    part_name,
    read_plan,
    refuse_existing,
    renewed,
    write_plan,
)
from codec2_eq.corpus.store import MANIFEST_FILE, Store, remove
from codec2_eq.errors import Codec2EqError
from codec2_eq.system import core_count, sync_path


def make_plan(
    store: Store,
    options: Options,
    listing: Listing,
    retry: Callable[[Entry], bool],
    *,
    own: bool,
    check_content: bool,
) -> Plan:
    """Bring the plan up to date with the recordings; return what is left to do.

    retry : whether a recording that failed before can be read now
    own : overwrite vector files that no plan knows
    check_content : compare what recordings and outputs hold, not only their sizes and times

    Raises Codec2EqError if recordings of the corpus exist that are not in the listing, if a vector
    file would be overwritten that is not of this corpus, or if a shard would have to be made again
    without recordings that are gone; nothing is changed then.
    """
    planned = read_plan(store, options)
    damaged = planned is None
    if planned is None:  # its outputs are ours, wherever a plan of today has them
        planned = list(cut(new_entries(store, options, listing, [], own=True), None))
    _refuse_unnamed(store, options, listing, planned)
    planned, renamed = renewed(options, listing, planned)
    fresh = new_entries(store, options, listing, planned, own=own or damaged)
    added = list(cut(fresh, planned[-1] if planned else None))
    if not options.is_tree and not own:
        for part in {task.part for task in added}:
            refuse_existing(store.path(part_name(options, part)))
    outdated = {
        entry.name
        for task in planned
        for entry in task.entries
        if entry.name in renamed and not _same_bytes(options, renamed[entry.name], entry)
    }
    review = _Review(store, options, listing, retry, outdated, check_content=check_content)
    verdicts = [review.judge(part, tasks) for part, tasks in group_parts(planned)]
    if damaged or added or renamed:
        review.change()
    tasks: list[Task] = []
    done = set()
    for verdict in verdicts:
        left, is_done = review.settle(verdict)
        tasks += left
        if is_done:
            done.add(verdict.part)
    tasks += added
    _clear_rest(store, tasks, done)
    return _plan(tasks, write_plan(store, options, tasks), done, review.whole_pieces)


def _same_bytes(options: Options, old: Entry, new: Entry) -> bool:
    """Whether an entry's vectors and what surrounds them are the same with another origin."""
    if options.layout == "webdataset":  # where a member states the origin
        return False
    speakers = (old.origin.speaker, new.origin.speaker) if options.speakers else ("", "")
    origin = old.origin._replace(id=new.origin.id, speaker=new.origin.speaker)
    return speakers[0] == speakers[1] and (origin, old.output) == (new.origin, new.output)


def _clear_rest(store: Store, tasks: Sequence[Task], done: set[int]) -> None:
    """Remove pieces that a killed run was about to remove, and records of parts no more planned."""
    current = {task.number for task in tasks if task.part not in done}
    for number, path in store.pieces():
        if number not in current:
            remove(path)
    parts = {store.part(task.part) for task in tasks}
    folder = os.path.dirname(store.part(0))
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.removesuffix(".jsonl").isdecimal() and path not in parts:
            remove(path)


def _plan(
    tasks: Sequence[Task], places: Sequence[TaskLine], done: set[int], whole: set[int]
) -> Plan:
    parts = []
    to_do: set[int] = set()
    for part, group in itertools.groupby(places, key=lambda line: line.part):
        own = tuple(group)
        left = () if part in done else tuple(t for t in own if t.number not in whole)
        to_do |= {line.number for line in left}
        parts.append(Part(part, own, left, part in done))
    n_bytes = sum(entry.size for task in tasks for entry in task.entries)
    n_left = sum(e.size for task in tasks if task.number in to_do for e in task.entries)
    return Plan(parts, n_bytes, n_bytes - n_left)


def _refuse_unnamed(
    store: Store, options: Options, listing: Listing, planned: Iterable[Task]
) -> None:
    """Raise Codec2EqError if the corpus has recordings that this run was not asked for."""
    paths = (
        os.path.join(options.base, entry.path)
        for task in planned
        for entry in task.entries
        if entry.name not in listing.stamps
    )
    unnamed = [path for path in paths if os.path.lexists(path) and not os.path.isdir(path)]
    if unnamed:
        more = f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else ""
        raise Codec2EqError(
            store.root,
            f"holds {unnamed[0]}{more}, not named this time",
            "name all earlier inputs again (others may be added), or choose another output folder",
        )


class _Verdict(NamedTuple):
    """A part as it was found: its tasks, less what has gone if it is valid, and its records.

    records : of a valid part those that stay, None if all do; of one to be made again all
    since_ns : when the records were written
    """

    part: int
    tasks: list[Task]
    valid: bool
    records: list[Record] | None
    since_ns: int = 0


class _Review:
    """Compares records with recordings and outputs, part by part.

    outdated : names of recordings whose vectors depend on what a list said of them before
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        listing: Listing,
        retry: Callable[[Entry], bool],
        outdated: set[str],
        *,
        check_content: bool,
    ) -> None:
        self.store = store
        self.options = options
        self.stamps = listing.stamps
        self.retry = retry
        self.check_content = check_content
        self.outdated = outdated
        self.whole_pieces: set[int] = set()
        self.changed = False
        self._contents: dict[str, str] = {}

    def judge(self, part: int, tasks: list[Task]) -> _Verdict:
        """Look at a part, and change nothing but the time of its records.

        Raises Codec2EqError if vectors would be lost: of recordings that are gone, in a shard that
        others in it force to be made again.
        """
        path = self.store.part(part)
        joined = self.store.read_records(path)
        if self.check_content:
            self._read_contents(tasks)
        if joined is None:
            return _Verdict(part, tasks, False, None)
        since_ns = _changed_ns(path)
        left = self._without_gone(tasks, joined)
        names = {entry.name for task in left for entry in task.entries}
        records = [record for record in joined if record.name in names]
        if self._joined_is_valid(part, left, records, joined, since_ns):
            return _Verdict(part, left, True, records if len(records) < len(joined) else None)
        if not self.options.is_tree and os.path.exists(self._file(part)):
            self._refuse_loss(part, records)
        return _Verdict(part, tasks, False, joined, since_ns)

    def _file(self, part: int) -> str:
        return self.store.path(part_name(self.options, part))

    def _read_contents(self, tasks: Iterable[Task]) -> None:
        names = {e.name: e.path for t in tasks for e in t.entries if e.name in self.stamps}
        paths = [os.path.join(self.options.base, path) for path in names.values()]
        with ThreadPoolExecutor(core_count()) as pool:
            self._contents = dict(zip(names, pool.map(content_of, paths), strict=True))

    def _refuse_loss(self, part: int, records: list[Record]) -> None:
        gone = [r.name for r in records if r.problem is None and r.name not in self.stamps]
        if gone:
            more = f" and {len(gone) - 1} more are" if len(gone) > 1 else " is"
            raise Codec2EqError(
                self._file(part),
                "has to be made again, as recordings in it have changed or it is "
                f"damaged, but {os.path.join(self.options.base, gone[0])}{more} gone",
                "restore what is gone, choose another output folder, or pass -f to do without it",
            )

    def settle(self, verdict: _Verdict) -> tuple[list[Task], bool]:
        """Return the part's tasks without what has gone, and whether it is all done.

        Of a part that is not, the pieces of its tasks are left as far as they hold.
        """
        part, tasks, valid, records, since_ns = verdict
        if valid:
            if records is not None:
                self.change()
                self.store.write_records(self.store.part(part), records)
            return tasks, True
        self.change()
        by_name = {record.name: record for record in records or ()}
        left = [self._settle_piece(task, by_name, since_ns) for task in tasks]
        remove(self.store.part(part))
        if not self.options.is_tree and records is not None:
            remove(self._file(part))
        return left, False

    def change(self) -> None:
        """Remove the manifest before anything that it lists."""
        if not self.changed and os.path.lexists(self.store.path(MANIFEST_FILE)):
            remove(self.store.path(MANIFEST_FILE))
            sync_path(self.store.root)
        self.changed = True

    def _joined_is_valid(
        self,
        part: int,
        tasks: list[Task],
        records: list[Record],
        joined: list[Record],
        since_ns: int,
    ) -> bool:
        """Whether a finished part holds all that it should, and nothing outdated.

        records : those of the joined ones whose recordings are still planned
        """
        entries = {entry.name: entry for task in tasks for entry in task.entries}
        if len(records) != len(entries):
            return False
        if not self.options.is_tree and not self._file_holds(part, joined, since_ns):
            return False
        holds = functools.partial(self._holds, since_ns=since_ns, joined=True)
        return all(holds(record, entries[record.name]) for record in records)

    def _file_holds(self, part: int, records: list[Record], since_ns: int) -> bool:
        """Whether a part's file is as it was made; records : all, also of recordings gone."""
        files = [self._file(part)]
        sizes = [sum(r.n_bytes for r in records) + len(CONTAINERS[self.options.layout].end)]
        if self.options.records:
            files.append(self.store.path(levels_name(part)))
            sizes.append(sum(r.n_frames for r in records) * LEVEL_ROW_BYTES)
        if [_size(path) for path in files] != sizes:
            return False
        if not self.check_content and max(map(_changed_ns, files)) <= since_ns:
            return True
        if not spans_hold(records, *files):
            return False
        os.utime(self.store.part(part))
        return True

    def _settle_piece(self, task: Task, joined: Mapping[str, Record], since_ns: int) -> Task:
        """Leave a task's piece with what holds of it; return the task without what has gone."""
        path = self.store.piece(task.number, ".jsonl")
        if joined and self.options.is_tree:
            records = [joined[entry.name] for entry in task.entries if entry.name in joined]
        else:
            records = self.store.read_records(path) or []
            since_ns = _changed_ns(path) if records else 0
        entries = {entry.name: entry for entry in task.entries}
        kept = [
            r
            for r in records
            if r.name in entries and self._holds(r, entries[r.name], since_ns=since_ns)
        ]
        if not self.options.is_tree and (
            len(kept) < len(task.entries) or not self._piece_holds(task.number, records, since_ns)
        ):
            kept = []
        if kept:
            self.store.write_records(path, kept)
        else:
            for path in self.store.piece_files(task.number):
                remove(path)
        (left,) = self._without_gone([task], kept)
        if kept and len(kept) == len(left.entries):
            self.whole_pieces.add(task.number)
        return left

    def _piece_holds(self, number: int, records: Sequence[Record], since_ns: int) -> bool:
        files = [self.store.piece(number, CONTAINERS[self.options.layout].suffix)]
        sizes = [sum(r.n_bytes for r in records)]
        if self.options.records:
            files.append(self.store.piece(number, LEVELS_PIECE_SUFFIX))
            sizes.append(sum(r.n_frames for r in records) * LEVEL_ROW_BYTES)
        if [_size(path) for path in files] != sizes:
            return False
        untouched = not self.check_content and max(map(_changed_ns, files)) <= since_ns
        return untouched or spans_hold(records, *files)

    def _holds(self, record: Record, entry: Entry, *, since_ns: int, joined: bool = False) -> bool:
        """Whether a record still holds and its output is still there."""
        stamp = self.stamps.get(record.name)
        if record.name in self.outdated:
            return False
        if record.problem is not None:
            if stamp != record.stamp:
                return False
            if record.problem == CRASHED:
                return True
            # In a shard one recording cannot be done again without all others.
            return not self.options.is_tree and not (joined and self.retry(entry))
        if stamp is not None and stamp != record.stamp:
            return False
        if self.check_content and self._contents.get(record.name, record.content) != record.content:
            return False
        return not self.options.is_tree or self._output_holds(record, entry.output, since_ns)

    def _output_holds(self, record: Record, output: str, since_ns: int) -> bool:
        path = self.store.path(output)
        try:
            found = os.stat(path)
        except OSError:
            return False
        if found.st_size != record.n_bytes:
            return False
        changed_ns = max(found.st_mtime_ns, found.st_ctime_ns)
        if changed_ns <= since_ns and not self.check_content:
            return True
        return spans_hold([record], path)

    def _without_gone(self, tasks: Iterable[Task], records: Iterable[Record]) -> list[Task]:
        """Drop deleted recordings without vectors."""
        stays = {record.name for record in records if record.problem is None}
        return [
            task._replace(
                entries=[e for e in task.entries if e.name in self.stamps or e.name in stays]
            )
            for task in tasks
        ]


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _changed_ns(path: str) -> int:
    """Time at which a file was last written or renamed, ns."""
    found = os.stat(path)
    return max(found.st_mtime_ns, found.st_ctime_ns)
