# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands as processes: pipes, signals, closed streams and terminals."""

import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import COMMAND, open_terminal, run_command

import codec2_eq as ce
from codec2_eq import cli, system
from codec2_eq.commands import progress


def rows(data):
    return np.frombuffer(data, "<f4").reshape(-1, 20)


def start(*words, ignored=()) -> Any:
    """Start a command with all three streams piped and unbuffered.

    It ignores the given signals, whatever the process that runs the tests ignores.
    """
    signals = ["--default-signal=INT,TERM,HUP", *(f"--ignore-signal={name}" for name in ignored)]
    return subprocess.Popen(
        ["env", *signals, *COMMAND, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )


def wait_for_output(folder):
    until = time.monotonic() + 20
    while not any(path.stat().st_size for path in folder.iterdir()):
        assert time.monotonic() < until, "nothing was written"
        time.sleep(0.02)


@pytest.mark.parametrize("model", ["none", "700c", "mean_removal"])
def test_pipes_give_the_bytes_of_the_file(wav, speech, model):
    expected = ce.load_equaliser(model)(ce.extract(speech).vectors).tobytes()
    whole = wav.read_bytes()
    assert run_command("run", wav, "-m", model).stdout == expected
    assert run_command("run", "-", "-m", model, stdin=whole).stdout == expected
    assert run_command("run", "--raw", "-m", model, stdin=speech.tobytes()).stdout == expected
    extracted = run_command("extract", "-", stdin=whole).stdout
    assert run_command("equalise", "-m", model, stdin=extracted).stdout == expected


def read_within(stream, n_bytes, seconds):
    """Read exactly n_bytes from a pipe that stays open, or fail."""
    data = b""
    until = time.monotonic() + seconds
    while len(data) < n_bytes:
        ready, _, _ = select.select([stream], [], [], max(0, until - time.monotonic()))
        assert ready, f"{len(data)} of {n_bytes} bytes came within {seconds} s"
        data += os.read(stream.fileno(), n_bytes - len(data))
    return data


@pytest.mark.parametrize("header", [False, True], ids=["raw", "wav"])
def test_a_vector_leaves_before_the_next_frame_is_sent(tmp_path, speech, header):
    expected = ce.load_equaliser("700c")(ce.extract(speech).vectors)
    head = b""
    if header:  # as arecord writes it: of a length that it does not know yet
        soundfile.write(tmp_path / "a.wav", speech[:0], 8000)
        head = (tmp_path / "a.wav").read_bytes()[:40] + b"\xff\xff\xff\xff"
    words = ["run", "-", "-m", "700c", *["--raw"] * (not header)]
    with start(*words) as process:
        process.stdin.write(head)
        for frame in range(20):
            process.stdin.write(speech[320 * frame : 320 * (frame + 1)].tobytes())
            vector = np.frombuffer(read_within(process.stdout, 80, 20), "<f4")
            np.testing.assert_array_equal(vector, expected[frame])
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(20) == 0


def test_a_broken_pipe_ends_quietly(speech):
    loop = np.tile(speech, 200).tobytes()
    with start("run", "--raw") as process:
        process.stdin.write(loop[:64000])
        assert len(process.stdout.read(80)) == 80
        process.stdout.close()
        try:
            process.stdin.write(loop)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.wait(20) == system.EXIT_BROKEN_PIPE
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_leave_no_partial_file(tmp_path, speech, number, code):
    out = tmp_path / "a.f32"
    with start("run", "--raw", "-o", out) as process:
        process.stdin.write(speech.tobytes())
        wait_for_output(tmp_path)
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stderr.read() == b""
    assert list(tmp_path.iterdir()) == []


def test_stdin_and_stdout_may_be_named_in_a_row(wav, tmp_path, capsys):
    data = wav.read_bytes()
    assert run_command("run", "-", "-", stdin=data).stdout == run_command("run", stdin=data).stdout
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run", str(wav), str(tmp_path / "out.f32")])
    assert "unexpected second file name; name the output with -o" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "extract"])
def test_raw_samples_of_any_name_on_a_terminal(speech, tmp_path, monkeypatch, command):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    (tmp_path / "speech.dat").write_bytes(speech.tobytes())
    out = tmp_path / "out.f32"
    assert cli.main([command, "--raw", str(tmp_path / "speech.dat"), "-o", str(out)]) == 0
    assert len(rows(out.read_bytes())) == len(speech) // 320


