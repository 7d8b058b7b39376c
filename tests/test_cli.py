# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands do what the library does, and bad input gets one line."""

import json
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
from codec2_eq.records import remove_mean

CLASSIC = ["none", "mean", "mean_removal", "700c", "cmn"]


def rows(data):
    return np.frombuffer(data, "<f4").reshape(-1, 20)


# -- the commands do what the library does


@pytest.mark.parametrize("frame_ms", [10, 20, 40])
def test_extract_writes_what_extract_returns(tmp_path, speech, wav, frame_ms, capsys):
    out = tmp_path / "a.f32"
    assert cli.main(["extract", str(wav), "-o", str(out), "--frame-ms", str(frame_ms)]) == 0
    expected = ce.extract(speech, frame_ms=frame_ms)
    np.testing.assert_array_equal(ce.read_vectors(out), expected.vectors)
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{out}: {len(expected)} vectors, {len(expected) * frame_ms / 1000:.2f} s" in told.err


@pytest.mark.parametrize("model", CLASSIC)
def test_run_is_extract_then_equalise(tmp_path, speech, wav, model):
    raw, two, one = (str(tmp_path / name) for name in ("raw.f32", "two.f32", "one.f32"))
    assert cli.main(["extract", str(wav), "-o", raw]) == 0
    assert cli.main(["equalise", raw, "-o", two, "-m", model]) == 0
    assert cli.main(["run", str(wav), "-o", one, "-m", model]) == 0
    expected = ce.load_equaliser(model)(ce.extract(speech).vectors)
    np.testing.assert_array_equal(ce.read_vectors(one), expected)
    np.testing.assert_array_equal(ce.read_vectors(two), expected)


def test_npz_tells_all_and_its_frame_interval_is_kept(tmp_path, speech, wav):
    raw, out = str(tmp_path / "raw.npz"), str(tmp_path / "out.npz")
    assert cli.main(["extract", str(wav), "-o", raw, "--frame-ms", "10"]) == 0
    assert cli.main(["equalise", raw, "-o", out, "-m", "700c"]) == 0
    expected = ce.extract(speech, frame_ms=10)
    with np.load(out) as held:
        assert set(held) == {
            "vectors",
            "mean_db",
            "f0_hz",
            "voiced",
            "freqs_hz",
            "frame_ms",
            "model",
        }
        np.testing.assert_array_equal(held["f0_hz"], expected.f0_hz)
        np.testing.assert_array_equal(held["mean_db"], expected.mean_db)
        equaliser = ce.load_equaliser("700c", frame_ms=10)
        np.testing.assert_array_equal(held["vectors"], equaliser(expected.vectors))
        assert held["frame_ms"] == 10 and held["model"] == "700c"


@pytest.mark.parametrize("suffix", ["f32", "npy"])
def test_npz_made_of_vectors_alone_keeps_their_means(tmp_path, speech, wav, suffix):
    raw, out = str(tmp_path / f"raw.{suffix}"), str(tmp_path / "out.npz")
    assert cli.main(["extract", str(wav), "-o", raw]) == 0
    assert cli.main(["equalise", raw, "-o", out, "-m", "cmn"]) == 0
    expected = ce.extract(speech)
    with np.load(out) as held:
        assert set(held) == {"vectors", "mean_db", "freqs_hz", "frame_ms", "model"}
        np.testing.assert_array_equal(held["mean_db"], expected.mean_db)
        np.testing.assert_array_equal(held["freqs_hz"], expected.freqs_hz)


def test_channel_and_rate(tmp_path, samples_dir):
    stereo = str(samples_dir / "dialogue_stereo_16k.wav")
    samples, rate = soundfile.read(stereo, dtype="float32")
    assert (rate, samples.shape[1]) == (16000, 2)
    for channel, expected in (("mix", samples.mean(axis=1)), ("2", samples[:, 1])):
        out = str(tmp_path / f"{channel}.npy")
        assert cli.main(["extract", stereo, "-o", out, "--channel", channel]) == 0
        close = ce.extract(expected.astype(np.float32), rate).vectors
        # the command scales and mixes in another order: an ulp, which a near tie may enlarge
        assert np.mean(np.abs(np.load(out) - close) < 1e-3) > 0.99


def test_jobs_and_formats_do_not_change_the_numbers(tmp_path, wav, speech):
    expected = ce.extract(speech).vectors
    for name in ("a.f32", "b.npy", "c.npz", "d.bin"):
        out = str(tmp_path / name)
        words = ["extract", str(wav), "-o", out, "--jobs", "2"]
        assert cli.main(words + ["--format", "f32"] * (name == "d.bin")) == 0
        if name == "d.bin":
            os.rename(out, out := str(tmp_path / "d.f32"))
        np.testing.assert_array_equal(ce.read_vectors(out), expected)


