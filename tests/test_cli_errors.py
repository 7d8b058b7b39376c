# SPDX-License-Identifier: LGPL-2.1-or-later
"""Errors of commands: one line, exit 1, nothing lost."""

import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import COMMAND, run_command

import codec2_eq as ce
from codec2_eq import cli


def fails(capsys, *words):
    """Run a command line that must fail; return its one line."""
    assert cli.main([str(word) for word in words]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("codec2-eq: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract", "DIR/missing.wav"], "missing.wav: no such file"),
        (["extract", "DIR"], "is a directory"),
        (["extract", "DIR/text.wav"], "not audio"),
        (["extract", "DIR/empty.wav"], "empty.wav: "),
        (["extract", "DIR/ok.wav", "--channel", "3"], "channel 3 asked for, has 1 channel"),
        (["extract", "DIR/ok.wav", "--channel", "left"], "expected 'mix' or a number"),
        (["extract", "DIR/nan.wav"], "sample 1000 (at 0.125 s) is NaN or infinite"),
        (["extract", "DIR/slow.wav"], "sample rate 4000 Hz: at least 8000"),
        (["extract", "DIR/ok.wav", "-o", "DIR/a.xyz"], "suffix '.xyz' names no vector format"),
        (["extract", "DIR/ok.wav", "-o", "DIR/a"], "a: has no suffix to name a format; use .f32"),
        (["extract", "DIR/ok.wav", "-o", "DIR/none/a.f32"], "its folder does not exist"),
        (["extract", "DIR/ok.wav", "-o", "DIR/there.f32"], "exists already; pass -f"),
        (["run", "DIR/ok.wav", "-m", "nosuch"], "no equaliser 'nosuch'; there are none, mean"),
        (["run", "DIR/ok.wav", "-m", "DIR/text.npz"], "text.npz: "),
        (["equalise", "DIR/none"], "none: no such file"),
        (["equalise", "DIR"], "is a directory"),
        (["vq", "train", "DIR/none"], "none: no such file"),
        (["equalise", "DIR/cut.f32"], "81 bytes are no whole number of rows"),
        (["equalise", "DIR/huge.f32"], "huge.f32: row 1 (counted from 0) has values beyond"),
        (["equalise", "DIR/10ms.npz", "--frame-ms", "40"], "its vectors are 10 ms apart, not 40"),
        (["run", "DIR/loud.wav"], "sample 1000 (at 0.125 s) is over 1,000,000 times full scale"),
        (["info", "DIR/missing"], "missing: no such file"),
        (["info", "DIR/cut.npz"], "cut.npz: starts like a ZIP archive but is not one"),
        (["info", "DIR/cut.keras"], "cut.keras: starts like a ZIP archive but is not one"),
        (["info", "DIR/empty.npy"], "empty.npy: not a .npy array"),
        (["batch", "DIR/ok.wav", "-o", "DIR/c", "--summary", "DIR/no/s"], "folder does not exist"),
        (["batch", "DIR/ok.wav", "-o", "DIR/c", "--summary", "DIR/there.f32"], "is not a summary"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, capsys, speech, words, message):
    soundfile.write(tmp_path / "ok.wav", speech, 8000)
    soundfile.write(tmp_path / "slow.wav", speech, 4000)
    broken = (speech / 32768).astype(np.float32)
    broken[1000] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, 8000, subtype="FLOAT")
    for name in ("text.wav", "text.npz"):
        (tmp_path / name).write_text("not what the name says, by far" * 10)
    (tmp_path / "empty.wav").touch()
    broken[1000] = 1e20
    soundfile.write(tmp_path / "loud.wav", broken, 8000, subtype="FLOAT")
    (tmp_path / "cut.f32").write_bytes(bytes(81))
    for name in ("cut.npz", "cut.keras"):
        (tmp_path / name).write_bytes(b"PK\3\4 and no more")
    (tmp_path / "empty.npy").touch()
    np.repeat([1, 1e18], 20).astype("<f4").tofile(tmp_path / "huge.f32")
    with ce.VectorWriter(tmp_path / "10ms.npz", frame_ms=10) as writer:
        writer.write(np.zeros((3, 20), np.float32))
    (tmp_path / "there.f32").write_bytes(b"precious")
    before = sorted(tmp_path.rglob("*"))
    words = [word.replace("DIR", str(tmp_path)) for word in words]
    if words[0] != "info" and "-o" not in words:
        words += ["-o", str(tmp_path / "out.f32")]
    assert message in fails(capsys, *words)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.f32").read_bytes() == b"precious"


def test_a_file_is_no_folder(wav, capsys):
    assert "is a file; name a folder" in fails(capsys, "export", "channel_eq", "--c", wav)


