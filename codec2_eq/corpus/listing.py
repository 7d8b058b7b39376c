# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the recordings in files, folders and lists, in a fixed order.

Folders are searched by suffix, in the order of their names, through symbolic links. Hidden files
and folders are skipped, and so is a link to a folder that is already being searched. A named file
that is missing, or a folder without permission, is listed all the same: reading it fails later, so
that it appears among the failures. Files of other suffixes are only counted.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from codec2_eq.audio.stream import RAW_SUFFIXES
from codec2_eq.corpus.lists import Item, read_list
from codec2_eq.errors import Codec2EqError

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
"""Suffixes of recordings in folders; a file named explicitly may have any."""


class Stamp(NamedTuple):
    """Size in bytes and time of change in ns, which show whether a file has changed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """Return the stamp of a file by its status."""
        return cls(found.st_size, found.st_mtime_ns)


ABSENT = Stamp(0, 0)
"""The stamp of a file whose status cannot be read."""


class Origin(NamedTuple):
    """Facts about an utterance from a list, beyond the recording's path.

    path : of the recording relative to the base, empty if that is the utterance's name
    offset, duration : the part of it that the utterance is, s; without a duration to its end
    """

    path: str = ""
    offset: float = 0.0
    duration: float | None = None
    id: str | None = None
    speaker: str | None = None


WHOLE = Origin()
"""The origin of a whole recording of which nothing more is known."""


class Listing(NamedTuple):
    """Utterances by name, in order; names are paths relative to `base`.

    origins : of utterances for which a list holds more than a path
    passed_over : number of files with each other suffix in the folders
    """

    base: str
    stamps: dict[str, Stamp]
    origins: Mapping[str, Origin] = {}
    passed_over: Mapping[str, int] = {}


def list_recordings(
    inputs: Iterable[str], base: str | None = None, *, items: Iterable[Item] = ()
) -> Listing:
    """Find the recordings in files, folders and ``@lists``, and of other lists, each once.

    base : folder that names are relative to; by default the deepest that holds all inputs
    A list holds one path a line, or separated by zero bytes; ``@-`` is stdin.

    Raises Codec2EqError if a list cannot be read, a recording lies outside of base, or there is
    none at all.
    """
    inputs = list(inputs)
    roots = [os.path.abspath(path) for path in _expand(inputs)]
    named = [item._replace(path=os.path.abspath(item.path)) for item in items]
    search = _Search()
    found = {path: stamp for root in roots for path, stamp in search.root(root)}
    of_items = {item.path: search.file(item.path) for item in named}
    if not found and not of_items:
        raise Codec2EqError(
            " ".join(roots or inputs) or "inputs",
            "no recordings there",
            "name audio files, or folders with files of audio suffixes (.wav, "
            ".flac, .ogg, .mp3, .raw…)",
        )
    base = os.path.commonpath(search.tops) if base is None else base
    prefix = os.path.join(base, "")
    for path in (*found, *of_items):
        if not path.startswith(prefix):
            raise Codec2EqError(
                path,
                f"lies outside {base}, relative to which this corpus is laid out",
                "choose another output folder for it",
            )
    stamps = {path[len(prefix) :]: stamp for path, stamp in found.items()}
    origins: dict[str, Origin] = {}
    for item in named:
        name, origin = _utterance(item, item.path[len(prefix) :], origins)
        origins[name] = origin
        stamps[name] = of_items[item.path]
    return Listing(base, stamps, origins, search.passed_over)


def _utterance(item: Item, name: str, taken: Mapping[str, Origin]) -> tuple[str, Origin]:
    """Name an utterance of a list; a part of a recording is named like a file of its own."""
    origin = Origin("", 0.0, None, item.id, item.speaker)
    stem, suffix = os.path.splitext(name)
    if item.duration is not None or item.offset:
        end = "end" if item.duration is None else f"{item.offset + item.duration:010.3f}"
        part = f"{stem}-{item.offset:010.3f}-{end}".replace(".", "_")
        origin = origin._replace(path=name, offset=item.offset, duration=item.duration)
        stem, name = part, part + suffix
    if taken.get(name, origin) != origin:
        if item.id is None or os.sep in item.id or taken.get(f"{stem}-{item.id}{suffix}"):
            raise Codec2EqError(name, "is listed twice with different facts", "remove one")
        origin = origin._replace(path=origin.path or name)
        name = f"{stem}-{item.id}{suffix}"
    return name, origin


def _expand(inputs: Iterable[str]) -> Iterator[str]:
    for given in inputs:
        if not given:
            raise Codec2EqError("", "an input has an empty name", "is a variable not set?")
        if given.startswith("@"):
            yield from read_list(given[1:])
        else:
            yield given


def _stamp(found: os.stat_result | None) -> Stamp:
    return ABSENT if found is None else Stamp.of(found)


class _Search:
    """Searches for recordings.

    tops : the folders named, and the folders of the files named
    passed_over : number of files with each other suffix
    """

    def __init__(self) -> None:
        self.tops: set[str] = set()
        self.passed_over: Counter[str] = Counter()

    def look_at(self, path: str) -> os.stat_result | None:
        """Return the status of a named file or folder; None if it has none."""
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            found = None
        is_folder = found is not None and stat.S_ISDIR(found.st_mode)
        self.tops.add(path if is_folder else os.path.dirname(path))
        return found

    def file(self, path: str) -> Stamp:
        """Return the stamp of a recording in a list; raise Codec2EqError if it is a folder."""
        found = self.look_at(path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise Codec2EqError(path, "is a directory, not a file", "name the files in it")
        return _stamp(found)

    def root(self, root: str) -> Iterator[tuple[str, Stamp]]:
        """Yield a file, or the recordings below a folder."""
        found = self.look_at(root)
        if found is not None and stat.S_ISDIR(found.st_mode):
            yield from self._folder(root, ((found.st_dev, found.st_ino),))
        else:
            yield root, _stamp(found)

    def _folder(
        self, folder: str, ancestors: tuple[tuple[int, int], ...]
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
            suffix = os.path.splitext(entry.name)[1].lower()
            is_audio = suffix in AUDIO_SUFFIXES
            try:
                if entry.is_dir():
                    found = entry.stat()
                    here = (found.st_dev, found.st_ino)
                    if here not in ancestors:
                        yield from self._folder(entry.path, (*ancestors, here))
                elif is_audio:
                    yield entry.path, Stamp.of(entry.stat())
                else:
                    self.passed_over[suffix or "no suffix"] += 1
            except OSError:  # a broken or circular link, or removed since
                if is_audio:
                    yield entry.path, ABSENT
