# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the manifest and sums it up."""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from codec2_eq.codec2 import RATE_HZ
from codec2_eq.corpus.containers import CONTAINERS, key_bytes
from codec2_eq.corpus.entries import Entry, Record
from codec2_eq.corpus.options import Options
from codec2_eq.corpus.plan import Part, part_name, read_task
from codec2_eq.corpus.store import MANIFEST_FILE, Store, json_line, remove
from codec2_eq.corpus.worker import origin_facts
from codec2_eq.files import write_error
from codec2_eq.system import replace_file, sync_path


@dataclass
class Summary:
    """What a corpus holds, and how the run went that completed it.

    utterances, frames and hours count recordings with vectors; names that begin with ``run_`` count
    this run only. empty : recordings without a frame; passed_over : other files in the folders, by
    suffix; late : recordings added to speakers whose first pass was made without them
    """

    output: str
    model: str
    frame_ms: int
    utterances: int = 0
    failures: int = 0
    failures_by_reason: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    empty: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    late: int = 0
    unused_speaker_lines: int = 0
    frames: int = 0
    hours: float = 0.0
    run_recordings: int = 0
    run_hours: float = 0.0
    run_elapsed_s: float = 0.0
    run_times_real_time: float = 0.0
    run_vectors_per_s: float = 0.0


class _Growing:
    """A text file that is written part by part; an existing file with the same content is kept."""

    def __init__(self, store: Store, name: str) -> None:
        self._target = store.path(name)
        self._draft = store.draft()
        self._file: IO[bytes]

    def open(self) -> None:
        with self._writing():
            self._file = open(self._draft, "xb")

    def add(self, lines: list[bytes]) -> None:
        with self._writing():
            self._file.writelines(lines)
            self._file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk has been reported already
            self._file.close()

    def finish(self) -> None:
        """Let the file appear."""
        with self._writing():
            self._file.close()
            if _same(self._draft, self._target):
                remove(self._draft)
            else:
                sync_path(self._draft)
                replace_file(self._draft, self._target)
                sync_path(os.path.dirname(self._target))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._target, error) from error


class Manifest:
    """The manifest, part after part, and in layout kaldi the files for Kaldi's scripts."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._prefix = os.path.join(options.base, "")
        self._file = _Growing(store, MANIFEST_FILE)
        self._scripts = {name: _Growing(store, name) for name in script_names(options)}
        self._problems: Counter[str] = Counter()
        self._n_samples = 0
        self._summary = Summary(store.root, options.model, options.frame_ms)

    def __enter__(self) -> Manifest:
        for file in (self._file, *self._scripts.values()):
            file.open()
        return self

    def __exit__(self, *exception: object) -> None:
        for file in (self._file, *self._scripts.values()):
            file.close()

    def add(self, part: Part) -> None:
        """Add a part whose records are there."""
        records = self._store.read_records(self._store.part(part.part)) or []
        entries = {e.name: e for task in part.tasks for e in read_task(self._store, task)}
        place = _Place(self._options, part.part)
        lines: list[bytes] = []
        script_lines: dict[str, list[bytes]] = {name: [] for name in self._scripts}
        for record in records:
            entry = entries[record.name]
            self._count(record)
            lines.append(json_line(self._describe(record, entry, place)))
            if record.problem is None and self._scripts:
                key = key_bytes(entry.output)
                path = os.fsencode(self._store.path(place.path))
                line = b"%b %b:%d\n" % (key, path, place.start + len(key) + 1)
                script_lines[FEATS_SCP].append(line)
                speaker = "_".join((entry.origin.speaker or entry.output).split())
                script_lines[UTT2SPK].append(b"%b %b\n" % (key, key_bytes(speaker)))
            place.advance(record)
        self._file.add(lines)
        for name, own in script_lines.items():
            self._scripts[name].add(own)

    def _describe(self, record: Record, entry: Entry, place: _Place) -> dict[str, Any]:
        line: dict[str, Any] = {
            "audio_filepath": self._prefix + entry.path,
            "duration": record.n_samples / RATE_HZ,
            "frames": record.n_frames,
            **place.of(record, entry),
            "model": self._options.model,
            **origin_facts(entry),
        }
        if record.problem is not None:
            line["error"] = record.error
        if record.warning is not None:
            line["warning"] = record.warning
        return line

    def _count(self, record: Record) -> None:
        summary = self._summary
        summary.warnings += record.warning is not None
        if record.problem is not None:
            summary.failures += 1
            self._problems[record.problem] += 1
            return
        summary.utterances += 1
        summary.empty += not record.n_frames
        summary.frames += record.n_frames
        self._n_samples += record.n_samples

    def finish(self) -> Summary:
        """Let the manifest appear; return the sums."""
        for file in (*self._scripts.values(), self._file):
            file.finish()
        self._summary.hours = round(self._n_samples / RATE_HZ / 3600, 6)
        self._summary.failures_by_reason = dict(self._problems.most_common())
        return self._summary


class _Place:
    """Where the next utterance of a part lies."""

    def __init__(self, options: Options, part: int) -> None:
        self._options = options
        self.path = "" if options.is_tree else part_name(options, part)
        self.start = 0  # byte in the part's file
        self._frames = 0

    def of(self, record: Record, entry: Entry) -> dict[str, Any]:
        """Return its place as in the manifest."""
        if record.problem is not None:
            return {"path": None, "offset": None}
        if self._options.is_tree:
            return {"path": entry.output, "offset": 0}
        if self._options.layout == "shards":
            return {"path": self.path, "offset": self._frames}
        head = CONTAINERS[self._options.layout].head(entry.output, record.n_frames)
        return {"path": self.path, "offset": 0, "key": entry.output, "byte": self.start + len(head)}

    def advance(self, record: Record) -> None:
        """Go to the next one."""
        self.start += record.n_bytes
        self._frames += record.n_frames


FEATS_SCP, UTT2SPK = "feats.scp", "utt2spk"


def script_names(options: Options) -> tuple[str, ...]:
    """Names of the files for Kaldi's scripts."""
    return (FEATS_SCP, UTT2SPK) if options.layout == "kaldi" else ()


def _same(path: str, other: str) -> bool:
    return os.path.exists(other) and filecmp.cmp(path, other, shallow=False)
