# SPDX-License-Identifier: LGPL-2.1-or-later
"""The worked examples of CONTRIBUTING.md, done in a copy of the package."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import codec2_eq

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = {
    title: body
    for title, body in re.findall(r"^## (An? [^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
}
STEP = re.compile(
    r"(?:(?P<how>Before|after|After) `(?P<anchor>[^`]+)`\s+in\s+`(?P<place>[^`]+)`"
    r"|(?P<end>At the end of)\s+`(?P<last>[^`]+)`"
    r"|the new file `(?P<new>[^`]+)`):\n\n```python\n(?P<code>.*?)```\n",
    re.S,
)


def apply(step: re.Match[str], root: Path) -> None:
    path = root / next(filter(None, step.group("place", "last", "new")))
    code = step["code"]  # without the blank lines around it, which formatters of Markdown take
    if step["new"]:
        path.write_text(code)
        return
    text = path.read_text()
    if step["end"]:
        path.write_text(f"{text}\n\n{code.strip()}\n")
        return
    assert text.count(step["anchor"]) == 1, f"{path.name} has no single {step['anchor']}"
    before, after = text.split(step["anchor"])
    if step["how"] == "Before":
        path.write_text(f"{before}{code.strip()}\n\n\n{step['anchor']}{after}")
    else:
        newline = "\n" if code.startswith("    ") else ""
        path.write_text(before + step["anchor"] + newline + code.removesuffix("\n") + after)


def test_there_are_four_examples_with_steps():
    assert list(EXAMPLES) == ["An equaliser", "A kind of layer", "An audio format", "A command"]
    assert sum(len(STEP.findall(body)) for body in EXAMPLES.values()) == TEXT.count("```python")


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_steps_work(title, tmp_path):
    package = Path(codec2_eq.__file__).parent
    ignored = shutil.ignore_patterns("*.c", "__pycache__")
    shutil.copytree(package, tmp_path / "codec2_eq", ignore=ignored)
    for folder in ("models", "samples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    steps = list(STEP.finditer(EXAMPLES[title]))
    assert steps
    for step in steps:
        apply(step, tmp_path)
    commands = re.findall(r"```console\n(.*?)```", EXAMPLES[title], re.S)
    lines = "".join(commands).splitlines()
    assert lines
    for line in lines:
        first, *words = shlex.split(line)
        program = {"python": [], "codec2-eq": ["-m", "codec2_eq"]}[first]
        done = subprocess.run(
            [sys.executable, *program, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    style = [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "100"]
    done = subprocess.run([*style, str(tmp_path / "codec2_eq")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
