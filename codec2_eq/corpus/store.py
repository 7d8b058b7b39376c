# SPDX-License-Identifier: LGPL-2.1-or-later
"""The output folder of a corpus on disk.

For the user: the vectors, ``corpus.json`` (how they were made) and ``manifest.jsonl`` (what they
are, one object an utterance). The manifest is there if and only if the corpus is complete.

For the next run, in the folder ``.codec2-eq``: ``plan.jsonl``, a line for each task; ``tasks/``,
the pieces that finished tasks have left; ``parts/``, the records of parts whose tasks are all done
and whose pieces are joined; ``new/``, files in the making, of no use to anyone else; ``lock``.

All files appear by renaming. A piece's records appear after its vectors, a part's records after its
shard: records tell that all is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from codec2_eq.codec2 import K
from codec2_eq.corpus.listing import Stamp
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_error, write_error
from codec2_eq.system import host_name, replace_file

FORMAT = "codec2_eq corpus"
HIDDEN_FOLDER = ".codec2-eq"
OPTIONS_FILE = "corpus.json"
MANIFEST_FILE = "manifest.jsonl"

ROW_BYTES = 4 * K

LOCK_PATIENCE_S = 2.0
"""How long the workers of a run that was killed may take to follow it."""


@dataclass(frozen=True)
class Options:
    """All that the numbers and names in a corpus depend on, besides the recordings."""

    base: str
    model: str
    model_sha256: str
    frame_ms: int
    layout: str
    format: str
    channel: str
    raw: bool
    version: str
    knots: str = "pick"


class Entry(NamedTuple):
    """A recording in the plan: name relative to the base, bytes, and its file in layout tree."""

    name: str
    size: int
    output: str = ""


class TaskLine(NamedTuple):
    """Where a task stands in the plan; `position` is where its line begins."""

    number: int
    part: int
    position: int


class Record(NamedTuple):
    """What has become of a recording, and the stamp that the recording had."""

    name: str
    size: int
    mtime_ns: int
    n_samples: int
    n_frames: int
    problem: str | None = None
    remedy: str = ""
    warning: str | None = None

    @property
    def stamp(self) -> Stamp:
        """Stamp of the recording when it was read."""
        return Stamp(self.size, self.mtime_ns)

    @property
    def error(self) -> str:
        """What went wrong, as the manifest tells it."""
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem or ""


class Store:
    """The output folder: where each thing is, and how it is read and written."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.hidden = os.path.join(self.root, HIDDEN_FOLDER)
        self.new = os.path.join(self.hidden, "new")

    # Paths

    def path(self, name: str) -> str:
        """Path of a file for the user."""
        return os.path.join(self.root, name)

    def shard(self, part: int) -> str:
        """Path of the vectors of a part in layout shards."""
        return self.path(shard_name(part))

    def plan(self) -> str:
        """Path of the plan."""
        return os.path.join(self.hidden, "plan.jsonl")

    def piece(self, task: int, suffix: str) -> str:
        """Path of what a finished task has left: ``.jsonl`` records, ``.f32`` vectors."""
        return os.path.join(self.hidden, "tasks", f"{task:08d}{suffix}")

    def pieces(self) -> list[tuple[int, str]]:
        """Task numbers and paths of all pieces that are there."""
        folder = os.path.join(self.hidden, "tasks")
        return [
            (int(name.split(".")[0]), os.path.join(folder, name)) for name in os.listdir(folder)
        ]

    def part(self, part: int) -> str:
        """Path of the records of a finished part."""
        return os.path.join(self.hidden, "parts", f"{part:05d}.jsonl")

    def draft(self, suffix: str = "") -> str:
        """Path for a new file in the making."""
        return os.path.join(self.new, os.urandom(8).hex() + suffix)

    # The folder as a whole

    def create(self) -> None:
        """Make the folders; raise Codec2EqError if that cannot be."""
        try:
            for name in ("new", "tasks", "parts"):
                os.makedirs(os.path.join(self.hidden, name), exist_ok=True)
        except OSError as error:
            raise write_error(self.root, error) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out and drafts of before; begin and end without any.

        Raises Codec2EqError if another run holds the lock.
        """
        import filelock

        lock = filelock.FileLock(os.path.join(self.hidden, "lock"))
        holder = os.path.join(self.new, "holder")
        try:
            held = lock.acquire(timeout=LOCK_PATIENCE_S)
        except filelock.Timeout as error:
            with contextlib.suppress(FileNotFoundError), open(holder) as handle:
                raise self._in_use(handle.read()) from error
            raise self._in_use("just ending") from error
        except OSError as error:
            raise write_error(lock.lock_file, error) from error
        with held:
            self.clear_drafts()
            with open(holder, "w") as handle:
                handle.write(f"process {os.getpid()} on {host_name()}")
            try:
                yield
            finally:
                self.clear_drafts()

    def _in_use(self, holder: str) -> Codec2EqError:
        return Codec2EqError(
            f"{self.root}: another run is at work there ({holder}); wait for it, or choose another "
            "output folder"
        )

    def clear_drafts(self) -> None:
        """Remove what those who were killed had in the making."""
        for name in os.listdir(self.new):
            remove(os.path.join(self.new, name))

    def discard(self) -> None:
        """Remove the corpus: what its plan and its shards hold, no other file.

        The manifest goes first: while it is there, so are the vectors.
        """
        remove(self.path(MANIFEST_FILE))
        parts = {int(name.split(".")[0]) for name in os.listdir(os.path.join(self.hidden, "parts"))}
        with contextlib.suppress(Codec2EqError):  # what a damaged plan told of is left
            for task, entries in self.read_plan():
                parts.add(task.part)
                for entry in entries:
                    if entry.output:
                        remove(self.path(entry.output))
        for part in parts:
            remove(self.shard(part))
            remove(self.part(part))
        remove(self.path(OPTIONS_FILE))
        remove(self.plan())
        shutil.rmtree(os.path.join(self.hidden, "tasks"), ignore_errors=True)
        self.create()

    # Options

    def read_options(self) -> Options | None:
        """Read how the corpus was made; None if there is none."""
        path = self.path(OPTIONS_FILE)
        try:
            with open(path, encoding="utf-8") as handle:
                fields = json.load(handle)
            if fields.pop("kind") != FORMAT:
                raise ValueError("of another kind")
            return Options(**fields)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise read_error(path, error) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Codec2EqError(
                f"{path}: does not describe a corpus of this version ({error}); choose another "
                "folder, or remove this one"
            ) from error

    def write_options(self, options: Options) -> None:
        """Write how the corpus is made."""
        text = json.dumps({"kind": FORMAT, **asdict(options)}, indent=1) + "\n"
        self.write(self.path(OPTIONS_FILE), text.encode())

    # Plan and records

    def read_plan(self) -> Iterator[tuple[TaskLine, list[Entry]]]:
        """Yield the tasks in order, with their recordings; none if there is no plan.

        Raises Codec2EqError if it is damaged.
        """
        try:
            with open(self.plan(), "rb") as handle:
                position = 0
                for line in handle:
                    try:
                        yield parse_task(line, position)
                    except (ValueError, TypeError, KeyError) as error:
                        raise Codec2EqError(
                            f"{self.plan()}: damaged ({error}); make the corpus anew with -f"
                        ) from error
                    position += len(line)
        except FileNotFoundError:
            return

    def read_task(self, task: TaskLine) -> list[Entry]:
        """Read the recordings of one task."""
        with open(self.plan(), "rb") as handle:
            handle.seek(task.position)
            return parse_task(handle.readline(), task.position)[1]

    def read_records(self, path: str) -> list[Record] | None:
        """Read the records of a piece or a part; None if there are none, or they are damaged."""
        try:
            with open(path, "rb") as handle:
                return [Record(*json.loads(line)) for line in handle]
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write_records(self, path: str, records: Iterable[Record]) -> None:
        """Write the records of a piece or a part."""
        self.write(path, b"".join(json_line(record) for record in records))

    def write(self, path: str, data: bytes) -> None:
        """Write a file that appears whole; raise Codec2EqError if it cannot be."""
        draft = self.draft()
        try:
            with open(draft, "wb", buffering=0) as handle:
                view = memoryview(data)
                while view:
                    view = view[handle.write(view) :]
            replace_file(draft, path)
        except OSError as error:
            remove(draft)
            raise write_error(path, error) from error


def parse_task(line: bytes, position: int) -> tuple[TaskLine, list[Entry]]:
    """Parse a line of the plan."""
    fields = json.loads(line)
    entries = [Entry(*entry) for entry in fields["recordings"]]
    return TaskLine(fields["task"], fields["part"], position), entries


def json_line(value: Any) -> bytes:
    """Return a value as a line of JSON in ASCII, so that names in any encoding survive."""
    return json.dumps(value).encode("ascii") + b"\n"


def shard_name(part: int) -> str:
    """Name of a shard's file."""
    return f"part-{part:05d}.f32"


def remove(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
