# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is planned of an utterance, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

from codec2_eq.corpus.listing import WHOLE, Origin, Stamp


class Entry(NamedTuple):
    """An utterance in the plan: its name, bytes, and its file in layout tree or its key."""

    name: str
    size: int
    output: str = ""
    origin: Origin = WHOLE

    @property
    def path(self) -> str:
        """Path of the recording relative to the base."""
        return self.origin.path or self.name


class TaskLine(NamedTuple):
    """Where a task is in the plan; `position` is the byte at which its line begins."""

    number: int
    part: int
    position: int


class Record(NamedTuple):
    """Outcome of an utterance, with the stamp of its recording.

    n_bytes, digest : of its file, or of its span in the part's file
    content : digest of the recording, if requested
    """

    name: str
    size: int
    mtime_ns: int
    n_samples: int
    n_frames: int
    problem: str | None = None
    remedy: str = ""
    warning: str | None = None
    n_bytes: int = 0
    digest: str = ""
    content: str = ""

    @property
    def stamp(self) -> Stamp:
        """Stamp of the recording when it was read."""
        return Stamp(self.size, self.mtime_ns)

    @property
    def error(self) -> str:
        """What went wrong, as in the manifest."""
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem or ""
