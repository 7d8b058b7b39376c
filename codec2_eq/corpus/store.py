# SPDX-License-Identifier: LGPL-2.1-or-later
"""The output folder of a corpus on disk.

For the user: the vectors, ``corpus.json`` (how they were made) and ``manifest.jsonl`` (one object
per utterance). The manifest exists if and only if the corpus is complete.

For the next run, in the folder ``.codec2-eq``: ``plan.jsonl``, a line for each task; ``tasks/``,
the pieces of finished tasks; ``parts/``, the records of parts whose tasks are all done and whose
pieces are joined; ``speakers/``, what first passes have learnt; ``new/``, unfinished files;
``lock``. Anything else there is not ours and is left alone.

All files appear by renaming, once their data are on the disk. A piece's records appear after its
vectors and a part's records after its shard, so that records prove that their data are there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from codec2_eq.codec2 import K
from codec2_eq.corpus.containers import CONTAINERS, LEVELS_PIECE_SUFFIX
from codec2_eq.corpus.digests import sealed, unsealed
from codec2_eq.corpus.entries import Record
from codec2_eq.corpus.options import Options, options_text, parse_options
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_error, write_error
from codec2_eq.system import BINARY, host_name, replace_file, sync_path, sync_together

HIDDEN_FOLDER = ".codec2-eq"
OPTIONS_FILE = "corpus.json"
MANIFEST_FILE = "manifest.jsonl"

ROW_BYTES = 4 * K

LOCK_PATIENCE_S = 2.0
"""How long the workers of a killed run may take to end."""

NO_LINK = getattr(os, "O_NOFOLLOW", 0)

_FOLDERS = ("new", "tasks", "parts", "speakers")
_DRAFT_NAME = re.compile(r"[0-9a-f]{16}(\.\w+)?|\d{8}\.at|\.codec2-eq-.*\.part|holder")
_PIECE_NAME = re.compile(r"(\d{8})\.\w+")


class Store:
    """The output folder: where each thing is, and how it is read and written."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.hidden = os.path.join(self.root, HIDDEN_FOLDER)
        self.new = os.path.join(self.hidden, "new")
        self._prefix = os.path.join(self.root, "")

    # Paths

    def path(self, name: str) -> str:
        """Path of a file for the user."""
        return self._prefix + name

    def confined(self, name: str) -> str:
        """Path of a file for the user; raise Codec2EqError if a link leads it out of the folder."""
        path = os.path.join(self.root, name)
        root = os.path.realpath(self.root)
        folder = os.path.realpath(os.path.dirname(path))
        if folder != root and not folder.startswith(os.path.join(root, "")):
            raise Codec2EqError(
                os.path.dirname(path), "leads out of the output folder by a link", "remove the link"
            )
        return path

    def has_files(self) -> bool:
        """Whether there is anything for the user besides how the corpus is made."""
        return not {HIDDEN_FOLDER, OPTIONS_FILE}.issuperset(os.listdir(self.root))

    def plan(self) -> str:
        """Path of the plan."""
        return os.path.join(self.hidden, "plan.jsonl")

    def piece(self, task: int, suffix: str) -> str:
        """Path of a file of a finished task: ``.jsonl`` records, or its vectors in parts."""
        return os.path.join(self.hidden, "tasks", f"{task:08d}{suffix}")

    def pieces(self) -> list[tuple[int, str]]:
        """Task numbers and paths of all pieces that are there."""
        folder = os.path.join(self.hidden, "tasks")
        names = [_PIECE_NAME.fullmatch(name) for name in os.listdir(folder)]
        return [(int(name[1]), os.path.join(folder, name[0])) for name in names if name]

    def piece_files(self, task: int) -> list[str]:
        """Paths of all files that a finished task may have."""
        vectors = (container.suffix for container in CONTAINERS.values())
        return [self.piece(task, suffix) for suffix in (".jsonl", LEVELS_PIECE_SUFFIX, *vectors)]

    def part(self, part: int) -> str:
        """Path of the records of a finished part."""
        return os.path.join(self.hidden, "parts", f"{part:05d}.jsonl")

    def draft(self, suffix: str = "") -> str:
        """Path for a new file in the making."""
        return os.path.join(self.new, os.urandom(8).hex() + suffix)

    # The folder as a whole

    def create(self) -> None:
        """Make the folders; raise Codec2EqError if that cannot be, or a link is in their place."""
        try:
            for folder in (self.hidden, *(os.path.join(self.hidden, name) for name in _FOLDERS)):
                os.makedirs(folder, exist_ok=True)
                if os.path.islink(folder):
                    raise Codec2EqError(folder, "is a link and no folder of ours", "remove it")
        except OSError as error:
            raise write_error(self.root, error) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out; begin and end without drafts.

        Raises Codec2EqError if another run holds the lock.
        """
        path = os.path.join(self.hidden, "lock")
        if os.path.islink(path):
            raise Codec2EqError(path, "is a link and no lock of ours", "remove it")
        holder = os.path.join(self.new, "holder")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK | BINARY, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        with open(descriptor, "rb"):
            deadline = time.monotonic() + LOCK_PATIENCE_S
            while not _lock(descriptor):
                if time.monotonic() > deadline:
                    raise self._in_use((self.read(holder) or b"just ending").decode())
                time.sleep(0.05)
            self.clear_drafts()
            self.write(holder, f"process {os.getpid()} on {host_name()}".encode(), durable=False)
            try:
                yield
            finally:
                self.clear_drafts()

    def _in_use(self, holder: str) -> Codec2EqError:
        return Codec2EqError(
            self.root,
            f"another run is at work there ({holder})",
            "wait for it, or choose another output folder",
        )

    def clear_drafts(self) -> None:
        """Remove unfinished files of killed runs."""
        for name in os.listdir(self.new):
            path = os.path.join(self.new, name)
            if _DRAFT_NAME.fullmatch(name) and (os.path.islink(path) or not os.path.isdir(path)):
                remove(path)

    # Files

    def read(self, path: str) -> bytes | None:
        """Read a file of ours; None if there is none, or something else is in its place."""
        try:
            handle = open(path, "rb", opener=_open_no_link)
        except OSError:
            return None
        with handle:
            return handle.read()

    def write(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file that appears whole; raise Codec2EqError if it cannot be.

        durable : it outlives a power loss from now on
        """
        draft = self.write_draft(path, data)
        try:
            if durable:
                sync_path(draft)
            replace_file(draft, path)
            if durable:
                sync_path(os.path.dirname(path))
        except OSError as error:
            remove(draft)
            raise write_error(path, error) from error

    def write_draft(self, path: str, data: bytes) -> str:
        """Write what is to become a file; return where it is."""
        draft = self.draft()
        try:
            with open(draft, "xb", buffering=0) as handle:
                view = memoryview(data)
                while view:
                    view = view[handle.write(view) :]
        except OSError as error:
            remove(draft)
            raise write_error(path, error) from error
        return draft

    def publish(self, drafts: Sequence[tuple[str, str]], *, record: tuple[str, str]) -> None:
        """Rename drafts to their targets and then a record of them; all of it durable.

        Raises OSError if that cannot be.
        """
        sync_together(self.root, (draft for draft, _ in (*drafts, record)))
        for draft, target in drafts:
            replace_file(draft, target)
        if drafts:
            sync_together(self.root, (os.path.dirname(target) for _, target in drafts))
        replace_file(*record)

    # Options

    def read_options(self) -> Options | None:
        """Read how the corpus was made; None if there is no corpus, or its options are cut.

        Raises Codec2EqError if the folder holds a corpus of another kind.
        """
        path = self.path(OPTIONS_FILE)
        try:
            with open(path, "rb", opener=_open_at_once) as handle:
                data = handle.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise read_error(path, error) from error
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):  # cut: the plan has them, too
            return self._planned_options()
        try:
            return parse_options(fields)
        except ValueError as error:
            raise Codec2EqError(
                path,
                f"does not describe a corpus of this version ({error})",
                "choose another folder, or remove this one",
            ) from error

    def _planned_options(self) -> Options | None:
        head = (self.read(self.plan()) or b"").partition(b"\n")[0]
        try:
            fields = json.loads(head)
            return parse_options(fields["options"] if isinstance(fields, dict) else None)
        except (ValueError, KeyError, RecursionError):
            return None

    def write_options(self, options: Options) -> None:
        """Write how the corpus is made."""
        self.write(self.path(OPTIONS_FILE), options_text(options))

    def has_options(self, options: Options) -> bool:
        """Whether these options are there, whole."""
        return self.read(self.path(OPTIONS_FILE)) == options_text(options)

    # Records

    def read_records(self, path: str) -> list[Record] | None:
        """Read the records of a piece or a part; None if there are none, or they are damaged."""
        data = self.read(path)
        try:
            return None if data is None else _parse_records(unsealed(data))
        except (ValueError, RecursionError):
            return None

    def write_records(self, path: str, records: Iterable[Record]) -> None:
        """Write the records of a piece or a part."""
        self.write(path, records_json(records))


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, without waiting for the writer if it is a fifo."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open_no_link(path: str, flags: int) -> int:
    return _open_at_once(path, flags | NO_LINK)


