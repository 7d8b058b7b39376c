# SPDX-License-Identifier: LGPL-2.1-or-later
"""The plan of a corpus: utterances cut into tasks and parts.

A worker does a task in one go; it holds enough recordings to be worth handing over. A part is a run
of tasks with one large file and one file of records. The cuts depend on the recordings alone, and
the plan is on disk before the work begins. So the same recordings give the same files in the same
order, for any number of workers and interruptions.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from codec2_eq.corpus.containers import CONTAINERS, LEVELS_SUFFIX, key_of
from codec2_eq.corpus.digests import sealed, unsealed
from codec2_eq.corpus.entries import Entry, TaskLine
from codec2_eq.corpus.listing import Listing, Origin
from codec2_eq.corpus.options import Options, options_fields
from codec2_eq.corpus.store import (
    HIDDEN_FOLDER,
    MANIFEST_FILE,
    NO_LINK,
    OPTIONS_FILE,
    Store,
    json_line,
    remove,
)
from codec2_eq.errors import Codec2EqError
from codec2_eq.system import BINARY, sync_path

TASKS = 512
"""Tasks that a corpus is cut into, as far as their bounds allow: enough to be shared out evenly."""

TASK_FILES = (128, 2048)
TASK_BYTES = (4 << 20, 64 << 20)
"""Bounds of what fills a task: at least about 0.05 s of work, to be worth its handing over; at most
0.6 s, to keep the largest cluster busy that a Dask scheduler with its 5 ms a task can."""

PART_FILES = 65536
PART_BYTES = 1 << 30
"""What fills a part: 19 hours of 16-bit 8 kHz, whose shard has 130 MB at 40 ms."""

_HIDDEN_NAME = re.compile(r"([0-9]{5,}|[0-9a-f]{32})\.(jsonl|json|npz|f32|ark|tar|levels)")

CRASHED = "workers die on it, in a crash of its decoder or for want of memory"


class Task(NamedTuple):
    """A task with its recordings."""

    part: int
    number: int
    entries: list[Entry]


@dataclass(frozen=True)
class Part:
    """A part and what is left to do of it; done means that its records are there."""

    part: int
    tasks: tuple[TaskLine, ...]
    to_do: tuple[TaskLine, ...]
    done: bool


@dataclass(frozen=True)
class Plan:
    """The whole plan: its parts in order, and sizes for the progress."""

    parts: list[Part]
    n_bytes: int
    n_bytes_done: int


def part_name(options: Options, part: int) -> str:
    """Name of a part's file in the layouts that have one."""
    return f"part-{part:05d}{CONTAINERS[options.layout].suffix}"


def levels_name(part: int) -> str:
    """Name of the file with the level and pitch of a shard."""
    return f"part-{part:05d}{LEVELS_SUFFIX}"


# The plan on disk


def read_plan(store: Store, options: Options) -> list[Task] | None:
    """Read the tasks in order, none if there is no plan; None if it is damaged."""
    data = store.read(store.plan())
    if data is None:
        return None if os.path.lexists(store.plan()) else []
    try:
        tasks = [_parse_task(line) for line in unsealed(data).splitlines()[1:]]
    except (ValueError, RecursionError):
        return None
    numbers = [task.number for task in tasks]
    parts = [task.part for task in tasks]
    ordered = numbers == sorted(set(numbers)) and parts == sorted(parts)
    return tasks if ordered and (not options.is_tree or _have_own_files(tasks, options)) else None


def _have_own_files(tasks: Sequence[Task], options: Options) -> bool:
    """Whether each recording has a vector file of its own."""
    outputs = [entry.output for task in tasks for entry in task.entries]
    suffix = f".{options.format}"
    return len(set(outputs)) == len(outputs) and all(name.endswith(suffix) for name in outputs)


def read_task(store: Store, line: TaskLine) -> list[Entry]:
    """Read the recordings of one task."""
    descriptor = os.open(store.plan(), os.O_RDONLY | NO_LINK | BINARY)
    with open(descriptor, "rb") as handle:
        handle.seek(line.position)
        return _parse_task(handle.readline()).entries


def write_plan(store: Store, options: Options, tasks: Sequence[Task]) -> list[TaskLine]:
    """Write the plan; return the places of the tasks in it."""
    lines = [json_line({"options": options_fields(options)})]
    places = []
    position = len(lines[0])
    for task in tasks:
        recordings = [_fields(entry) for entry in task.entries]
        lines.append(json_line({"task": task.number, "part": task.part, "recordings": recordings}))
        places.append(TaskLine(task.number, task.part, position))
        position += len(lines[-1])
    store.write(store.plan(), sealed(b"".join(lines)))
    return places


def _fields(entry: Entry) -> list[Any]:
    plain = entry.origin == Origin()
    return [entry.name, entry.size, entry.output] + ([] if plain else [list(entry.origin)])


