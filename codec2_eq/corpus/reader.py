# SPDX-License-Identifier: LGPL-2.1-or-later
"""A finished corpus read back: utterance by utterance, or as one array."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import RATE_HZ, K
from codec2_eq.corpus.containers import CONTAINERS, LEVEL_ROW_BYTES, LEVELS_SUFFIX, is_text
from codec2_eq.corpus.options import Options
from codec2_eq.corpus.plan import leads_elsewhere
from codec2_eq.corpus.store import MANIFEST_FILE, Store
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, read_error
from codec2_eq.vectors.reader import BLOCK_ROWS, VectorReader, read_vectors

OPEN_FILES = 64
"""Vector files that stay open: all shards of most corpora, few of the files of a tree."""

MAP_BYTES = 1 << 20
"""Files below are read: a process may map but 65,530."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recording's place in a corpus.

    audio_filepath : the recording; duration : its length in s
    frames : number of vectors; path, offset : file and first row that they are in
    warning : what is amiss with the recording, if anything
    id, speaker, audio_offset : from the list that named it; audio_offset is where it begins in the
        recording, s
    key, byte : in archives, its key and where its first row begins
    """

    audio_filepath: str
    duration: float
    frames: int
    path: str
    offset: int
    model: str
    warning: str | None = None
    id: str | None = None
    speaker: str | None = None
    audio_offset: float = 0.0
    key: str | None = None
    byte: int | None = None


class Levels(NamedTuple):
    """Level in dB, pitch in Hz and voicing of an utterance's frames."""

    mean_db: NDArray[np.float32]
    f0_hz: NDArray[np.float32]
    voiced: NDArray[np.bool_]


def open_corpus(folder: PathLike) -> Corpus:
    """Open a corpus that `batch` has made.

    Parameters
    ----------
    folder : str or path
        Where it is.

    Returns
    -------
    Corpus
        A sequence of its utterances; files are mapped into memory when they are asked for.

    Raises
    ------
    Codec2EqError
        If there is none, or it is not complete.

    Examples
    --------
    >>> _ = ce.batch("samples", "corpus", model="none", jobs=1)
    >>> corpus = ce.open_corpus("corpus")
    >>> len(corpus), sum(len(part) for part in corpus.parts())
    (12, 1040)
    """
    store = Store(os.fspath(folder))
    options = store.read_options()
    manifest = store.path(MANIFEST_FILE)
    if options is None:
        raise Codec2EqError(
            store.root, "holds no corpus (no corpus.json)", "make one with codec2-eq batch"
        )
    try:
        with open(manifest, "rb") as handle:
            lines = [_parse_line(line) for line in handle]
        _check_places(lines, options)
        return Corpus(store.root, options, lines)
    except FileNotFoundError:
        raise Codec2EqError(
            store.root,
            f"is not complete (no {MANIFEST_FILE})",
            "run codec2-eq batch again to complete it",
        ) from None
    except OSError as error:
        raise read_error(manifest, error) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise Codec2EqError(
            manifest, f"damaged ({error})", "run codec2-eq batch again to make it"
        ) from error