def _lock(descriptor: int) -> bool:
    """Lock an open file without waiting: False if another process has it.

    Not filelock's FileLock, whose lock forks give up: the workers of a killed run must keep it.
    """
    from filelock import lock_descriptor

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:  # there are file systems without locks
        return True


_TEXT_OR_NONE = (str, type(None))
_RECORD_KINDS = frozenset(
    (str, int, int, int, int, problem, str, warning, int, str, str)
    for problem in _TEXT_OR_NONE
    for warning in _TEXT_OR_NONE
)
"""Types that the fields of a record may have."""


def _parse_records(data: bytes) -> list[Record]:
    """Parse records; raise ValueError for anything else."""
    rows = json.loads(data)
    if not isinstance(rows, list):
        raise ValueError("no records")
    for row in rows:
        if type(row) is not list or tuple(map(type, row)) not in _RECORD_KINDS:
            raise ValueError("no record")
        if min(row[1], row[3], row[4], row[8] - row[4] * ROW_BYTES) < 0:
            raise ValueError("less than nothing, or more frames than bytes to hold them")
    return list(map(Record._make, rows))


def records_json(records: Iterable[Record]) -> bytes:
    """Return records as one line of JSON, which takes less time than a line for each, sealed."""
    return sealed(json_line(list(records)))


def json_line(value: Any) -> bytes:
    """Return a value as a line of JSON in ASCII, so that names in any encoding survive."""
    return json.dumps(value).encode("ascii") + b"\n"


def remove(path: str) -> None:
    """Remove a file if it is there; raise Codec2EqError if that cannot be."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise write_error(path, error) from error
