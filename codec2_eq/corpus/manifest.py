# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manifest in the making, and the sums over it."""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from codec2_eq.codec2 import RATE_HZ
from codec2_eq.corpus.plan import Part
from codec2_eq.corpus.store import (
    MANIFEST_FILE,
    Options,
    Record,
    Store,
    json_line,
    remove,
    shard_name,
)
from codec2_eq.files import write_error
from codec2_eq.system import replace_file


@dataclass
class Summary:
    """What a corpus holds, and how the run went that has completed it.

    utterances, frames and hours are those with vectors; the names that begin with ``run_`` are of
    this run alone.
    """

    output: str
    model: str
    frame_ms: int
    utterances: int = 0
    failures: int = 0
    failures_by_reason: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    frames: int = 0
    hours: float = 0.0
    run_recordings: int = 0
    run_hours: float = 0.0
    run_elapsed_s: float = 0.0
    run_times_real_time: float = 0.0
    run_vectors_per_s: float = 0.0


class Manifest:
    """Grows out of sight, part after part; one that is there already and tells the same is left."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._target = store.path(MANIFEST_FILE)
        self._draft = os.path.join(store.hidden, MANIFEST_FILE)
        self._file: IO[bytes]
        self._problems: Counter[str] = Counter()
        self._n_samples = 0
        self._summary = Summary(store.root, options.model, options.frame_ms)

    def __enter__(self) -> Manifest:
        with self._writing():
            self._file = open(self._draft, "wb")
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # of a disk that is full, told before
            self._file.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._target, error) from error

    def add(self, part: Part) -> None:
        """Add a part whose records are there."""
        records = self._store.read_records(self._store.part(part.part)) or []
        if self._options.layout == "shards":
            outputs = dict.fromkeys((r.name for r in records), shard_name(part.part))
        else:
            outputs = {e.name: e.output for task in part.tasks for e in self._store.read_task(task)}
        offset = 0
        lines = []
        for record in records:
            self._count(record)
            lines.append(json_line(self._describe(record, outputs[record.name], offset)))
            if self._options.layout == "shards":
                offset += record.n_frames
        with self._writing():
            self._file.writelines(lines)
            self._file.flush()

    def _describe(self, record: Record, output: str, offset: int) -> dict[str, Any]:
        failed = record.problem is not None
        line = {
            "audio_filepath": os.path.join(self._options.base, record.name),
            "duration": record.n_samples / RATE_HZ,
            "frames": record.n_frames,
            "path": None if failed else output,
            "offset": None if failed else offset,
            "model": self._options.model,
        }
        if failed:
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
        summary.frames += record.n_frames
        self._n_samples += record.n_samples

    def finish(self) -> Summary:
        """Let the manifest appear; return the sums."""
        with self._writing():
            self._file.close()
            if _same(self._draft, self._target):
                remove(self._draft)
            else:
                replace_file(self._draft, self._target)
        self._summary.hours = round(self._n_samples / RATE_HZ / 3600, 6)
        self._summary.failures_by_reason = dict(self._problems.most_common())
        return self._summary


def _same(path: str, other: str) -> bool:
    return os.path.exists(other) and filecmp.cmp(path, other, shallow=False)
