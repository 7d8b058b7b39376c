# SPDX-License-Identifier: LGPL-2.1-or-later
"""The harness of `make fuzz` itself, on a few cases: what it makes, and that it notices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import __main__ as fuzz
from fuzz import worker
from fuzz.seeds import write_seeds

TESTS = Path(__file__).parent


def test_a_short_run_finds_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "150", "--seed", "7", "--jobs", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("fuzz: 150 cases from 0, seed 7: 0 failed"), done.stdout
    assert done.returncode == 0


def test_cases_are_the_same_for_the_same_seed(tmp_path):
    seeds = write_seeds(tmp_path)
    cases = [worker.make_case(seeds, 1, number) for number in range(300)]
    assert cases == [worker.make_case(seeds, 1, number) for number in range(300)]
    assert cases != [worker.make_case(seeds, 2, number) for number in range(300)]
    assert {kind for kind, _ in cases} == set(seeds)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("print(3, 'npz'); import os; os.kill(os.getpid(), 11)", "ended with -11"),
        ("print(3, 'npz'); import time; time.sleep(60)", "hangs, over 0.5 s"),
        ("print(3, 'npz'); print('FAILED 3 npz ValueError: x'); print('done')", "ValueError: x"),
    ],
)
def test_what_goes_wrong_is_noticed(tmp_path, monkeypatch, body, told):
    (tmp_path / "fuzz").mkdir()
    (tmp_path / "fuzz" / "__init__.py").touch()
    text = f"import functools; print = functools.partial(print, flush=True)\n{body}\n"
    (tmp_path / "fuzz" / "worker.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fuzz, "PATIENCE_S", 0.5)
    reached, failed = fuzz.run_worker(1, 3, 9)
    assert [(number, kind) for number, kind, _ in failed] == [(3, "npz")]
    assert told in failed[0][2]
    assert reached == (9 if "done" in body else 4)
