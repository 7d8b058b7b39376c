# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recordings that are asked for: files, folders and lists to paths in a fixed order.

Folders are searched by suffix, in the order of their names, through symbolic links; a link to a
folder that is being searched already is passed over, and so are hidden files and folders. What is
named but cannot be read (a missing file, a folder without permission) is listed all the same: it
fails where it would be read, and so appears among the failures.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from codec2_eq.audio.stream import RAW_SUFFIXES
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_error

AUDIO_SUFFIXES = frozenset(
    (
        *RAW_SUFFIXES,
        ".wav",
        ".wave",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".w64",
        ".rf64",
        ".sph",
        ".nist",
        ".voc",
    )
)
"""What is taken for a recording in a folder; a file that is named may have any suffix."""


class Stamp(NamedTuple):
    """What tells whether a file has changed: size in bytes and time of change in ns."""

    size: int
    mtime_ns: int


ABSENT = Stamp(0, 0)
"""The stamp of what cannot be looked at."""


class Listing(NamedTuple):
    """Recordings by name, in order; names are paths relative to `base`."""

    base: str
    stamps: dict[str, Stamp]


def list_recordings(inputs: Iterable[str], base: str | None = None) -> Listing:
    """Find the recordings in files, folders and ``@lists``, each once.

    base : folder that names are relative to; by default the deepest that holds all inputs
    A list holds one path a line, or separated by zero bytes; ``@-`` is stdin.

    Raises Codec2EqError if a list cannot be read, a recording lies outside of base, or there is
    none at all.
    """
    roots = [os.path.abspath(path) for path in _expand(inputs)]
    found = {path: state for root in roots for path, state in _search(root)}
    if not found:
        raise Codec2EqError(
            f"{' '.join(roots) or 'inputs'}: no recordings there; name audio files, or folders "
            "with files of audio suffixes (.wav, .flac, .ogg, .mp3, .raw…)"
        )
    base = _common_folder(roots) if base is None else base
    prefix = os.path.join(base, "")
    for path in found:
        if not path.startswith(prefix):
            raise Codec2EqError(
                f"{path}: lies outside {base}, relative to which this corpus is laid out; choose "
                "another output folder for it"
            )
    return Listing(base, {path[len(prefix) :]: state for path, state in found.items()})


def _expand(inputs: Iterable[str]) -> Iterator[str]:
    for given in inputs:
        if not given:
            raise Codec2EqError("an input has an empty name; is a variable not set?")
        if given.startswith("@"):
            yield from _read_list(given[1:])
        else:
            yield given


def _read_list(path: str) -> list[str]:
    try:
        if path == "-":
            if sys.stdin is None:
                raise Codec2EqError("stdin: is closed; give it the list, or name a file as @FILE")
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as handle:
                data = handle.read()
    except OSError as error:
        raise read_error(path, error) from error
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]


def _common_folder(roots: Iterable[str]) -> str:
    return os.path.commonpath(
        {root if os.path.isdir(root) else os.path.dirname(root) for root in roots}
    )


def _search(root: str) -> Iterator[tuple[str, Stamp]]:
    try:
        found = os.stat(root)
    except OSError:
        yield root, ABSENT
        return
    if stat.S_ISDIR(found.st_mode):
        yield from _search_folder(root, ((found.st_dev, found.st_ino),))
    else:
        yield root, Stamp(found.st_size, found.st_mtime_ns)


def _search_folder(
    folder: str, ancestors: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, Stamp]]:
    """Yield the recordings below a folder; ancestors are the folders on the way to it."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError:
        yield folder, ABSENT
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        is_audio = os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES
        try:
            if entry.is_dir():
                found = entry.stat()
                here = (found.st_dev, found.st_ino)
                if here not in ancestors:
                    yield from _search_folder(entry.path, (*ancestors, here))
            elif is_audio:
                found = entry.stat()
                yield entry.path, Stamp(found.st_size, found.st_mtime_ns)
        except OSError:  # a link to nothing or to itself, or gone since
            if is_audio:
                yield entry.path, ABSENT