def test_an_output_may_be_the_input(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech, 8000)
    words = [str(tmp_path / "a.wav"), "-o"]
    assert cli.main(["filter", *words, str(tmp_path / "b.wav")]) == 0
    assert cli.main(["filter", *words, str(tmp_path / "a.wav"), "-f"]) == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("words", "both"),
    [
        ("report a.wav b.wav -o ./a.wav", "IN and -o are both a.wav"),
        ("run a.wav -o link.wav", "IN and -o are both a.wav"),
        ("extract link.wav -o a.wav", "IN and -o are both link.wav"),
        ("encode a.wav -o hard.wav", "IN and -o are both a.wav"),
        ("decode a.c2 -o a.c2", "IN and -o are both a.c2"),
        ("check a.wav --picture a.wav", "IN and --picture are both a.wav"),
        ("evaluate a.wav --json hard.wav", "IN and --json are both a.wav"),
        ("vq train a.f32 b1.f32 -o b", "IN and -o are both b1.f32"),
        ("vq train a.f32 -o b --csv b2.f32", "-o and --csv are both b2.f32"),
        ("vq quantise a.f32 --indexes a.f32", "IN and --indexes are both a.f32"),
        ("encode a.wav --codebook b1.f32,b2.f32 -o b2.f32", "--codebook and -o are both b2.f32"),
        ("export n.npz --format onnx -o n.npz", "MODEL and -o are both n.npz"),
        ("run a.wav -o b.f32 -m n.npz --save-state n.npz", "MODEL and --save-state are both n.npz"),
        ("equalise a.f32 -o n.npz --load-state n.npz", "--load-state and -o are both n.npz"),
        ("filter a.wav -o b.wav --curve hard.wav", "IN and --curve are both a.wav"),
        ("run x,b.wav -o x,b.wav", "IN and -o are both x,b.wav"),
    ],
)
def test_no_command_overwrites_its_own_input(tmp_path, monkeypatch, capsys, words, both):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav", "x,b.wav", "a.c2", "a.f32", "b1.f32", "b2.f32", "n.npz"):
        (tmp_path / name).write_text(name)
    os.link("a.wav", "hard.wav")
    os.symlink("a.wav", "link.wav")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit, match="2"):
        cli.main([*words.split(), "-f"])
    assert f"{both}; name two files" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "words", ["vq train a -o a", "encode a -o 700c", "run a -o n -m n", "run x,a -o a"]
)
def test_what_is_no_file_that_is_read_may_be_written(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "700c", "n"):
        (tmp_path / name).write_text(name)
    assert "two files" not in fails(capsys, *words.split())


def test_force_overwrites(tmp_path, wav):
    out = tmp_path / "a.f32"
    out.write_bytes(b"old")
    assert cli.main(["extract", str(wav), "-o", str(out), "-f"]) == 0
    assert out.stat().st_size > 3


def test_a_full_disk_is_an_error_in_one_line(wav):
    done = run_command("extract", wav, "-o", "/dev/full", "--format", "f32")
    assert done.returncode == 1
    assert (
        done.stderr == b"codec2-eq: error: /dev/full: disk full; free some space or write "
        b"elsewhere\n"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "models"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.startswith(b"codec2-eq: error: stdout: disk full; free some space")


def test_names_in_letters_that_the_output_lacks_are_escaped(wav, tmp_path):
    shutil.copy(wav, tmp_path / "é.wav")
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    words = [*COMMAND, "check", tmp_path / "é.wav"]
    done = subprocess.run(words, env=ascii_only, capture_output=True)
    assert done.returncode in (0, 3), done.stderr
    assert rb"\xe9.wav: " in done.stdout


def test_training_asks_for_its_packages_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = fails(capsys, "train", "mean_removal", "-o", tmp_path)
    assert message.startswith("codec2-eq: error: train: needs matplotlib, which is not installed;")
    assert not list(tmp_path.iterdir())


def test_newlines_in_names_stay_in_one_line(tmp_path, capsys):
    assert r"a\nb.wav: no such file" in fails(capsys, "extract", tmp_path / "a\nb.wav")


@pytest.mark.parametrize("words", [["extract", "NO"], ["vq", "train", "NO", "-o", "a"]])
def test_debug_shows_the_traceback(capsys, tmp_path, words):
    words = [str(tmp_path / "no.wav") if word == "NO" else word for word in words]
    assert cli.main([*words, "--debug"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told and told.splitlines()[-1].startswith("codec2-eq: error: ")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["extract", "--frame-ms", "30"],
        ["extract", "--jobs", "0"],
        ["run", "a", "b"],
        ["vq", "train", "a.f32", "-o", "a", "--sizes", "8,x"],
        ["batch", "a", "-o", "-"],
        ["batch", "@-", "--scp", "-", "-o", "a"],
        ["batch", "a", "-o", "b", "--with", "records"],
        ["batch", "a", "-o", "b", "--layout", "kaldi", "--format", "npz"],
        ["batch", "a", "-o", "b", "--passes", "2", "--speakers", "folder", "--before-floor"],
        ["run", "a.wav", "-o", "a.npz", "--save-state", "./a.npz"],
        ["equalise", "a.f32", "--save-state", "a.f32", "-f"],
        ["encode", "a.wav", "-o", "a.c2", "--save-state", "a.c2"],
        ["filter", "a.wav", "-o", "b.wav", "--save-state", "c.csv", "--curve", "c.csv"],
    ],
)
def test_usage_errors_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert "usage: codec2-eq" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["batch WAV -o ''", "run '' -o a.f32", "filter WAV -o a.wav --curve ''", "export cmn --c ''"]
    + ["vq train a.f32 -o '' --sizes 2", "batch WAV -o out --speakers ''", "encode WAV --output="],
)
def test_variables_that_are_not_set(tmp_path, monkeypatch, wav, words, capsys):
    """Empty words would mean the current folder, or nothing."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main([{"WAV": str(wav)}.get(word, word) for word in shlex.split(words)]) == 1
    assert "an argument is empty; is a variable not set?" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_no_command_prints_the_help(capsys):
    assert cli.main([]) == 2
    assert "extract" in capsys.readouterr().err