def test_what_nohup_has_started_outlives_its_terminal(tmp_path, speech):
    out = tmp_path / "a.f32"
    with start("run", "--raw", "-o", out, ignored=["HUP"]) as process:
        process.stdin.write(speech.tobytes())
        wait_for_output(tmp_path)
        process.send_signal(signal.SIGHUP)
        process.stdin.close()
        assert process.wait(20) == 0
    assert len(rows(out.read_bytes())) == len(speech) // 320


# -- closed streams


def without(stream, *words):
    """Run a command with stdout or stderr closed, as daemons are started."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {stream}>&-', "sh", *COMMAND, *map(str, words)],
        capture_output=True,
        check=False,
    )


def test_a_closed_stderr_puts_no_message_into_the_data(tmp_path, wav):
    assert without(2, "run", wav, "-o", tmp_path / "a.f32").returncode == 0
    assert (tmp_path / "a.f32").stat().st_size == 87 * 80
    done = without(2, "encode", wav)
    assert done.returncode == 0 and len(done.stdout) == 87 * 4


def test_version_into_a_closed_pipe_ends_quietly():
    done = subprocess.run(
        ["sh", "-c", '{ "$@"; echo $? >&2; } | true', "sh", *COMMAND, "--version"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.stderr.strip() in ("0", str(system.EXIT_BROKEN_PIPE))  # it may be the quicker one


@pytest.mark.parametrize("format", ["f32", "npy", "npz"])
def test_info_reads_pipes(wav, format):
    vectors = run_command("run", wav, "--format", format).stdout
    told = run_command("info", "-", "--format", format, stdin=vectors)
    assert told.returncode == 0, told.stderr
    assert [b"frames", b"87"] in [line.split() for line in told.stdout.splitlines()]
    assert run_command("info", "-", stdin=wav.read_bytes()).stdout.startswith(b"kind        audio")
    assert run_command("info", "-", stdin=b"PK no").stderr.startswith(b"codec2-eq: error: stdin: ")


def test_the_suffix_of_a_file_goes_before_the_format_of_a_pipe(tmp_path, wav):
    archive = run_command("extract", wav, "--format", "npz").stdout
    out = tmp_path / "a.f32"
    assert run_command("equalise", "-o", out, "--format", "npz", stdin=archive).returncode == 0
    assert out.stat().st_size == 87 * 80


# -- terminals


def on_terminal(words, stdin=subprocess.DEVNULL):
    """Run a command with stdout and stderr on a terminal; return code and what it showed."""
    ours, theirs = open_terminal(24, 80)
    with subprocess.Popen([*COMMAND, *words], stdin=stdin, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 20)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        code = process.wait(20)
    os.close(ours)
    return code, shown.decode()


def test_binary_output_is_refused_on_a_terminal(wav):
    code, shown = on_terminal(["extract", str(wav)])
    assert code == 1
    assert "stdout: is a terminal, and the output is binary" in shown


def test_long_work_draws_a_bar_and_short_work_none(tmp_path, speech):
    long = tmp_path / "long.wav"
    soundfile.write(long, np.resize(speech, int(8000 * (progress.LONG_S + 1))), 8000)
    code, shown = on_terminal(["extract", str(long), "-o", str(tmp_path / "a.f32")])
    assert code == 0 and "100%|" in shown and "/0.17 h" in shown
    short = tmp_path / "short.wav"
    soundfile.write(short, speech, 8000)
    code, shown = on_terminal(["extract", str(short), "-o", str(tmp_path / "b.f32")])
    assert code == 0 and "%|" not in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_of_steps_lets_lines_through(monkeypatch, capfd, terminal):
    monkeypatch.setattr("codec2_eq.messages.shows_progress", lambda: terminal)
    with progress.StepBar() as bar:
        bar.tell("resuming")
        bar.step(3, 8)
        bar.tell("an epoch")
        bar.step(8, 8)
    shown = capfd.readouterr().err
    assert ("3/8, " in shown and " left" in shown) == terminal
    lines = [line.rpartition("\r")[2] for line in shown.split("\n")]
    assert lines[:2] == ["resuming", "an epoch"]
