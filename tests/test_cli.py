# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands do what the library does, and print it where it belongs."""

import json
import os
import shutil
import subprocess

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


@pytest.mark.parametrize("words", [["run", "--\x1b[2J.wav"], ["\x1b[2J"], ["run", "a", "b\x9b2J"]])
def test_usage_errors_cannot_command_a_terminal(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert capsys.readouterr().err.replace("\n", "").isprintable()


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
