# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs cases one after another in this process; whoever started it notes where it stopped.

`python -m fuzz.worker SEED FIRST LAST` writes a line before each case, its number, and one
after it if something is wrong.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from codec2_eq.bench.shaping import impulse_response, read_shapings
from codec2_eq.cli import main
from codec2_eq.corpus.lists import read_list, read_manifest, read_scp
from codec2_eq.equalisers import keras_import
from codec2_eq.errors import Codec2EqError
from codec2_eq.vq import load_codebook
from fuzz import corpora, mutators
from fuzz.seeds import write_seeds

MOST_KB = 500 << 10
"""Memory beyond which a case fails [KB]."""

WATCH_MEMORY = "asan" not in os.environ.get("LD_PRELOAD", "")  # sanitizers keep what was freed

NULL = os.devnull
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "audio": (
        ("extract", "FILE", "-o", NULL, "--jobs", "1"),
        ("run", "FILE", "-m", "none", "-o", NULL, "--channel", "1", "--jobs", "1"),
        ("info", "FILE"),
        ("check", "FILE", "--json"),
        ("filter", "FILE", "-m", "cmn", "-o", NULL),
        ("encode", "FILE", "-m", "none", "-o", NULL),
    ),
    "f32": (("equalise", "FILE", "-m", "none", "-o", NULL), ("info", "FILE")),
    "npy": (("equalise", "FILE", "-m", "cmn", "-o", NULL), ("info", "FILE")),
    "npz": (
        ("equalise", "FILE", "-m", "none", "-o", "out.npz", "-f"),
        ("info", "FILE"),
        ("vq", "quantise", "FILE", "-o", NULL),
    ),
    "codebook.f32": (("vq", "quantise", "good.f32", "--codebook", "FILE", "-o", NULL),),
    "codebook.npy": (("vq", "quantise", "good.f32", "--codebook", "FILE", "-o", NULL),),
    "c2": (("decode", "FILE", "-o", NULL), ("info", "FILE")),
    "bits": (("decode", "FILE", "-o", NULL, "--partial"),),
    "network": (("equalise", "good.f32", "-m", "FILE", "-o", NULL), ("info", "FILE")),
    "card": (("models", "--json"),),
    "keras": (("equalise", "good.f32", "-m", "FILE", "-o", NULL),),
    "state": (
        ("equalise", "good.f32", "-m", "channel_eq", "--load-state", "FILE", "-o", NULL),
        ("filter", "response.wav", "-m", "channel_eq", "--load-state", "FILE", "-o", NULL),
    ),
    "mlfeat": (("equalise", "FILE", "-m", "none", "-o", NULL), ("info", "FILE")),
    "speakers": (
        (
            *("batch", "recordings", "-o", "spoken", "-m", "cmn", "--jobs", "1", "-f"),
            "--passes",
            "2",
        )
        + ("--speakers", "FILE"),
    ),
    **{kind: corpora.commands(kind) for kind in corpora.CORPORA},
}
"""What is done to a file of each kind."""

READERS: dict[str, Callable[[str], object]] = {
    "list": read_list,
    "scp": read_scp,
    "manifest": read_manifest,
    "codebook.npy": load_codebook,
    "shapes": read_shapings,
    "response": impulse_response,
    **dict.fromkeys(corpora.CORPORA, lambda path: corpora.read_corpus()),
}
SUFFIXES = {
    "network": "npz",
    "state": "npz",
    "response": "wav",
    "codebook.f32": "f32",
    "codebook.npy": "npy",
    "manifest": "jsonl",
}


def without_keras() -> None:
    """Have files for Keras be read up to where it would be started, which takes seconds."""

    def refuse() -> None:
        raise Codec2EqError("Keras", "is not started here")

    keras_import.import_keras = refuse


class Failed(Exception):
    """A case went wrong without an exception of its own."""


def make_case(seeds: dict[str, list[bytes]], seed: int, number: int) -> tuple[str, bytes]:
    """Return kind and content of a case; the same for the same seed and number."""
    rng = np.random.default_rng([seed, number])
    kinds = [*seeds, "audio", "audio", "npz", "network"]  # those with the most code behind them
    kind = kinds[int(rng.integers(0, len(kinds)))]
    data = seeds[kind][int(rng.integers(0, len(seeds[kind])))]
    structured = rng.random() < 0.5
    if kind in corpora.CORPORA:
        return kind, mutators.spoil_folder(data, rng)
    if structured and kind in ("npz", "network", "state"):
        return kind, mutators.spoil_archive(data, rng)
    if structured and kind in ("npy", "codebook.npy"):
        return kind, mutators.spoil_npy(data, rng)
    if structured and kind in ("manifest", "card"):
        return kind, mutators.spoil_json(data, rng)
    if structured and kind == "keras":
        return kind, mutators.spoil_keras(data, rng)
    if structured and kind == "audio":
        other = seeds[kind][int(rng.integers(0, len(seeds[kind])))]
        match int(rng.integers(0, 4)):
            case 0:
                return kind, mutators.splice(data, other, rng)
            case 1:
                return kind, mutators.join(data, other, rng)
        return kind, mutators.made_up_wav(rng)
    return kind, mutators.spoil_bytes(data, rng)


def run_case(kind: str, content: bytes, number: int) -> None:
    """Do with a file what users do; raise whatever it should not come to."""
    suffix = SUFFIXES.get(kind, kind)
    path = f"case.{suffix}" if kind != "card" else "models/case.json"
    if kind in corpora.CORPORA:
        corpora.lay_out(content)
    else:
        Path(path).write_bytes(content)
    if kind in READERS and (kind not in COMMANDS or number % 5 == 0):
        with contextlib.suppress(Codec2EqError):
            READERS[kind](path)
        return
    commands = COMMANDS[kind]
    words = [path if word == "FILE" else word for word in commands[number % len(commands)]]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    lines = err.getvalue().splitlines()
    if code not in ((0, 1, 3) if words[0] == "check" else (0, 1)) or (code == 1 and len(lines) < 1):
        raise Failed(f"{words}: exit code {code}, {lines[-3:]}")
    if words[0] == "batch" and kind in corpora.CORPORA and code == 0:
        corpora.read_corpus()  # the next run completes, whatever was spoiled
        if different := corpora.differences(kind):
            raise Failed(f"{words}: not as it was: {different}")
    if not (out.getvalue() + err.getvalue()).replace("\n", "").isprintable():
        raise Failed(f"{words}: control characters on the terminal")


def peak_kb() -> int:
    """Return the most memory of this process since the last `reset_peak` [KB]."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def reset_peak() -> None:
    """Begin to watch for the most memory anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def work(seed: int, first: int, last: int) -> None:
    """Run the cases from first to before last."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    without_keras()
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # syncs take no time there
    with tempfile.TemporaryDirectory(prefix="codec2_eq-fuzz-", dir=place) as folder:
        os.chdir(folder)
        os.mkdir("models")
        seeds = write_seeds(Path(folder))
        for number in range(first, last):
            kind, content = make_case(seeds, seed, number)
            print(number, kind, file=report)
            reset_peak()
            try:
                run_case(kind, content, number)
                if WATCH_MEMORY and peak_kb() > MOST_KB:
                    raise Failed(f"{peak_kb() >> 10} MB of memory")
            except Exception as error:  # whatever it is, it is what is looked for
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{os.path.basename(where.filename)}:{where.lineno}"
                text = " ".join(f"{type(error).__name__}: {error} ({place})".split())
                print("FAILED", number, kind, text, file=report)
    print("done", file=report)


if __name__ == "__main__":
    work(*map(int, sys.argv[1:4]))
