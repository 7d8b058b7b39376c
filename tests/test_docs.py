# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every command in README.md and docs/*.md works, but those that a comment says are not run.

A page's commands run one after another in a small world: some recordings under the names that the
pages use, and programs that stand in for a sound card, sox and what others have written.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import require_package

import codec2_eq
from codec2_eq import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md"))]
NOT_RUN = "<!-- not run: "
FENCE = "```"
COMMAND = re.compile(
    r"codec2-eq|python|scripts/|make|pip|c2enc|c2dec|sox|arecord|aplay|dask|tail|cmp|export|[A-Z]+="
)

# What stands in for programs that need a sound card or are somebody's own.
STAND_INS = {
    "arecord": 'exec cat "$WORLD/speech.wav"',
    "aplay": "exec cat >/dev/null",
    "sox": 'exec cat "$WORLD/speech.wav"',
    "my_vq_experiment": "exec cat >/dev/null",
    "codec2-eq": f'{sys.executable} -m codec2_eq "$@" || test $? = 3',  # 3: check finds faults
    "python": f'exec {sys.executable} "$@"',
}


def blocks(page: str) -> list[list[str]]:
    """Commands of a page's blocks, indented or fenced as sh, without the output shown in them."""
    found: list[list[str]] = []
    lines = iter((ROOT / page).read_text().replace("\\\n", " ").splitlines())
    fence, skipped, before = "", False, ""
    for line in lines:
        if line.startswith(FENCE):
            fence = "" if fence else line
            skipped = before.startswith(NOT_RUN)
            found.append([])
        elif line.startswith(NOT_RUN):
            skipped = True
        elif not fence and line and not line.startswith("    "):
            skipped = False
            found.append([])
        elif fence in ("", "```sh", "```console") and COMMAND.match(line.strip()) and not skipped:
            found[-1].append(line.strip())
        before = line or before
    return [commands for commands in found if commands]


@pytest.fixture
def world(tmp_path, sample_files):
    """A folder with recordings under all names that the pages use, and its environment."""
    speech, rate = soundfile.read(ROOT / "samples" / "flite_male_1.wav", dtype="int16")
    for name in ("speech.wav", "speech.flac", "recording.wav"):
        soundfile.write(tmp_path / name, speech, rate)
    for folder in ("samples", "models", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    packages = "asterisk-core-sounds-it-wav asterisk-core-sounds-ru-wav festvox-ru"
    audio = [f".speech/audio/{name}" for name in [*packages.split(), "asterisk-core-sounds-fr-wav"]]
    for folder in ("recordings", ".speech/my_recordings", *audio):
        (tmp_path / folder).mkdir(parents=True)
        for path in sample_files:
            samples, rate = soundfile.read(path, dtype="int16")
            longer = np.concatenate([samples] * (6 if folder.startswith(".speech") else 1))
            soundfile.write(tmp_path / folder / path.name, longer, rate)
    entries = [
        {"path": f"{folder.removeprefix('.speech/')}/{p.name}", "speaker": p.stem, "use": use}
        for folder, use in zip(audio, ["train", "train", "classic", "validate"], strict=True)
        for p in sample_files
    ]
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (tmp_path / ".speech" / "manifest.jsonl").write_text(lines)
    for name in ("train.txt", "all.txt"):
        (tmp_path / name).write_text("recordings\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wav.scp").write_text("first speech.wav\nsecond recording.wav\n")
    (tmp_path / "train.jsonl").write_text(json.dumps({"audio_filepath": "speech.wav"}) + "\n")
    (tmp_path / ".speech/my_recordings").rename(tmp_path / "my_recordings")
    (tmp_path / "my_filters.txt").write_text("boom\n")
    shutil.copy(ROOT / "models" / "mean_removal.npz", tmp_path / "my_network.npz")
    (tmp_path / "bin").mkdir()
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check_parity.py", tmp_path / "scripts")
    stand_ins = {f"bin/{name}": text for name, text in STAND_INS.items()}
    for name, text in {**stand_ins, "scripts/fetch_speech.py": "exit 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_the_pages_have_commands():
    assert sum(len(block) for page in PAGES for block in blocks(page)) > 25


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_commands_of_a_page_work(page, world, request):
    commands = [command for block in blocks(page) for command in block]
    path = f"{world / 'bin'}:{os.environ['PATH']}"
    if any(re.search(r"\bc2(enc|dec)\b", command) for command in commands):
        path += ":" + str(Path(request.getfixturevalue("c2enc")).parent)
    done = subprocess.run(
        ["bash", "-xeuo", "pipefail", "-c", "\n".join(commands)],
        cwd=world,
        env={**os.environ, "PATH": path, "WORLD": str(world), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    require_package("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "<audio" in (tmp_path / "tutorial" / "index.html").read_text()
    page = (tmp_path / "reference" / "index.html").read_text()
    for name in codec2_eq.__all__:
        assert re.search(rf'id="codec2_eq\.[\w.]+\.{name}"', page), name


def test_the_citation_is_of_this_version():
    assert f"version: {codec2_eq.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_readme_lists_all_commands():
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / "README.md").read_text(), re.M)
    named = {word for row in rows for word in re.findall(r"`([\w]+)[^`]*`", row)}
    assert set(cli.COMMANDS) <= named
