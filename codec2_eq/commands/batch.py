# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq batch: a corpus of recordings to a folder of vectors."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from codec2_eq import messages
from codec2_eq.commands import options
from codec2_eq.messages import counted

MOST_REASONS = 10
"""Number of failure reasons in the summary; the manifest has them all."""

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from codec2_eq.corpus import Progress, Summary


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="IN",
        help="audio files, folders to search for them, or @LIST, a file that lists these, "
        "one per line; @- is stdin",
    )
    parser.add_argument(
        "--scp",
        action="append",
        default=[],
        metavar="FILE",
        help="recordings listed in Kaldi's wav.scp: ID PATH on each line, no pipes",
    )
    parser.add_argument(
        "--manifest",
        action="append",
        default=[],
        metavar="FILE",
        help="recordings listed in JSON lines: NeMo manifests, or Lhotse's recordings.jsonl[.gz]",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the corpus")
    parser.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="rebuild the corpus; otherwise a further run completes it",
    )
    options.add_model(parser)
    options.add_frame_ms(parser)
    options.add_knots(parser)
    options.add_audio(parser)
    options.add_before_floor(parser)
    options.add_passes(parser, pipes=False)
    parser.add_argument(
        "--speakers",
        metavar="FILE|folder",
        help="with --passes 2, learn from all recordings of a speaker: FILE has lines "
        "`utterance-or-path speaker`, like Kaldi's utt2spk; folder: one speaker per folder",
    )
    parser.add_argument(
        "--layout",
        choices=("tree", "shards", "kaldi", "webdataset"),
        default="tree",
        help="tree: one vector file per recording, in the same folders; shards: few large .f32 "
        "files, for very many recordings; kaldi: archives and feats.scp; webdataset: tars "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--with",
        dest="extras",
        choices=("records",),
        help="records: also save level, pitch and voicing beside the shards",
    )
    parser.add_argument(
        "--format",
        choices=options.FORMATS,
        default="f32",
        help="format of the files in layout tree (default: %(default)s)",
    )
    parser.add_argument(
        "--check-content",
        action="store_true",
        help="compare the contents of recordings and outputs, not only their sizes and times",
    )
    options.add_jobs(parser)
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on the Dask cluster of this scheduler"
    )
    parser.add_argument(
        "--summary",
        metavar="FILE",
        help="write hours, speed and failures of this run as JSON; - is stdout",
    )
    parser.add_argument(
        "--json", dest="summary", action="store_const", const="-", help="like --summary -"
    )


def run(args: argparse.Namespace) -> int:
    """Make or complete the corpus; return 1 if recordings failed."""
    from codec2_eq.corpus import batch
    from codec2_eq.files import require_writable

    _check_options(args)
    if args.summary is not None:
        _require_no_other_file(args.summary)
        require_writable(args.summary, force=True)
    with _executor(args.scheduler) as executor, _Display() as display:
        summary = batch(
            args.inputs,
            args.output,
            scp=args.scp,
            manifest=args.manifest,
            model=args.model,
            frame_ms=args.frame_ms,
            knots=args.knots,
            passes=args.passes,
            speakers=args.speakers,
            layout=args.layout,
            format=args.format,
            records=args.extras == "records",
            before_floor=args.before_floor,
            channel=args.channel,
            raw=args.raw,
            jobs=args.jobs,
            executor=executor,
            force=args.force,
            check_content=args.check_content,
            progress=display.show,
        )
    _print_summary(summary)
    if args.summary is not None:
        _write_summary(summary, args.summary)
    return 1 if summary.failures else 0


def _check_options(args: argparse.Namespace) -> None:
    """End with a usage error for options that exclude each other."""
    options.check_knots(args)
    options.check_before_floor(args)
    if not (args.inputs or args.scp or args.manifest):
        args.refuse("no recordings: name files, folders or lists")
    lists = [*args.inputs, *(f"@{name}" for name in (*args.scp, *args.manifest, args.speakers))]
    if lists.count("@-") > 1:
        args.refuse("stdin holds one list: name files for the others")
    if args.output == "-":
        args.refuse("-o -: a corpus is a folder, name it")
    if args.speakers is not None and args.passes == 1:
        args.refuse("--speakers: needs --passes 2")
    if args.speakers is not None and args.before_floor:
        args.refuse("--before-floor: not with --speakers")
    if args.format != "f32" and args.layout != "tree":
        args.refuse(f"--format {args.format}: only with --layout tree")
    if args.extras and args.layout != "shards":
        args.refuse("--with records: needs --layout shards; a tree has them with --format npz")


