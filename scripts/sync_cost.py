#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure what surviving a power cut costs: batch with and without its syncs.

The runs of a pair follow each other, in alternating order; put OUT on the file system in question.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

WITHOUT = """import os
from codec2_eq import system
os.fsync = lambda descriptor: None
system._syncfs = lambda: lambda descriptor: None
"""
MAIN = "import sys; from codec2_eq.cli import main; sys.exit(main())"


def measure(words: list[str], out: Path, *, syncs: bool) -> tuple[float, float]:
    """Return wall and processor time of one run [s]."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()  # what other programs have left to write
    command = [sys.executable, "-c", ("" if syncs else WITHOUT) + MAIN, *words, "-o", str(out)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([*command, "-q", "--jobs", "2"], check=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv: list[str] | None = None) -> None:
    """Print the median of pairs for each layout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+", help="recordings, folders, or @list")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder, removed at the end")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args(argv)
    for layout in ("tree", "shards"):
        words = ["batch", *args.inputs, "--layout", layout]
        ratios = []
        for number in range(args.pairs):
            took = {}
            for syncs in (True, False) if number % 2 else (False, True):
                took[syncs] = measure(words, args.out, syncs=syncs)
            ratios.append([one / other for one, other in zip(took[True], took[False], strict=True)])
        wall, cpu = (100 * statistics.median(column) - 100 for column in zip(*ratios, strict=True))
        print(f"{layout}: {wall:+.1f} % of time, {cpu:+.1f} % of CPU, {args.pairs} pairs")
    shutil.rmtree(args.out)


if __name__ == "__main__":
    main()
