# SPDX-License-Identifier: LGPL-2.1-or-later
"""Failing operations, kills and power cuts at seeded places: nothing lost, partial or stale after.

    make faults N=200

runs N of each kind; the suite runs a few. Seeds are numbered, so that each case can be run again.
"""

import errno
import os
import random
import shutil
import sys

import numpy as np
import pytest
import soundfile
from disk import Disk, lay_out, read_log
from programs import Program, call, compile_shim, files, final, programs

import codec2_eq as ce

N = int(os.environ.get("FAULTS", "18"))
"""Faults of each kind, shared out to the programs."""

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
NAMES = [
    "run",
    "run npz",
    "encode",
    "batch tree",
    "batch npz",
    "batch shards",
    "batch kaldi",
    "batch speakers",
    "vq train",
    "train",
]
TRAINED = 90  # faults of each kind from which on the training, of many seconds, has its share

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(sys.platform != "linux", reason="faults are injected by LD_PRELOAD"),
]


class Bench:
    """A program, what it gives undisturbed, and how many operations on files that takes."""

    def __init__(self, program: Program, folder, shim) -> None:
        self.program = program
        self.folder = folder
        self.shim = shim
        out = folder / "reference"
        count, self.log = folder / "count", folder / "log"
        done = call(program, out, shim, FAULT_COUNT=str(count), FAULT_LOG=str(self.log))
        assert done.returncode == 0, done.stderr
        self.n_operations = len(count.read_bytes())
        self.root = out
        self.whole = files(out)
        assert self.n_operations > 3 and final(self.whole)

    def fault(self, out, fault: str):
        shutil.rmtree(out, ignore_errors=True)
        count = self.folder / "count"
        count.unlink()
        return call(self.program, out, self.shim, FAULT=fault, FAULT_COUNT=str(count))

    def check_and_go_on(self, out, what: str) -> None:
        """Whatever is under a final name is whole; the next run completes, and tidies up."""
        for name, data in final(files(out)).items():
            if not name.endswith(".part"):
                assert data == final(self.whole).get(name), f"{what}: {name} is partial"
        self.go_on(out, what)

    def go_on(self, out, what: str) -> None:
        program = self.program
        if not program.is_batch:
            program = program._replace(words=(*program.words, "-f"))
        done = call(program, out, self.shim)
        assert done.returncode == 0, f"{what}: {done.stderr}"
        found = files(out)
        assert found.keys() == self.whole.keys(), what
        assert not [n for n in found if found[n] != self.whole[n]], what


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    return compile_shim(tmp_path_factory.mktemp("shim"), compiler)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, samples_dir):
    root = tmp_path_factory.mktemp("inputs")
    speech, _ = soundfile.read(samples_dir / "espeak_male_1.wav", dtype="int16")
    soundfile.write(root / "long.wav", np.tile(speech, 3), 8000)
    for i in range(20):
        folder = root / "clips" / f"s{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{i:02d}.wav", speech[300 * i : 300 * i + 4000], 8000)
    ce.extract(speech, frame_ms=10).vectors.tofile(root / "v.f32")
    return root


@pytest.fixture(scope="module", params=NAMES)
def bench(request, tmp_path_factory, shim, inputs):
    if request.param == "vq train":
        pytest.importorskip("faiss")
    if request.param == "train":
        if N < TRAINED:
            pytest.skip(f"training takes part in {TRAINED} faults or more: make faults")
        pytest.importorskip("keras")
    (program,) = (p for p in programs(inputs) if p.name == request.param)
    return Bench(program, tmp_path_factory.mktemp("bench"), shim)


def seeds(bench):
    """Every program's own share of the seeds."""
    step = len(NAMES) - (N < TRAINED)
    return range(NAMES.index(bench.program.name), max(N, step), step)


def test_failing_operations_end_the_run_as_the_outputs(bench, tmp_path):
    for seed in seeds(bench):
        rng = random.Random(seed)
        kind, number = rng.choice(("fail", "once")), rng.choice(ERRORS)
        fault = f"{kind}:{rng.randrange(bench.n_operations)}:{number}"
        done = bench.fault(tmp_path / "out", fault)
        assert "Traceback" not in done.stderr, f"{fault}: {done.stderr}"
        assert done.returncode in (0, 1), f"{fault}: {done.stderr}"
        if done.returncode:
            said = done.stderr.splitlines()
            assert said[-1].startswith("codec2-eq: error: "), f"{fault}: {done.stderr}"
            assert len(said) == 1 or not bench.program.is_batch, f"{fault}: {done.stderr}"
        else:  # it failed where it does no harm
            assert final(files(tmp_path / "out")) == final(bench.whole), fault
        bench.check_and_go_on(tmp_path / "out", fault)


def test_killed(bench, tmp_path):
    for seed in seeds(bench):
        fault = f"kill:{random.Random(seed).randrange(bench.n_operations)}"
        assert bench.fault(tmp_path / "out", fault).returncode == -9
        bench.check_and_go_on(tmp_path / "out", fault)


def test_power_cut(bench, tmp_path):
    log = read_log(bench.log)
    ends = sorted(random.Random(seed).randint(0, len(log)) for seed in seeds(bench))
    disk = Disk()
    at = 0
    for seed, end in zip(seeds(bench), [*ends[:-1], len(log)], strict=True):
        for operation in log[at:end]:
            disk.apply(operation)
        at = end
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        lay_out(disk.cut(random.Random(seed)), bench.root, out)
        what = f"cut {seed} after {end} of {len(log)} operations"
        if end == len(log):  # the program had ended well
            assert final(files(out)) == final(bench.whole), what
        bench.check_and_go_on(out, what)
