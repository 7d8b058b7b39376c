#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compare what two versions of codec2_eq make of the same recordings, byte by byte.

    python scripts/compare_installs.py OLD NEW samples/*.wav

OLD and NEW are clones whose extensions are compiled. Each runs vectors, streams and corpora of all
recordings, for all equalisers and options that both know. Prints how many outputs are equal and
which are not; exit code 1 if any differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

MODELS = ("none", "mean", "mean_removal", "700c", "cmn", "channel_eq")
STREAM_MODELS = ("none", "700c")  # these are byte-equal to c2enc's in every version
FRAME_MS = ("10", "20", "40")

# Runs in each of the two: command lines come as JSON, results are files in the working directory.
RUN_ALL = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from codec2_eq.cli import main
for words in json.load(sys.stdin):
    code = main(words)
    if code:
        sys.exit(f"codec2-eq {' '.join(words)}: exit code {code}")
"""


def command_lines(recordings: Sequence[str], models: Sequence[str]) -> Iterator[list[str]]:
    """Yield the command lines, each with an output of its own, in the order to run them in."""
    for number, path in enumerate(recordings):
        for frame_ms in FRAME_MS:
            vectors = f"{number}.{frame_ms}.npz"
            yield ["extract", path, "-o", vectors, "--frame-ms", frame_ms]
            for model, suffix in itertools.product(models, ("f32", "npy", "npz")):
                out = f"{number}.{frame_ms}.{model}.{suffix}"
                options = ["--frame-ms", frame_ms, "-m", model]
                yield ["run", path, "-o", f"run.{out}", *options]
                if suffix == "f32":
                    yield ["equalise", vectors, "-o", f"equalise.{out}", "-m", model]
        for model, suffix in itertools.product(STREAM_MODELS, ("c2", "bin")):
            yield ["encode", path, "-o", f"{number}.{model}.{suffix}", "-m", model]
    for model, frame_ms, layout in itertools.product(models, FRAME_MS, ("tree", "shards")):
        options = ["--frame-ms", frame_ms, "-m", model, "--layout", layout]
        yield ["batch", *recordings, "-o", f"corpus.{model}.{frame_ms}.{layout}", *options]


def run_install(install: Path, folder: Path, lines: list[list[str]]) -> None:
    """Run the command lines with one version, in a folder for its outputs."""
    folder.mkdir()
    own = install / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    subprocess.run(
        [python, "-c", RUN_ALL, str(install)],
        cwd=folder,
        input=json.dumps(lines),
        text=True,
        check=True,
        stderr=subprocess.DEVNULL if not os.environ.get("DEBUG") else None,
    )


def outputs(folder: Path) -> dict[str, bytes]:
    """All files for the user by relative path: vectors, streams, manifests."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".codec2-eq" not in path.parts and path.name != "corpus.json"
    }
    if not found:
        sys.exit(f"{folder}: nothing was written")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path, metavar="OLD", help="clone of the one version")
    parser.add_argument("new", type=Path, metavar="NEW", help="clone of the other")
    parser.add_argument("recordings", nargs="+", metavar="FILE", help="audio files")
    parser.add_argument(
        "-m", "--model", action="append", metavar="MODEL", help="equaliser (default: all)"
    )
    args = parser.parse_args(argv)
    lines = list(command_lines([os.path.abspath(p) for p in args.recordings], args.model or MODELS))
    with tempfile.TemporaryDirectory(prefix="codec2_eq-") as work:
        for name in ("old", "new"):
            run_install(getattr(args, name).resolve(), Path(work) / name, lines)
        old, new = outputs(Path(work) / "old"), outputs(Path(work) / "new")
    unequal = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    for name in unequal:
        print(f"{name}: {'differs' if name in old and name in new else 'is in one only'}")
    n_bytes = sum(map(len, new.values()))
    print(
        f"{len(lines)} command lines, {len(new)} files, {n_bytes / 1e6:.1f} MB: "
        f"{len(unequal)} unequal"
    )
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