def _parse_task(line: bytes) -> Task:
    """Parse a line of the plan; raise ValueError if it is none."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("no task")
    number, part, recordings = (fields.get(name) for name in ("task", "part", "recordings"))
    if type(number) is not int or type(part) is not int or not isinstance(recordings, list):
        raise ValueError("no task")
    return Task(part, number, [_parse_entry(values) for values in recordings])


_ORIGIN_KINDS: tuple[Any, ...] = (
    str,
    (int, float),
    (int, float, type(None)),
    (str, type(None)),
    (str, type(None)),
)

_NOT_OURS_TO_WRITE = ("..", HIDDEN_FOLDER)


@functools.lru_cache(maxsize=1024)
def leads_elsewhere(path: str) -> bool:
    """Whether a path within a corpus is outside of it, or among the files for the next run."""
    drive, rest = os.path.splitdrive(path)
    parts = rest.replace(os.path.altsep or os.path.sep, os.path.sep).split(os.path.sep)
    outside = bool(drive) or (parts[0] == "" and rest != "")
    return outside or not set(_NOT_OURS_TO_WRITE).isdisjoint(parts)


def _is_ours_to_write(output: str) -> bool:
    folder, file = os.path.split(output)
    return file not in _NOT_OURS_TO_WRITE and not leads_elsewhere(folder)


def _parse_entry(values: Any) -> Entry:
    if type(values) is not list or tuple(map(type, values[:3])) != (str, int, str):
        raise ValueError("no recording")
    name, size, output = values[:3]
    if not _is_ours_to_write(output):
        raise ValueError("an output elsewhere")
    if len(values) == 3:
        return Entry(name, size, output)
    origin = values[3] if len(values) == 4 else None
    if not isinstance(origin, list) or len(origin) != len(_ORIGIN_KINDS):
        raise ValueError("no origin")
    if not all(isinstance(v, kind) for v, kind in zip(origin, _ORIGIN_KINDS, strict=True)):
        raise ValueError("an origin with values of other types")
    return Entry(name, size, output, Origin(*origin))


def discard(store: Store, options: Options | None) -> None:
    """Remove the files of the corpus by its plan and records, and no other file.

    The manifest goes first: while it is there, so are the vectors.
    """
    remove(store.path(MANIFEST_FILE))
    sync_path(store.root)
    if options is not None:
        tasks = read_plan(store, options) or []  # a damaged one names nothing
        if options.is_tree:
            for entry in itertools.chain.from_iterable(task.entries for task in tasks):
                remove(store.confined(entry.output))
        else:
            for part in {task.part for task in tasks}:
                remove(store.path(part_name(options, part)))
                remove(store.path(levels_name(part)))
    remove(store.path(OPTIONS_FILE))
    clear_hidden(store)


def clear_hidden(store: Store) -> None:
    """Remove plan, records, pieces and first passes; files of others stay."""
    remove(store.plan())
    for folder in ("parts", "tasks", "speakers"):
        path = os.path.join(store.hidden, folder)
        for name in os.listdir(path):
            if _HIDDEN_NAME.fullmatch(name):
                remove(os.path.join(path, name))


# New entries


def new_entries(
    store: Store, options: Options, listing: Listing, tasks: Sequence[Task], *, own: bool
) -> list[Entry]:
    """Plan entries for the recordings that are not in the plan yet.

    own : what lies where they go may be overwritten
    Raises Codec2EqError otherwise if a file is there.
    """
    planned = {entry.name for task in tasks for entry in task.entries}
    fresh = [name for name in listing.stamps if name not in planned]
    taken = {entry.output for task in tasks for entry in task.entries}
    if options.is_tree:
        outputs = name_outputs(fresh, f".{options.format}", taken)
    elif options.layout == "shards":
        outputs = dict.fromkeys(fresh, "")
    else:
        outputs = _keys(options.layout, fresh, listing.origins, taken)
    entries = [
        Entry(name, listing.stamps[name].size, outputs[name], listing.origins.get(name, Origin()))
        for name in fresh
    ]
    if options.is_tree and not own and store.has_files():
        for entry in entries:
            refuse_existing(store.path(entry.output))
    return entries


def renewed(
    options: Options, listing: Listing, tasks: Sequence[Task]
) -> tuple[list[Task], dict[str, Entry]]:
    """Bring planned entries up to date with what lists say of them now.

    Returns the tasks, and the earlier entries that differ, by name. What no list describes any
    more stays as it was described.
    """
    old = {
        entry.name: entry
        for task in tasks
        for entry in task.entries
        if listing.origins.get(entry.name, entry.origin) != entry.origin
    }
    if not old:
        return list(tasks), old
    keys = {name: entry.output for name, entry in old.items()}
    if not options.is_tree and options.layout != "shards":
        taken = {entry.output for task in tasks for entry in task.entries if entry.name not in old}
        keys = _keys(options.layout, list(old), listing.origins, taken)
    new = {
        name: entry._replace(origin=listing.origins[name], output=keys[name])
        for name, entry in old.items()
    }
    return [
        task._replace(entries=[new.get(entry.name, entry) for entry in task.entries])
        for task in tasks
    ], old


def refuse_existing(path: str) -> None:
    """Raise Codec2EqError if a file is there: it is none of ours."""
    if os.path.lexists(path):
        raise Codec2EqError(
            path,
            "exists already and is not of this corpus",
            "choose another output folder, or pass -f to overwrite it",
        )


def _keys(layout: str, names: Sequence[str], origins: Any, taken: set[str]) -> dict[str, str]:
    keys = {}
    seen = set(taken)
    stems = name_outputs(names, "", set())
    for name in names:
        key = key_of(layout, getattr(origins.get(name), "id", None) or stems[name])
        if key.endswith("/") or not _is_ours_to_write(key):  # as an id may be
            key = "_" + key.replace("/", "_")
        if key in seen:
            raise Codec2EqError(name, f"its key would be {key}, another's", "rename it")
        seen.add(key)
        keys[name] = key
    return keys


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
                name,
                f"its vectors would be {outputs[name]}, which are another recording's",
                "rename it",
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


def group_parts(tasks: Sequence[Task]) -> Iterator[tuple[int, list[Task]]]:
    """Yield the parts with their tasks."""
    for part, group in itertools.groupby(tasks, key=lambda task: task.part):
        yield part, list(group)
