# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated disk: what a program did to its files, and what a power cut leaves of that.

Names are kept by a journal: after a cut all changes of names up to some moment are there, and at
least those that were synced. Data that were not synced may be there, be gone, or be zeros.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import NamedTuple


class Operation(NamedTuple):
    """One line of the log of shim.c."""

    kind: str
    inode: int
    number: int
    text: bytes


def read_log(path: Path) -> list[Operation]:
    """Read the operations in their order."""
    data = path.read_bytes()
    found = []
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        kind, inode, number, length = data[at:end].split()
        text = data[end + 1 : end + 1 + int(length)]
        found.append(Operation(kind.decode(), int(inode), int(number), text))
        at = end + 1 + int(length)
    return found


class Disk:
    """Files by inode and by name; what is durable of them, and what is only in memory."""

    def __init__(self) -> None:
        self.data: dict[int, bytearray] = {}
        self.synced: dict[int, bytes] = {}
        self.names: list[tuple[str, str, str | int]] = []  # changes of names, in their order
        self.n_synced_names = 0
        self._now: dict[str, int] = {}

    def apply(self, operation: Operation) -> None:
        """Go on by one operation."""
        kind, inode, number, text = operation
        path = os.fsdecode(text)
        if kind == "O":
            if not number:
                self.data[inode] = bytearray()
            if self._now.get(path) != inode:
                self.synced.pop(inode, None)
                self._name("create", path, inode)
        elif kind == "W":
            content = self.data.setdefault(inode, bytearray())
            content.extend(b"\0" * (number - len(content)))
            content[number : number + len(text)] = text
        elif kind == "T":
            content = self.data.setdefault(inode, bytearray())
            del content[number:]
            content.extend(b"\0" * (number - len(content)))
        elif kind == "R":
            source, target = path.split("\0")
            self._name("rename", source, target)
        elif kind in "UM":
            self._name("unlink" if kind == "U" else "mkdir", path, "")
        elif kind == "A":
            self.synced = {i: bytes(content) for i, content in self.data.items()}
            self.n_synced_names = len(self.names)
        elif kind == "S":
            self._sync(inode, path)

    def _name(self, change: str, path: str, other: str | int) -> None:
        self.names.append((change, path, other))
        _rename(self._now, change, path, other)

    def _sync(self, inode: int, path: str) -> None:
        if inode in self.data and inode in self._now.values():
            self.synced[inode] = bytes(self.data[inode])
        for index, (_, name, other) in enumerate(self.names):
            # The file itself, or a name in the folder; a journal keeps all before as well.
            named = {name, other} if isinstance(other, str) else {name}
            if path in named or path in {os.path.dirname(n) for n in named if n}:
                self.n_synced_names = max(self.n_synced_names, index + 1)

    def cut(self, random_: random.Random) -> dict[str, bytes | None]:
        """Return what is there after a power cut: data by path, None for a folder."""
        n_names = random_.randint(self.n_synced_names, len(self.names))
        names: dict[str, int] = {}
        folders = set()
        for change, path, other in self.names[:n_names]:
            if change == "mkdir":
                folders.add(path)
            else:
                _rename(names, change, path, other)
        found: dict[str, bytes | None] = dict.fromkeys(folders)
        for path, inode in names.items():
            latest, synced = bytes(self.data.get(inode, b"")), self.synced.get(inode, b"")
            lost = random_.choice((synced, latest, latest[: len(latest) // 2], bytes(len(latest))))
            found[path] = latest if latest == synced else lost
        return found


def _rename(names: dict[str, int], change: str, path: str, other: str | int) -> None:
    if change == "create" and isinstance(other, int):
        names[path] = other
    elif change == "rename" and isinstance(other, str) and path in names:
        names[other] = names.pop(path)
    elif change == "unlink":
        names.pop(path, None)


def lay_out(found: dict[str, bytes | None], old: Path, new: Path) -> None:
    """Make the files that a cut has left, below another folder, which they name in its place."""
    for path, data in sorted(found.items()):
        target = new / os.path.relpath(path, old)
        if data is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data.replace(os.fsencode(old), os.fsencode(new)))
