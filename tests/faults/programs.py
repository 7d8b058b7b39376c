# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs under faults: what each is called with, and how it is run with shim.c preloaded."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codec2_eq.equalisers.keras_import import keras_sha256
from codec2_eq.errors import Codec2EqError

SMALL = "from codec2_eq.corpus import plan; plan.TASK_FILES, plan.PART_FILES = (4, 4), 12; "
START = "import sys; from codec2_eq.cli import main; sys.exit(main())"


class Program(NamedTuple):
    """A command whose words hold OUT where its output folder goes."""

    name: str
    words: tuple[str, ...]

    @property
    def is_batch(self) -> bool:
        """Whether it goes on by itself where it was cut off."""
        return self.words[0] == "batch"


def programs(inputs: Path) -> list[Program]:
    """All programs, on inputs that `make_inputs` has made."""
    wav, clips = f"{inputs}/long.wav", f"{inputs}/clips"
    batch = ("batch", clips, "-o", "OUT/c", "-m", "cmn", "--jobs", "1")
    return [
        Program("run", ("run", wav, "-o", "OUT/o.f32", "-m", "cmn")),
        Program("run npz", ("run", wav, "-o", "OUT/o.npz", "-m", "cmn")),
        Program("encode", ("encode", wav, "-o", "OUT/o.c2", "-m", "cmn")),
        Program("batch tree", batch),
        Program("batch npz", (*batch, "--format", "npz")),
        Program("batch shards", (*batch, "--layout", "shards", "--with", "records")),
        Program("batch kaldi", (*batch, "--layout", "kaldi")),
        Program("batch speakers", (*batch, "--passes", "2", "--speakers", "folder")),
        Program(
            "vq train",
            ("vq", "train", f"{inputs}/v.f32", "-o", "OUT/cb", "--sizes", "4,4")
            + ("--iterations", "2"),
        ),
        Program("train", ("train", "mean_removal", "-o", "OUT/m", "--epochs", "1")),
    ]


def call(
    program: Program, out: Path, shim: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program into a folder, with faults as the environment says."""
    out.mkdir(parents=True, exist_ok=True)
    words = [word.replace("OUT", str(out)) for word in program.words]
    faults = {"LD_PRELOAD": str(shim), "FAULT_ROOT": str(out), **environment} if environment else {}
    return subprocess.run(
        [sys.executable, "-c", SMALL * program.is_batch + START, *words],
        env={**os.environ, **faults},
        capture_output=True,
        text=True,
        check=False,
    )


def files(out: Path) -> dict[str, bytes]:
    """All files but the lock, by name; where they name their folder, OUT stands for it."""
    return {
        str(path.relative_to(out)): _content(path).replace(os.fsencode(out), b"OUT")
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def _content(path: Path) -> bytes:
    """Bytes of a file; of a whole Keras model, which tells the time of day, what it computes."""
    if path.suffix == ".keras":
        with contextlib.suppress(Codec2EqError):
            return keras_sha256(path).encode()
    return path.read_bytes()


def final(found: dict[str, bytes]) -> dict[str, bytes]:
    """The files under final names: the user's."""
    return {
        name: data
        for name, data in found.items()
        if ".codec2-eq" not in name and not name.endswith("corpus.json")
    }


def compile_shim(folder: Path, compiler: str) -> Path:
    """Compile shim.c."""
    source, shim = Path(__file__).with_name("shim.c"), folder / "shim.so"
    command: Sequence[str] = (compiler, "-shared", "-fPIC", "-O1", "-o", str(shim), str(source))
    subprocess.run([*command, "-ldl"], check=True)
    return shim
