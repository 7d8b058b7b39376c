# SPDX-License-Identifier: LGPL-2.1-or-later
"""Systems that lack names which Linux has: everything works without them."""

import ast
import ntpath
import os
import posixpath
import subprocess
import sys
from pathlib import Path

import pytest

import codec2_eq
from codec2_eq import system
from codec2_eq.corpus import plan
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output

# What Windows lacks, most of which macOS lacks too or has in part.
LACKING = {
    "os": "sched_getaffinity set_blocking fchmod pread pwrite sendfile O_NOFOLLOW O_CLOEXEC fork "
    "getuid geteuid mkfifo getpgid killpg setsid O_NONBLOCK getloadavg".split(),
    "signal": "SIGPIPE SIGHUP SIGKILL SIGALRM setitimer SIGUSR1".split(),
}
MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty")

# Runs before anything else in each process, workers too. The standard library, which knows what
# its system has, is imported first.
SITE = f"""
import concurrent.futures.process, multiprocessing.popen_spawn_posix, multiprocessing.synchronize
import multiprocessing.resource_tracker, os, shutil, signal, socket, subprocess, sys, tempfile
for module, names in {LACKING!r}.items():
    for name in names:
        delattr(sys.modules[module], name)
for module in {MODULES!r}:
    sys.modules[module] = None
"""


@pytest.fixture
def elsewhere(tmp_path):
    """Run the command as on a system without those names."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*words, **options):
        return subprocess.run(
            [sys.executable, "-m", "codec2_eq", *map(str, words)],
            capture_output=True,
            env=environment,
            **options,
        )

    return run


def test_commands_work_without_the_names(elsewhere, samples_dir, tmp_path):
    wav = samples_dir / "espeak_male_1.wav"
    assert elsewhere("--help").returncode == 0
    for command, out in (
        ("run", "a.npz"),
        ("encode", "a.c2"),
        ("filter", "a.wav"),
        ("run", "a.f32"),
    ):
        done = elsewhere(command, wav, "-o", tmp_path / out)
        assert done.returncode == 0, done.stderr
    for words in (("decode", tmp_path / "a.c2"), ("check", wav), ("info", tmp_path / "a.npz")):
        done = elsewhere(*words)
        assert done.returncode in (0, 3) and done.stdout, done.stderr  # 3: check finds a fault
    piped = elsewhere("run", "-", "-", input=wav.read_bytes())
    assert piped.stdout == (tmp_path / "a.f32").read_bytes()
    again = elsewhere("run", wav, "-o", tmp_path / "a.f32", "-f")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("layout", ["tree", "shards"])
def test_a_corpus_without_the_names(elsewhere, samples_dir, tmp_path, layout, jobs):
    options = ("--layout", layout, "--jobs", jobs)
    done = elsewhere("batch", samples_dir, "-o", tmp_path / "elsewhere", *options)
    assert done.returncode == 0, done.stderr
    codec2_eq.batch(samples_dir, tmp_path / "here", layout=layout)
    for path in (tmp_path / "here").rglob("*.f32"):
        other = tmp_path / "elsewhere" / path.relative_to(tmp_path / "here")
        assert other.read_bytes() == path.read_bytes()


def test_names_that_a_system_lacks_are_used_in_one_module_only():
    for path in Path(codec2_eq.__file__).parent.rglob("*.py"):
        if path.name == "system.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {a.name for a in node.names} & set(MODULES), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                allowed = node.attr == "SIGKILL"  # what a Linux worker gets when its parent dies
                names = LACKING.get(node.value.id, ())
                assert allowed or node.attr not in names, f"{path}:{node.lineno}"


class Windows:
    """`os.replace` and a clock of a system where a reader keeps a file from being replaced."""

    def __init__(self, monkeypatch, refusals):
        self.refusals, self.now_s, replace = refusals, 0.0, os.replace

        def refuse(source, target):
            if self.refusals:
                self.refusals -= 1
                raise PermissionError(13, "Permission denied", target)
            replace(source, target)

        def sleep(seconds):
            self.now_s += seconds

        monkeypatch.setattr(system.os, "replace", refuse)
        monkeypatch.setattr(system.sys, "platform", "win32")
        monkeypatch.setattr(system.time, "sleep", sleep)
        monkeypatch.setattr(system.time, "monotonic", lambda: self.now_s)


def test_a_file_that_is_being_read_is_replaced_when_its_reader_is_done(tmp_path, monkeypatch):
    Windows(monkeypatch, refusals=5)
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    system.replace_file(str(tmp_path / "new"), str(tmp_path / "old"))
    assert (tmp_path / "old").read_text() == "new"


def test_a_file_that_is_always_being_read_stays_as_it_is(tmp_path, monkeypatch):
    Windows(monkeypatch, refusals=10**6)
    target = tmp_path / "old"
    target.write_text("old")
    with pytest.raises(Codec2EqError, match="old: "):
        with atomic_output(target, force=True) as handle:
            handle.write(b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    "platform, alone, method",
    [
        ("linux", True, "fork"),
        ("linux", False, "forkserver"),
        ("darwin", True, "spawn"),
        ("win32", True, "spawn"),
    ],
)
def test_workers_are_forked_only_where_that_is_safe(monkeypatch, platform, alone, method):
    monkeypatch.setattr(system.sys, "platform", platform)
    assert system.start_method(alone=alone) == method


def test_files_are_appended_whole_with_and_without_the_kernels_help(tmp_path, monkeypatch):
    (tmp_path / "in").write_bytes(os.urandom(3 << 20))
    for platform in ("linux", "win32"):
        monkeypatch.setattr(system.sys, "platform", platform)
        with open(tmp_path / "in", "rb") as source, open(tmp_path / platform, "wb") as target:
            system.append_file(source.fileno(), target.fileno())
        assert (tmp_path / platform).read_bytes() == (tmp_path / "in").read_bytes()


def test_a_position_is_written_over_with_and_without_pwrite(tmp_path, monkeypatch):
    descriptor = system.open_new(str(tmp_path / "at"))
    try:
        system.write_at_start(descriptor, b"12345678")
        monkeypatch.delattr(system.os, "pwrite")
        system.write_at_start(descriptor, b"abcd")
    finally:
        os.close(descriptor)
    assert (tmp_path / "at").read_bytes() == b"abcd5678"


@pytest.mark.parametrize(
    "path, elsewhere",
    [
        ("a/b.f32", False),
        ("", False),
        ("..", True),
        ("a/../b.f32", True),
        ("/a.f32", True),
        (".codec2-eq/a", True),
        (r"a\b.f32", False),
        (r"a\..\b.f32", "nt"),
        (r"\a.f32", "nt"),
        (r"C:a.f32", "nt"),
        (r"C:\a.f32", "nt"),
        (r"\\host\share\a.f32", "nt"),
    ],
)
def test_paths_that_lead_out_of_a_corpus_are_known_on_each_system(monkeypatch, path, elsewhere):
    for module in (posixpath, ntpath):
        monkeypatch.setattr(plan.os, "path", module)
        plan.leads_elsewhere.cache_clear()
        expected = elsewhere is True or (elsewhere == "nt" and module is ntpath)
        assert plan.leads_elsewhere(path) == expected
    plan.leads_elsewhere.cache_clear()
