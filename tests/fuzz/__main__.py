# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shares cases out to workers; a worker that dies or hangs costs the one case that it was at."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from queue import Empty, Queue

from fuzz.seeds import write_seeds
from fuzz.worker import make_case

CASES_PER_WORKER = 500
"""So many run in one process, which costs a second to start."""

PATIENCE_S = 10.0
"""A case that takes longer hangs."""

STARTS_S = 60.0
FAILURES = Path("build/fuzz")


def run_worker(seed: int, first: int, last: int) -> tuple[int, list[tuple[int, str, str]]]:
    """Run cases until all are done or one ends the worker; return the next, and what failed."""
    command = [sys.executable, "-m", "fuzz.worker", *map(str, (seed, first, last))]
    failed: list[tuple[int, str, str]] = []
    number, kind = first, "start"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        lines: Queue[str] = Queue()
        said: list[str] = []

        def listen() -> None:
            for line in worker.stdout or ():
                lines.put(line)

        threads = [
            threading.Thread(target=listen),
            threading.Thread(target=lambda: said.extend(worker.stderr or ())),
        ]
        for thread in threads:
            thread.start()
        while True:
            try:
                line = lines.get(timeout=STARTS_S if kind == "start" else PATIENCE_S)
            except Empty:
                if kind == "start":
                    worker.kill()
                    raise SystemExit(f"fuzz: no worker starts: {' '.join(said)[-500:]}") from None
                if worker.poll() is None:
                    worker.kill()
                    what = f"hangs, over {PATIENCE_S:g} s"
                else:
                    what = f"ended with {worker.returncode}: {' '.join(said[-2:])[:300]}"
                failed.append((number, kind, what))
                break
            words = line.split(maxsplit=3)
            if words[0] == "done":
                number = last
                break
            if words[0] == "FAILED":
                failed.append((int(words[1]), words[2], words[3].strip()))
            elif words[0].isdecimal() and len(words) == 2:
                number, kind = int(words[0]), words[1]
            if worker.poll() is not None and lines.empty():
                time.sleep(0.2)
                if lines.empty() and number < last:
                    failed.append((number, kind, f"ended with {worker.returncode}"))
                    break
        for thread in threads:
            thread.join()
    return min(number + 1, last), failed


def main() -> int:
    """Run the cases, say what failed, keep the files that did it."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=20_000, help="number of cases")
    parser.add_argument("--seed", type=int, default=1, help="of all cases (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    began = time.monotonic()
    end = args.first + args.cases
    spans: Queue[tuple[int, int]] = Queue()
    for first in range(args.first, end, CASES_PER_WORKER):
        spans.put((first, min(first + CASES_PER_WORKER, end)))
    failed: list[tuple[int, str, str]] = []

    def work() -> None:
        while True:
            try:
                first, last = spans.get_nowait()
            except Empty:
                return
            while first < last:
                first, found = run_worker(args.seed, first, last)
                failed.extend(found)

    threads = [threading.Thread(target=work) for _ in range(args.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _tell(failed, args.seed)
    print(
        f"fuzz: {args.cases} cases from {args.first}, seed {args.seed}: {len(failed)} failed, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


def _tell(failed: list[tuple[int, str, str]], seed: int) -> None:
    if not failed:
        return
    FAILURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds = write_seeds(Path(folder))
    for text, times in Counter(text for _, _, text in failed).most_common(40):
        number, kind, _ = next(each for each in failed if each[2] == text)
        (FAILURES / f"{seed}-{number}.{kind}").write_bytes(make_case(seeds, seed, number)[1])
        print(f"{times} x {text}\n    case {number}, {kind}: {FAILURES}/{seed}-{number}.{kind}")


if __name__ == "__main__":
    sys.exit(main())
