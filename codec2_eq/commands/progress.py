# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command shows on a terminal: a progress bar, then what was written."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from codec2_eq import messages

LONG_S = 600.0
"""Shortest audio for which a bar is shown [s]: less is done before anyone could read it."""


def with_bar(records: Iterable[Any], path: str, *, raw: bool = False) -> Iterator[Any]:
    """Pass records of an audio file on; draw a bar if it is long and a terminal shows it."""
    duration_s = _duration_s(path, raw) if messages.shows_progress() else None
    if duration_s is None or duration_s < LONG_S:
        yield from records
        return
    from tqdm import tqdm

    layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h, {remaining} left"
    with tqdm(total=duration_s / 3600, desc=os.path.basename(path), bar_format=layout) as bar:
        for record in records:
            yield record
            bar.update(len(record) * record.frame_ms / 3.6e6)


class StepBar:
    """A bar of steps with the time left, if a terminal shows it; lines go above it."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, done: int, most: int) -> None:
        """Show how many steps are done, of how many at most."""
        if self._bar is None:
            if not messages.shows_progress():
                return
            from tqdm import tqdm

            layout = "{percentage:3.0f}%|{bar}| {n}/{total}, {remaining} left"
            self._bar = tqdm(total=most, initial=done, bar_format=layout, leave=False)
        self._bar.update(done - self._bar.n)

    def tell(self, line: str) -> None:
        """Print a line as `messages.tell` does."""
        if self._bar is not None:
            self._bar.clear()
        messages.tell(line)


def _duration_s(path: str, raw: bool) -> float | None:
    from codec2_eq.audio.stream import audio_duration
    from codec2_eq.errors import Codec2EqError
    from codec2_eq.files import is_pipe

    if path == "-" or is_pipe(path):  # can be opened only once
        return None
    try:
        return audio_duration(path, raw=raw)
    except Codec2EqError:  # the reader of the records reports it
        return None


def tell_written(args: argparse.Namespace, n_frames: int, frame_ms: int) -> None:
    """Say what the output holds now, unless it is a pipe; or give the figures."""
    seconds = n_frames * frame_ms / 1000
    figures = {"output": args.output, "vectors": n_frames, "frame_ms": frame_ms, "seconds": seconds}
    line = f"{args.output}: {n_frames} vectors, {seconds:.2f} s"
    tell_figures(args, figures, *[line] * (args.output != "-"), data=[args.output])


def tell_figures(
    args: argparse.Namespace,
    figures: Mapping[str, Any],
    *lines: str,
    data: Sequence[str | None] = (),
) -> None:
    """Print figures as JSON if --json was given, else as lines on stderr.

    data : where the data go
    """
    if args.json:
        print_json(figures, data=data)
        return
    for line in lines:
        messages.tell(line)


def print_json(figures: Mapping[str, Any], *, data: Sequence[str | None] = ()) -> None:
    """Print figures as a JSON object on one line of stdout, or of stderr if that has the data.

    data : where the data go
    """
    import json

    from codec2_eq.files import is_stdout

    taken = any(path is not None and is_stdout(path) for path in data)
    print(json.dumps(figures), file=sys.stderr if taken else sys.stdout, flush=True)
