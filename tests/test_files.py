# SPDX-License-Identifier: LGPL-2.1-or-later
import io
import os
import stat
import subprocess
import sys
import threading

import pytest

from codec2_eq import files
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output, is_pipe, open_input, open_output


def test_output_appears_only_when_whole(tmp_path):
    target = tmp_path / "x.f32"
    with atomic_output(target) as out:
        out.write(b"abc")
        assert not target.exists()
        assert len(list(tmp_path.iterdir())) == 1
    assert target.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, BrokenPipeError, GeneratorExit])
def test_nothing_is_left_after_an_exception(tmp_path, error):
    with pytest.raises(error), atomic_output(tmp_path / "x.f32") as out:
        out.write(b"abc")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept_without_force(tmp_path):
    target = tmp_path / "x.f32"
    target.write_bytes(b"old")
    with (
        pytest.raises(Codec2EqError, match=r"x\.f32: exists already; pass -f to overwrite"),
        atomic_output(target),
    ):
        pytest.fail("must not be entered")
    assert target.read_bytes() == b"old"


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "x.f32"
    with pytest.raises(Codec2EqError, match="exists already"), atomic_output(target):
        target.write_bytes(b"another's")
    assert target.read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [target]


def test_force_replaces_and_keeps_the_mode(tmp_path):
    target = tmp_path / "x.f32"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with pytest.raises(RuntimeError), atomic_output(target, force=True) as out:
        out.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    with atomic_output(target, force=True) as out:
        out.write(b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_new_file_has_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_output(tmp_path / "x"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_symbolic_link_is_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.f32"
    link.symlink_to(tmp_path / "folder" / "real.f32")
    with atomic_output(link) as out:
        out.write(b"abc")
    assert link.is_symlink()
    assert (tmp_path / "folder" / "real.f32").read_bytes() == b"abc"


def test_longest_name_can_be_written(tmp_path):
    target = tmp_path / ("x" * 251 + ".f32")
    with atomic_output(target) as out:
        out.write(b"abc")
    assert target.read_bytes() == b"abc"


def test_devices_and_fifos_are_written_directly(tmp_path):
    with atomic_output("/dev/null") as out:
        out.write(b"abc")
    assert not stat.S_ISREG(os.stat("/dev/null").st_mode)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    with atomic_output(fifo) as out:
        out.write(b"abc")
    reader.join()
    assert got == [b"abc"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder, r"is a directory; name a file in it"),
        (lambda folder: folder / "no" / "x", r"x: its folder does not exist; create it first"),
        (lambda folder: folder / "file" / "x", r"x: part of this path is a file, not a folder"),
        (lambda folder: folder / ("x" * 300), r"File name too long"),
    ],
)
def test_output_that_cannot_be_created(tmp_path, make, message):
    (tmp_path / "file").touch()
    with pytest.raises(Codec2EqError, match=message) as caught, atomic_output(make(tmp_path)):
        pytest.fail("must not be entered")
    assert "\n" not in str(caught.value)


def test_full_disk_is_one_line():
    with (
        pytest.raises(Codec2EqError, match=r"^/dev/full: disk full; free some space"),
        atomic_output("/dev/full") as out,
    ):
        out.write(b"abc")


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    # /dev/full is written directly; here its error comes from a file that is renamed at the end.
    def to_full(path, flags):
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, descriptor)
        os.close(full)
        return descriptor

    monkeypatch.setattr(files, "_open_new", to_full)
    with (
        pytest.raises(Codec2EqError, match=r"x\.f32: disk full"),
        atomic_output(tmp_path / "x.f32") as out,
    ):
        out.write(b"abc")
    assert list(tmp_path.iterdir()) == []


def test_no_permission(tmp_path, monkeypatch):
    # root may do anything, so the refusal is made here.
    def refuse(path, *args):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "_open_new", refuse)
    with (
        pytest.raises(Codec2EqError, match=r"x\.f32: no permission to write there; choose"),
        atomic_output(tmp_path / "x.f32"),
    ):
        pytest.fail("must not be entered")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(Codec2EqError, match=r"a\.wav: no permission to read it"):
        with open_input(tmp_path / "a.wav"):
            pytest.fail("must not be entered")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")
def test_no_permission_for_real(tmp_path):
    (tmp_path / "x").touch(mode=0)
    with pytest.raises(Codec2EqError, match="no permission"), open_input(tmp_path / "x"):
        pytest.fail("must not be entered")
    tmp_path.chmod(0o500)
    with pytest.raises(Codec2EqError, match="no permission"), atomic_output(tmp_path / "y"):
        pytest.fail("must not be entered")


