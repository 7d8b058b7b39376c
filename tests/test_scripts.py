# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scripts that make what is looked at and listened to."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import load_script
from matplotlib.colors import to_rgb
from PIL import Image

from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.measures import speech_activity
from codec2_eq.bench.speech import analyse
from codec2_eq.errors import Codec2EqError
from codec2_eq.report.loudness import LEVEL_DBFS, active_level_dbfs

SCRIPTS = Path(__file__).parent.parent / "scripts"
WITHIN_DB = 1.0


@pytest.fixture
def wav(samples_dir):
    return str(samples_dir / "flite_male_1.wav")


def test_listening_proof_is_at_one_level_and_channel_eq_comes_nearest(
    codec2_examples, tmp_path, capsys
):
    (wav,) = (str(path) for path in codec2_examples if path.stem == "hts1a")
    proof = load_script("scripts/listening_proof.py")
    proof.main([wav, "-o", str(tmp_path)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rows) == 8
    written = []
    for path in tmp_path.iterdir():
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 8000
        active = speech_activity(analyse(samples).mean(axis=1))
        written.append(active_level_dbfs(samples, active))
    assert max(written) - min(written) < WITHIN_DB
    assert np.mean(written) == pytest.approx(LEVEL_DBFS, abs=0.3)
    away = {model: float(far) for model, version, *_, far in rows if version == "boom"}
    assert list(away) == ["none", "700c", "cmn", "channel_eq"]
    assert away["channel_eq"] < away["700c"] < away["none"]
    assert len(list(tmp_path.glob("*_original.wav"))) == 2
    with pytest.raises(Codec2EqError, match="exists already"):
        proof.main([wav, "-o", str(tmp_path)])


def test_listening_proof_writes_into_its_folder_alone(wav, tmp_path):
    soundfile.write(tmp_path / "room.wav", np.eye(1, 50)[0], 8000, subtype="FLOAT")
    folder = tmp_path / "proof"
    proof = load_script("scripts/listening_proof.py")
    proof.main([wav, "-o", str(folder), "--shaping", f"{tmp_path}/room.wav"])
    assert {path.name for path in tmp_path.iterdir()} == {"room.wav", "proof"}
    assert (folder / "room_channel_eq.wav").is_file()


@pytest.mark.parametrize("name", ["listening_proof", "four_microphones"])
@pytest.mark.parametrize("what", ["missing", "silence", "too short"])
def test_what_is_no_speech_is_an_error_and_leaves_nothing(tmp_path, name, what):
    if what != "missing":
        soundfile.write(tmp_path / "in.wav", np.zeros(100 if what == "too short" else 16000), 8000)
    script = load_script(f"scripts/{name}.py")
    with pytest.raises(Codec2EqError, match=r"in\.wav|of speech"):
        script.main([str(tmp_path / "in.wav"), "-o", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_parity_counts_frames_and_goes_on_after_bad_files(wav, tmp_path, capsys, monkeypatch):
    parity = load_script("scripts/check_parity.py")
    soundfile.write(tmp_path / "a.flac", soundfile.read(wav)[0], 8000)
    assert parity.main([str(tmp_path), wav]) == 0
    assert re.search(r"^2 files, \d{3} frames equal, 0 unequal", capsys.readouterr().out, re.M)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    assert parity.main([str(tmp_path), wav]) == 1
    told = capsys.readouterr()
    assert told.err.count("bad.wav") == 1
    assert "2 files" in told.out
    extract = parity.extract

    def off(samples, **options):
        found = extract(samples, **options)
        found.mean_db[7] = np.nextafter(found.mean_db[7], np.float32(99))
        return found

    monkeypatch.setattr(parity, "extract", off)
    assert parity.main([wav, "-q"]) == 1
    assert "1 unequal" in capsys.readouterr().out


@pytest.mark.oracle
def test_parity_counts_records_of_c2enc(wav, c2enc, capsys, monkeypatch):
    parity = load_script("scripts/check_parity.py")
    assert parity.main([wav, "--c2enc", c2enc]) == 0
    assert re.search(r"^1 files, \d+ frames equal, 0 unequal", capsys.readouterr().out, re.M)
    monkeypatch.setattr("codec2_eq.stream700c.features._FIRST_OF_WINDOW", 408)
    assert parity.main([wav, "--c2enc", c2enc, "-q"]) == 1
    assert " 0 frames equal" in capsys.readouterr().out


@pytest.mark.oracle
def test_parity_counts_frames_of_streams(wav, c2dec, tmp_path, capsys, monkeypatch):
    parity = load_script("scripts/check_parity.py")
    words = [wav, "--streams", "--c2dec", c2dec]
    assert parity.main(words) == 0
    assert re.search(r"^1 files, \d+ frames equal, 0 unequal", capsys.readouterr().out, re.M)
    encode = parity.encode

    def off(samples, model="channel_eq"):
        bits = encode(samples, model=model)
        return bits[:8] + b"\0\0\0\0" + bits[12:] if model == "700c" else bits[:-4]

    monkeypatch.setattr(parity, "encode", off)
    assert parity.main(words) == 1
    assert "frames: " in capsys.readouterr().err
    monkeypatch.setattr(parity, "encode", lambda samples, model: off(samples, "700c"))
    assert parity.main([wav, "--streams", "-q"]) == 1
    assert " 0 frames equal" not in capsys.readouterr().out


@pytest.mark.slow
def test_four_microphones(wav, tmp_path, capsys):
    picture = tmp_path / "four.png"
    load_script("scripts/four_microphones.py").main([wav, "-o", str(picture)])
    before, after = (float(n) for n in re.findall(r"by ([\d.]+) dB", capsys.readouterr().out))
    assert after < 0.7 * before
    colours = np.array(Image.open(picture).convert("RGB")).reshape(-1, 3)
    for line in ("C0", "C1", "C2", "C3"):  # none merged with another's beside so many of the maps
        wanted = 255 * np.array(to_rgb(line))
        assert np.abs(np.unique(colours, axis=0) - wanted).max(axis=1).min() < 20
    with pytest.raises(Codec2EqError, match="exists already"):
        load_script("scripts/four_microphones.py").main([wav, "-o", str(picture)])


def test_short_utterances_are_best_pooled(samples_dir, tmp_path, capsys):
    clips = [read_audio(path) for path in sorted(samples_dir.glob("espeak_male_[0-9].wav"))]
    (tmp_path / "voice").mkdir()
    voice = np.tile(np.concatenate(clips), 15)[: 8000 * 60]
    soundfile.write(tmp_path / "voice" / "a.wav", voice.astype(np.int16), 8000)
    load_script("scripts/short_utterances.py").main([str(tmp_path), "--every", "18"])
    told = capsys.readouterr().out
    assert told.startswith("1 recordings, 1 filters")
    errors = dict(re.findall(r"^([a-z, ]+?) {2,}([\d.]+) ", told, re.M))
    pooled = float(errors["two passes, pooled by speaker"])
    assert pooled < float(errors["each alone, two passes"]) < float(errors["none"])
    assert abs(pooled - float(errors["one recording, two passes"])) < 1.5
    soundfile.write(tmp_path / "voice" / "a.wav", voice[:160_000].astype(np.int16), 8000)
    with pytest.raises(Codec2EqError, match="no recording has 40 s"):
        load_script("scripts/short_utterances.py").main([str(tmp_path), "--every", "18"])


@pytest.mark.slow
def test_comparison_of_installs_counts_what_differs(wav, tmp_path, capsys):
    root = SCRIPTS.parent
    for folder in ("codec2_eq", "models"):
        shutil.copytree(root / folder, tmp_path / folder)
    compare = load_script("scripts/compare_installs.py").main
    assert compare([str(root), str(tmp_path), wav, "-m", "mean"]) == 0
    assert re.search(r", \d+ files, .*: 0 unequal$", capsys.readouterr().out)
    path = tmp_path / "codec2_eq" / "equalisers" / "classic.py"
    text = path.read_text()
    path.write_text(
        text.replace("lambda frame_ms: _ArithmeticMean()", "lambda frame_ms: _Unchanged()")
    )
    assert compare([str(root), str(tmp_path), wav, "-m", "mean"]) == 1
    told = capsys.readouterr().out
    assert "0.40.mean.f32: differs" in told
    assert ".c2" not in told


def test_scripts_find_their_environment_or_say_what_to_do(tmp_path):
    shebang = (SCRIPTS / "check_parity.py").read_text().splitlines()[0]
    programs = [p for p in SCRIPTS.glob("*.py") if os.access(p, os.X_OK)]
    alone = [p.name for p in programs if p.read_text().splitlines()[0] != shebang]
    assert alone == ["compare_installs.py"]  # runs the environments that it is given

    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(SCRIPTS / "python", tmp_path / "scripts")
    script = tmp_path / "scripts" / "hello.py"
    broken, own = tmp_path / "bin" / "python3", tmp_path / ".venv" / "bin" / "python"
    script.write_text(f"{shebang}\nimport sys\nprint('hello', *sys.argv[1:])\n")
    broken.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    broken.chmod(0o755)

    def run():
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(
            [script, "a b"], env=environment, capture_output=True, text=True, cwd=tmp_path
        )

    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}: no Python with codec2_eq; run make demo here")
    own.parent.mkdir(parents=True)
    own.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    own.chmod(0o755)
    assert run().stdout == "hello a b\n"


@pytest.mark.parametrize(
    "script", sorted(path.name for path in SCRIPTS.glob("*.py") if os.access(path, os.X_OK))
)
def test_every_script_has_help(script):
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, "--help"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_cost_of_syncs(tmp_path, wav, capfd):
    load_script("scripts/sync_cost.py").main([wav, "-o", str(tmp_path / "out"), "--pairs", "1"])
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["tree", "shards"]
    assert all(re.search(r" % of time, .* % of CPU, 1 pairs", line) for line in lines)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def rhyme_test():
    return load_script("scripts/rhyme_test.py")


def test_rhyme_test_understands_what_is_clear_or_late_but_not_noise(rhyme_test):
    rng = np.random.default_rng(0)
    swells = [np.interp(np.arange(4000), np.arange(0, 4001, 500), rng.random(9)) for _ in range(24)]
    words = {f"word{i}": swell**3 * rng.normal(0, 0.1, 4000) for i, swell in enumerate(swells)}
    sets = [list(words)[at : at + 6] for at in range(0, 24, 6)]
    recording = rhyme_test.read_out(words, seed=1)
    assert rhyme_test.understood(recording, recording.samples, sets) == 1
    assert rhyme_test.understood(recording, np.roll(recording.samples, 200), sets) == 1
    noise = rng.normal(0, 1000, len(recording.samples))
    assert abs(rhyme_test.understood(recording, noise, sets)) < 0.4
    # each word alone, through an encoder that loses nothing, is as clear
    rhyme_test.decode = lambda stream: np.frombuffer(stream, np.int16)
    heard = rhyme_test.played(recording, lambda speech: speech.tobytes(), alone=True)
    assert rhyme_test.understood(recording, heard, sets) == 1


@pytest.mark.parametrize("how", [[], ["--alone"], ["--noise", "white", "30"]])
def test_rhyme_test_tells_encoders_apart(how, rhyme_test, wav, monkeypatch, capsys):
    speech = read_audio(wav) / 32768
    words = iter(np.array_split(speech, 6))
    monkeypatch.setattr(rhyme_test, "SETS", "a b c d e f")
    monkeypatch.setattr(rhyme_test, "VOICES", [("flite", "rms")])
    monkeypatch.setattr(rhyme_test, "speak", lambda clip, rate_hz: next(words))
    assert rhyme_test.main([*how, *"--shapings boom -m channel_eq:filter codec2:3200".split()]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split() == ["encoder", "boom"]
    scores = {row[:20].strip(): float(row[20:]) for row in rows}
    assert list(scores) == ["c2enc", "c2enc --eq", "channel_eq:filter", "codec2:3200"]
    assert all(0.5 < score <= 1 for score in scores.values())


def test_rhyme_test_rejects_an_unknown_noise(rhyme_test, capsys):
    with pytest.raises(SystemExit):
        rhyme_test.main(["--noise", "pink", "10"])
    assert "--noise pink: choose one of " in capsys.readouterr().err