class Corpus(Sequence[Utterance]):
    """The utterances of a corpus that have vectors, in the order of the manifest.

    folder : where it is
    options : how it was made: model, model_sha256, frame_ms, layout…
    failures : the lines of the manifest for recordings that could not be read
    """

    def __init__(self, folder: str, options: Options, lines: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.options = options
        self.failures = [line for line in lines if "error" in line]
        self._utterances = [Utterance(**line) for line in lines if "error" not in line]
        frames = [utterance.frames for utterance in self._utterances]
        self._ends = np.cumsum(frames, dtype=np.int64)
        self._open = functools.lru_cache(OPEN_FILES)(self._map)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the files that are open here: each process opens its own."""
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, fields: dict[str, Any]) -> None:
        """Be as the corpus that was pickled."""
        vars(self).update(fields)
        self._open = functools.lru_cache(OPEN_FILES)(self._map)

    def __repr__(self) -> str:
        made = f"{self.options.model}, every {self.options.frame_ms} ms"
        return f"<Corpus {self.folder}: {len(self)} utterances, {self.n_frames} frames, {made}>"

    # Utterances

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self._utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...

    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...

    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        """Return an utterance, or a list of them."""
        return self._utterances[index]

    def find(self, audio_filepath: PathLike) -> Utterance:
        """Return the utterance of a recording; raise KeyError if it has none."""
        return self._by_path[os.path.abspath(audio_filepath)]

    @functools.cached_property
    def _by_path(self) -> dict[str, Utterance]:
        return {utterance.audio_filepath: utterance for utterance in self._utterances}

    def vectors(self, utterance: int | Utterance) -> NDArray[np.float32]:
        """Return the vectors (frames, K) of an utterance, mapped into memory and read-only."""
        found = self[utterance] if isinstance(utterance, (int, np.integer)) else utterance
        if found.byte is not None:
            return self._archived(found)
        return self._rows(found.path, found.offset, found.offset + found.frames)

    def levels(self, utterance: int | Utterance) -> Levels:
        """Return level, pitch and voicing of an utterance's frames, if the corpus keeps them.

        It does in format npz, and in layout shards if it was made with records.
        Raises Codec2EqError if it does not.
        """
        found = self[utterance] if isinstance(utterance, (int, np.integer)) else utterance
        full = os.path.join(self.folder, found.path)
        if self.options.records:
            full = os.path.splitext(full)[0] + LEVELS_SUFFIX
            start = found.offset * LEVEL_ROW_BYTES
            try:
                rows = np.fromfile(full, "<f4", found.frames * 3, offset=start).reshape(-1, 3)
            except (OSError, ValueError) as error:
                raise _unreadable(full, str(error)) from error
            if len(rows) < found.frames:
                raise _unreadable(full, f"ends after {len(rows)} of {found.frames} frames")
            return Levels(rows[:, 0], rows[:, 1], rows[:, 2] > 0)
        if self.options.format != "npz":
            raise Codec2EqError(
                self.folder, "keeps vectors alone", "make it with --with records, or --format npz"
            )
        with VectorReader(full) as reader:
            record = reader.read()
        if record.mean_db is None or record.f0_hz is None or record.voiced is None:
            raise _unreadable(full, "holds vectors alone")
        return Levels(record.mean_db, record.f0_hz, record.voiced)

    def _archived(self, found: Utterance) -> NDArray[np.float32]:
        """Return the rows of an utterance in an archive, if its head is in front of them."""
        full = os.path.join(self.folder, found.path)
        head = CONTAINERS[self.options.layout].head(found.key or "", found.frames)
        start = found.byte or 0
        try:
            data = self._open(found.path)
            rows = np.frombuffer(data, "<f4", found.frames * K, start).reshape(-1, K)
        except ValueError as error:
            raise _unreadable(full, f"ends before row {found.frames} of an utterance") from error
        if data[max(0, start - len(head)) : start].tobytes() != head:
            raise _unreadable(full, f"holds no utterance of {found.frames} rows at byte {start}")
        return rows

    def arrays(self) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of each utterance: a generator for ``tf.data.Dataset``."""
        for utterance in self._utterances:
            yield self.vectors(utterance)

    def _rows(self, path: str, first: int, last: int) -> NDArray[np.float32]:
        """Return rows of a vector file; raise Codec2EqError if it ends before them."""
        rows = self._open(path)
        full = os.path.join(self.folder, path)
        if rows.ndim != 2:
            raise _unreadable(full, "is an archive, in which the manifest names no place")
        if len(rows) < last:
            raise _unreadable(
                full,
                f"has {len(rows)} rows, the manifest lists {last}",
            )
        return rows[first:last]

    def _map(self, path: str) -> NDArray[np.float32]:
        full = os.path.join(self.folder, path)
        try:
            if path.endswith((".ark", ".tar")):
                return np.memmap(full, np.uint8, "r")  # type: ignore[return-value]  # rows lie anywhere
            if not path.endswith(".f32"):
                return read_vectors(full)
            if os.path.getsize(full) < MAP_BYTES:
                return np.fromfile(full, "<f4").reshape(-1, K)
            return np.memmap(full, "<f4", "r").reshape(-1, K)
        except Codec2EqError:
            raise
        except (OSError, ValueError) as error:
            raise _unreadable(full, str(error)) from error

    # One array

    @property
    def n_frames(self) -> int:
        """Number of vectors in all."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the corpus as one array."""
        return self.n_frames, K

    def frames(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return rows start to stop of the corpus as one array; within one shard without a copy."""
        start, stop, _ = slice(start, stop).indices(self.n_frames)
        joined = None
        at = 0
        for rows in self._runs(start, stop):
            if len(rows) == stop - start:
                return rows
            if joined is None:
                joined = np.empty((stop - start, K), np.float32)
            joined[at : at + len(rows)] = rows
            at += len(rows)
        return np.empty((0, K), np.float32) if joined is None else joined

    def all(self) -> NDArray[np.float32]:
        """Return all vectors (n_frames, K); of one shard they are mapped, of more in memory."""
        return self.frames()

    def parts(self) -> list[NDArray[np.float32]]:
        """Return arrays that together are all vectors: the shards, mapped, or a tree in memory."""
        if self.options.layout != "shards":
            return [self.all()]
        ends = {u.path: u.offset + u.frames for u in self._utterances}
        return [self._rows(path, 0, end) for path, end in ends.items()]

    def blocks(self, block_rows: int = BLOCK_ROWS) -> Iterator[NDArray[np.float32]]:
        """Yield all vectors in blocks, so that memory does not depend on the corpus."""
        for start in range(0, self.n_frames, block_rows):
            yield self.frames(start, min(start + block_rows, self.n_frames))

    def _runs(self, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
        """Yield rows start to stop, as many at once as lie next to each other in a file."""
        index = int(np.searchsorted(self._ends, start, side="right"))
        path, first, last = "", 0, 0
        while start < stop:
            utterance = self._utterances[index]
            if utterance.byte is not None:
                begin = start - (int(self._ends[index]) - utterance.frames)
                rows = self.vectors(utterance)[begin : begin + stop - start]
                if len(rows):
                    yield rows
                start += len(rows)
                index += 1
                continue
            skipped = start - (int(self._ends[index]) - utterance.frames)
            n_rows = min(utterance.frames - skipped, stop - start)
            row = utterance.offset + skipped
            if (utterance.path, row) != (path, last):
                if last > first:
                    yield self._rows(path, first, last)
                path, first, last = utterance.path, row, row
            last += n_rows
            start += n_rows
            index += 1
        if last > first:
            yield self._rows(path, first, last)


def _unreadable(path: str, why: str) -> Codec2EqError:
    return Codec2EqError(
        path, f"cannot be read as vectors ({why})", "run codec2-eq batch again to make it"
    )


_MOST_ROWS_OR_BYTES = 1 << 40
"""No file of a corpus has so many, and no recording as many seconds; whatever is computed from
fewer fits 64 bits."""

_LINE_KINDS: dict[str, Any] = {
    "audio_filepath": str,
    "duration": (int, float),
    "frames": int,
    "path": (str, type(None)),
    "offset": (int, type(None)),
    "model": str,
    "error": str,
    "warning": str,
    "id": str,
    "speaker": str,
    "audio_offset": (int, float),
    "key": str,
    "byte": int,
}


def _parse_line(line: bytes) -> dict[str, Any]:
    """Parse a line of the manifest; raise ValueError if it is none, or leads out of the folder."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("a line that is not an object")
    for name, value in fields.items():
        kind = _LINE_KINDS.get(name)
        if kind is None or not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} {value!r}")
        if isinstance(value, str) and not is_text(value):
            raise ValueError(f"{name} {value!r}")
        if isinstance(value, (int, float)) and not 0 <= value < _MOST_ROWS_OR_BYTES:
            raise ValueError(f"{name} {value!r}")
    missing = {"audio_filepath", "duration", "frames", "path", "offset", "model"} - fields.keys()
    if missing:
        raise ValueError(f"a line without {min(missing)}")
    if "error" not in fields:
        path = fields["path"]
        if path is None or fields["offset"] is None:
            raise ValueError("an utterance without vectors")
        if leads_elsewhere(path):
            raise ValueError(f"path {path!r} leads elsewhere")
    return fields


def _check_places(lines: list[dict[str, Any]], options: Options) -> None:
    """Raise ValueError if utterances overlap in a file, or lengths contradict each other."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for line in lines:
        if "error" in line:
            continue
        n_samples = round(line["duration"] * RATE_HZ)
        if line["frames"] != n_samples * 1000 // (RATE_HZ * options.frame_ms):
            raise ValueError(f"{line['frames']} frames of {line['duration']} s")
        if options.layout in ("tree", "shards"):
            start = line["offset"]
            spans.setdefault(line["path"], []).append((start, start + line["frames"]))
    for path, own in spans.items():
        own.sort()
        if any(end > start for (_, end), (start, _) in itertools.pairwise(own)):
            raise ValueError(f"utterances overlap in {path}")