@pytest.mark.parametrize(
    ("name", "message"),
    [("no.wav", r"no\.wav: no such file"), (".", "is a directory, not a file")],
)
def test_input_that_cannot_be_opened(tmp_path, name, message):
    with pytest.raises(Codec2EqError, match=message), open_input(tmp_path / name):
        pytest.fail("must not be entered")


def test_large_output_is_written_whole_through_a_pipe():
    reader, writer = os.pipe()
    data = os.urandom(1 << 20)
    got = []

    def read():
        with open(reader, "rb") as handle:
            got.append(handle.read())

    thread = threading.Thread(target=read)
    thread.start()
    with files.OutputFile(writer, name="pipe") as out:
        assert out.write(data) == len(data)
        assert out.write(b"") == 0
    thread.join()
    assert got == [data]


def test_broken_pipe_stays_a_broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    with files.OutputFile(writer, name="pipe") as out, pytest.raises(BrokenPipeError):
        out.write(b"abc")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminals_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(Codec2EqError, match=r"^stdin: is a terminal; name a file or pipe"):
        with open_input("-"):
            pytest.fail("must not be entered")
    with pytest.raises(Codec2EqError, match=r"^stdout: is a terminal, .* -o FILE, or pipe it on"):
        with open_output("-"):
            pytest.fail("must not be entered")


def test_closed_standard_streams_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(Codec2EqError, match="^stdin: is closed"), open_input("-"):
        pytest.fail("must not be entered")
    with pytest.raises(Codec2EqError, match="^stdout: is closed"), open_output("-"):
        pytest.fail("must not be entered")


def test_standard_streams_in_memory(monkeypatch, stdin):
    stdin(b"abc")
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    with open_input("-") as source, open_output("-") as sink:
        sink.write(source.read1(10))
    assert out.buffer.getvalue() == b"abc"


ECHO = """
from codec2_eq.files import open_input, open_output
with open_input("-") as source, open_output("OUT") as sink:
    while data := source.read1(100):
        sink.write(data)
"""


@pytest.mark.parametrize("out", ["-", "/dev/stdout"])
def test_each_write_leaves_at_once(out):
    command = [sys.executable, "-c", ECHO.replace("OUT", out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in (b"one", b"two"):
            os.write(process.stdin.fileno(), word)
            assert os.read(process.stdout.fileno(), 100) == word
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_dev_stdout_into_a_file_keeps_what_is_there(tmp_path):
    target = tmp_path / "log"
    target.write_bytes(b"before ")
    with target.open("ab") as handle:
        subprocess.run(
            [sys.executable, "-c", ECHO.replace("OUT", "/dev/stdout")],
            input=b"after",
            stdout=handle,
            check=True,
        )
    assert target.read_bytes() == b"before after"


def test_non_blocking_standard_streams_are_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    command = [sys.executable, "-c", ECHO.replace("OUT", "-")]
    with subprocess.Popen(command, stdin=reader, stdout=subprocess.PIPE) as process:
        os.close(reader)
        timer = threading.Timer(0.3, os.write, (writer, b"late"))
        timer.start()
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"late"
        timer.join()
        os.close(writer)
        assert process.stdout.read() == b""


def test_is_pipe(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    assert [is_pipe(tmp_path / name) for name in ("fifo", "file", "none", ".")] == [
        True,
        False,
        False,
        False,
    ]
    assert is_pipe("-")
    assert is_pipe("/dev/null")


@pytest.mark.skipif(sys.platform == "win32", reason="locks by flock")
def test_parts_that_killed_runs_have_left_are_removed(tmp_path):
    target = tmp_path / "o.f32"
    children = []
    for _ in range(2):  # two at once, both killed
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            with atomic_output(target) as handle:
                handle.write(b"half")
                os.write(told, b"x")
                os.read(os.pipe()[0], 1)
        os.read(ready, 1)
        children.append(child)
    assert len(list(tmp_path.glob(".*.part"))) == 2
    with atomic_output(target, force=True) as handle:  # beside two that are alive
        handle.write(b"whole")
    assert len(list(tmp_path.glob(".*.part"))) == 2
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    with atomic_output(target, force=True) as handle:
        handle.write(b"whole again")
    assert [path.name for path in tmp_path.iterdir()] == ["o.f32"]
    assert target.read_bytes() == b"whole again"