def test_models_are_listed(capsys):
    assert cli.main(["models"]) == 0
    text = capsys.readouterr().out
    for name in CLASSIC:
        assert f"\n{name}" in "\n" + text
    assert "mean_removal (default)" in text
    assert cli.main(["models", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    network = next(m for m in listed if m["name"] == "mean_removal")
    assert len(network["sha256"]) == 64 and network["figures"] and network["data"]


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("codec2-eq 0.")


def test_every_command_has_a_module_and_help(capsys):
    for name, does in cli.COMMANDS.items():
        with pytest.raises(SystemExit) as left:
            cli.main([name, "--help"])
        assert left.value.code == 0
        assert does[1:20] in " ".join(capsys.readouterr().out.split())


# -- libcodec2's own numbers


@pytest.mark.oracle
def test_700c_equals_c2enc_with_eq(tmp_path, c2enc, codec2_examples):
    for path in codec2_examples[:6]:
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 8000
        samples.tofile(tmp_path / "a.raw")
        subprocess.run(
            [
                c2enc,
                "700C",
                tmp_path / "a.raw",
                tmp_path / "a.c2",
                "--eq",
                "--mlfeat",
                tmp_path / "feat",
                tmp_path / "model",
            ],
            check=True,
            capture_output=True,
        )
        theirs = np.fromfile(tmp_path / "feat", "<f4").reshape(-1, 201)[:, 1:21]
        done = run_command("run", path, "-m", "700c")
        assert done.returncode == 0
        np.testing.assert_allclose(rows(done.stdout)[: len(theirs)], theirs, rtol=0, atol=1e-4)


@pytest.mark.oracle
def test_mean_removal_on_real_speech_is_the_mean(codec2_examples):
    off, shapes = [], []
    for path in codec2_examples:
        vectors = ce.extract_file(path).vectors
        flat = ce.load_equaliser("mean_removal")(vectors)
        off.append(np.abs(flat.mean(axis=1)).max())
        shapes.append(flat - remove_mean(vectors)[1])
    assert max(off) < 0.01
    assert np.sqrt(np.mean(np.concatenate(shapes) ** 2)) < 0.01


# -- errors: one line, exit 1, nothing lost


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
        (["info", "DIR/cut.npz"], "cut.npz: begins as a ZIP archive and is none"),
        (["info", "DIR/cut.keras"], "cut.keras: begins as a ZIP archive and is none"),
        (["info", "DIR/empty.npy"], "empty.npy: not a .npy array"),
        (["batch", "DIR/ok.wav", "-o", "DIR/c", "--summary", "DIR/no/s"], "folder does not exist"),
        (["batch", "DIR/ok.wav", "-o", "DIR/c", "--summary", "DIR/there.f32"], "is no summary"),
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


def test_force_overwrites(tmp_path, wav):
    out = tmp_path / "a.f32"
    out.write_bytes(b"old")
    assert cli.main(["extract", str(wav), "-o", str(out), "-f"]) == 0
    assert out.stat().st_size > 3


def test_a_full_disk_is_told(wav):
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


# -- what it prints, and where


def test_warnings_go_to_stderr_under_our_name(tmp_path, speech, wav):
    cut = tmp_path / "cut.wav"
    cut.write_bytes(wav.read_bytes()[:20_000])
    done = run_command("extract", cut, "-o", tmp_path / "a.f32")
    assert done.returncode == 0
    assert done.stderr.startswith(f"codec2-eq: warning: {cut}: ends after ".encode())


@pytest.mark.parametrize("command", ["run", "filter"])
def test_resampled_audio_ends_in_silence(command, samples_dir, tmp_path):
    out = tmp_path / ("a.f32" if command == "run" else "a.wav")
    done = run_command(command, samples_dir / "dialogue_stereo_16k.wav", "-o", out, "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_names_cannot_command_a_terminal(samples_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("\x1b]0;title\x07\x1b[2J\r.wav", os.fsdecode(b"b\xff\xfe.wav")):
        with open(name, "wb") as out:
            out.write(b"junk" * 10)
        shown = name.encode("unicode_escape").decode()
        for words in (
            ["run", name, "-m", "none", "-o", "a.f32"],
            ["info", name],
            ["encode", name, "-o", "a.c2"],
            ["batch", name, "-m", "none", "-o", f"out{len(name)}"],
            ["check", name, name],
        ):
            assert cli.main(words) == 1
            captured = capsys.readouterr()
            assert shown in captured.err
            text = (captured.err + captured.out).replace("\n", "")
            assert text.isprintable()
        shutil.copy(samples_dir / "espeak_male_1.wav", name)
        vectors = name[:-3] + "f32"
        assert cli.main(["run", name, "-m", "none", "-o", vectors]) == 0
        assert cli.main(["encode", name, "-m", "none", "-o", name[:-3] + "c2"]) == 0
        assert cli.main(["vq", "quantise", vectors, "-o", "q.f32", "-f"]) == 0
        assert cli.main(["check", name]) in (0, 3)
        captured = capsys.readouterr()
        assert (captured.err + captured.out).replace("\n", "").isprintable()


def test_the_environment_changes_no_byte_and_prints_nothing(samples_dir, tmp_path):
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.sin(np.arange(30000) * 0.1) * 0.4, 22050)
    hostile = {
        "SOXR_LARGE_DFT_SIZE": "17",
        "SOXR_TRACE": "5",
        "SOXR_NUM_THREADS": "3",
        "LC_ALL": "tr_TR.UTF-8",
        "LANG": "C",
        "OMP_NUM_THREADS": "7",
        "OPENBLAS_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "PYTHONWARNINGS": "always",
        "NPY_PROMOTION_STATE": "weak_and_warn",
    }
    command = [*COMMAND, "run", str(wav), "-m", "channel_eq"]
    plain, odd = (
        subprocess.run(command, capture_output=True, env={**os.environ, **more})
        for more in ({}, hostile)
    )
    assert plain.stdout == odd.stdout and len(plain.stdout) > 2000
    assert plain.stderr == odd.stderr == b""


def test_the_locale_changes_no_name_in_a_corpus(tmp_path, speech):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "hör.wav", speech, 8000)
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    manifests = []
    for number, more in enumerate(({}, latin)):
        out = tmp_path / str(number)
        words = ["batch", str(tmp_path / "in"), "-o", str(out), "-m", "cmn", "--layout", "kaldi"]
        done = subprocess.run([*COMMAND, *words], env={**os.environ, **more}, capture_output=True)
        assert done.returncode == 0
        manifests.append((out / "manifest.jsonl").read_bytes())
    assert manifests[0] == manifests[1] and b"h\\u00f6r" in manifests[0]
