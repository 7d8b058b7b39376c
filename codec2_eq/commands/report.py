# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq report: an HTML page with pictures and sound."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from codec2_eq import messages
from codec2_eq.commands import options, progress

if TYPE_CHECKING:
    from codec2_eq.report.page import Failure, Summary


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help="recordings; - is stdin")
    options.add_output(parser, "the page, a self-contained HTML file")
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        metavar="MODEL",
        dest="models",
        help="equaliser, may be repeated: a name from `codec2-eq models`, or a .keras or .npz "
        "file (default: none, 700c, cmn and the shipped networks)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=12.0,
        metavar="S",
        help="show and play the first S seconds of each recording (default: %(default)g)",
    )
    options.add_audio(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page; return 1 if recordings failed."""
    from codec2_eq.report.page import write_report

    summary = write_report(
        args.inputs,
        args.output,
        models=args.models,
        seconds=args.seconds,
        channel=args.channel,
        raw=args.raw,
        force=args.force,
        on_failure=_tell_failure,
    )
    figures = {
        "output": args.output,
        "recordings": summary.recordings,
        "models": list(summary.models),
        "bytes": summary.n_bytes,
        "silent": summary.silent,
        "failures": len(summary.failures),
    }
    progress.tell_figures(args, figures, *_lines(args.output, summary), data=[args.output])
    return 1 if summary.failures else 0


def _tell_failure(failure: Failure) -> None:
    line = messages.printable(f"{failure.name}: {failure.reason}")
    print(f"codec2-eq: {line}", file=sys.stderr)


def _lines(output: str, summary: Summary) -> Iterator[str]:
    yield (
        f"{output}: recordings {summary.recordings}, models {len(summary.models)}, "
        f"{summary.n_bytes / 1e6:.1f} MB"
    )
    if summary.silent:
        yield (
            f"{summary.silent} have no sound, as the page is full; show fewer recordings, models "
            "or seconds"
        )
    if summary.failures:
        yield f"{len(summary.failures)} failed, see the page"