@contextlib.contextmanager
def _executor(address: str | None) -> Iterator[Executor | None]:
    if address is None:
        yield None
        return
    from codec2_eq.corpus.executors import dask_executor

    with dask_executor(address) as executor:
        yield executor


class _Display:
    """Report failures as they occur, with a progress bar on a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._started = time.monotonic()

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Show the progress."""
        if self._bar is None and messages.shows_progress():
            self._bar = _start_bar(progress)
        for path, reason in progress.new_failures:
            self._print(f"codec2-eq: {path}: {reason}")
        if self._bar is not None:
            elapsed_h = max(time.monotonic() - self._started, 0.1) / 3600
            self._bar.set_postfix_str(
                f"{progress.hours:.2f} h of audio, {progress.hours / elapsed_h:,.0f} x real time, "
                f"{progress.n_failures} failed",
                refresh=False,
            )
            self._bar.update(progress.n_bytes_done - self._bar.n)

    def _print(self, text: str) -> None:
        line = messages.printable(text)
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)


def _start_bar(progress: Progress) -> Any:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # its thread would keep the workers from being forked
    return tqdm(
        total=progress.n_bytes,
        initial=progress.n_bytes_done,
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}%|{bar}| {postfix}, {remaining} left",
        file=sys.stderr,
    )


def _print_summary(summary: Summary) -> None:
    lines = [
        f"{summary.output}: {counted(summary.utterances, 'utterance')}, {summary.hours:.2f} h, "
        f"{counted(summary.frames, 'vector')} ({summary.model}, {summary.frame_ms} ms)"
    ]
    if summary.run_recordings:
        lines.append(
            f"{counted(summary.run_recordings, 'recording')} in {summary.run_elapsed_s:.1f} s: "
            f"{summary.run_times_real_time:,.0f} times real time, "
            f"{summary.run_vectors_per_s:,.0f} vectors/s"
        )
    else:
        lines.append("nothing was left to do")
    odd = [f'{summary.warnings} with a "warning" in the manifest'] * bool(summary.warnings)
    odd += [f"{summary.empty} empty"] * bool(summary.empty)
    if messages.is_quiet() and (odd or summary.failures):
        failed = [f"{summary.failures} failed, see the manifest"] * bool(summary.failures)
        messages.warn(f"{summary.output}: {', '.join(odd + failed)}")
    lines += odd
    if summary.passed_over:
        suffixes = ", ".join(
            suffix if n == 1 else f"{suffix} ({n})" for suffix, n in summary.passed_over.items()
        )
        skipped = counted(sum(summary.passed_over.values()), "other file")
        lines.append(f"{skipped} skipped: {suffixes}")
    if summary.late:
        lines.append(
            f"{counted(summary.late, 'recording')} added after the first pass of the speaker, "
            "which was not repeated; -f learns from scratch"
        )
    if summary.unused_speaker_lines:
        unused = counted(summary.unused_speaker_lines, "line")
        lines.append(f"{unused} of --speakers with no recording here")
    if summary.failures:
        lines.append(f"{summary.failures} failed, see the manifest:")
        reasons = list(summary.failures_by_reason.items())
        lines += [f"  {n} x {reason}" for reason, n in reasons[:MOST_REASONS]]
        if len(reasons) > MOST_REASONS:
            lines.append(f"  {sum(n for _, n in reasons[MOST_REASONS:])} x other reasons")
    messages.tell("\n".join(lines))


def _require_no_other_file(path: str) -> None:
    """Raise Codec2EqError unless a file is an earlier summary; -f is for the corpus."""
    import json
    import os

    from codec2_eq.errors import Codec2EqError
    from codec2_eq.files import is_stdout

    if is_stdout(path) or not os.path.isfile(path) or not os.path.getsize(path):
        return
    try:
        with open(path, encoding="utf-8") as handle:
            ours = "run_recordings" in json.load(handle)
    except (OSError, ValueError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise Codec2EqError(path, "exists already and is not a summary", "name another file")


def _write_summary(summary: Summary, path: str) -> None:
    import json
    from dataclasses import asdict

    from codec2_eq.files import write_text

    write_text(path, json.dumps(asdict(summary), indent=1) + "\n", force=True)
