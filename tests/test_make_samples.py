# SPDX-License-Identifier: LGPL-2.1-or-later
"""scripts/make_samples.py and the clips it made, which are in samples/."""

import shutil

import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT, load_script

SAMPLES = ROOT / "samples"
TOL_LSB = 1  # the last bit may round differently where another FFT or resampler is built in


make_samples = load_script("scripts/make_samples.py")
CLIP_NAMES = [clip.name for clip in make_samples.CLIPS]
TWIN_NAMES = [(name, twin) for twin in make_samples.TWINS for name in twin.clips]


def read(name):
    samples, rate_hz = sf.read(SAMPLES / f"{name}.wav", dtype="int16")
    return samples, rate_hz


def gain_db(before, after, low_hz, high_hz):
    """Measure the gain between two 8 kHz clips in a band, dB."""
    freqs = np.fft.rfftfreq(len(before), 1 / 8000)
    band = (freqs >= low_hz) & (freqs < high_hz)
    power = [np.sum(np.abs(np.fft.rfft(x.astype(float)))[band] ** 2) for x in (before, after)]
    return 10 * np.log10(power[1] / power[0])


def test_folder_holds_the_clips_and_nothing_else():
    expected = {
        *CLIP_NAMES,
        *(f"{name}_{twin.suffix}" for name, twin in TWIN_NAMES),
        "dialogue_stereo_16k",
    }
    assert {path.stem for path in SAMPLES.glob("*.wav")} == expected
    assert {path.name for path in SAMPLES.iterdir()} == {
        "README.md",
        *(f"{name}.wav" for name in expected),
    }
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 1.5e6


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_clips_are_short_telephone_speech(name):
    info = sf.info(SAMPLES / f"{name}.wav")
    assert (info.samplerate, info.channels, info.subtype) == (8000, 1, "PCM_16")
    assert 2 <= info.duration <= 4
    samples, _ = read(name)
    assert np.abs(samples.astype(int)).max() == pytest.approx(16384, abs=1)


def test_dialogue_has_a_voice_on_each_side():
    samples, rate_hz = read("dialogue_stereo_16k")
    assert rate_hz == 16000
    assert samples.shape[1] == 2
    left, right = np.flatnonzero(samples[:, 0]), np.flatnonzero(samples[:, 1])
    assert left[-1] < right[0]


def test_readme_names_every_clip_with_its_command():
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for path in SAMPLES.glob("*.wav"):
        assert f"| `{path.name}` |" in readme
    for clip in (*make_samples.CLIPS, *make_samples.DIALOGUE):
        assert f"{clip.program} -v" in readme
        assert clip.voice in readme
        assert clip.text in readme
    assert "LGPL-2.1-or-later" in readme


@pytest.mark.parametrize(("name", "twin"), TWIN_NAMES)
def test_twins_come_from_their_clips(name, twin):
    plain, _ = read(name)
    kept, _ = read(f"{name}_{twin.suffix}")
    np.testing.assert_allclose(make_samples.shape(plain, twin), kept, rtol=0, atol=TOL_LSB)
    rms = [np.sqrt(np.mean(x.astype(float) ** 2)) for x in (plain, kept)]
    assert rms[1] == pytest.approx(rms[0], rel=0.01)


@pytest.mark.parametrize("name", make_samples.TWINS[0].clips)
def test_twins_have_the_shape_that_is_promised(name):
    plain, _ = read(name)
    lowpass, highpass, boomy = (read(f"{name}_{twin.suffix}")[0] for twin in make_samples.TWINS)
    octave = gain_db(plain, lowpass, 1900, 2100) - gain_db(plain, lowpass, 950, 1050)
    assert octave == pytest.approx(-3, abs=0.3)
    skirt = gain_db(plain, highpass, 145, 155) - gain_db(plain, highpass, 1000, 1100)
    assert skirt == pytest.approx(-24, abs=1)
    corner = gain_db(plain, highpass, 295, 305) - gain_db(plain, highpass, 1000, 1100)
    assert corner == pytest.approx(-3, abs=0.5)
    boom = gain_db(plain, boomy, 175, 185) - gain_db(plain, boomy, 950, 1050)
    assert boom == pytest.approx(12.6, abs=0.5)  # the low pass has begun at 1 kHz: -0.6 dB


def test_missing_synthesiser_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make_samples.main(["--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("make_samples: error: espeak-ng: not found; install it")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def install(folder, program, script):
    path = folder / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_failing_synthesiser_is_said(tmp_path, monkeypatch, capsys):
    install(tmp_path, "espeak-ng", 'echo "text-to-speech: 9.9"; echo "no voice" >&2; exit $#')
    install(tmp_path, "flite", 'echo "version: flite-2.2-x"; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert make_samples.version_of("espeak-ng") == "9.9"
    assert make_samples.version_of("flite") == "2.2-x"
    assert make_samples.main(["--out", str(tmp_path / "out")]) == 1
    assert "espeak-ng: failed (no voice)" in capsys.readouterr().err


def test_synthesiser_without_version_is_said(tmp_path, monkeypatch):
    install(tmp_path, "flite", "true")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(make_samples.SampleError, match="^flite: did not print its version$"):
        make_samples.version_of("flite")


@pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")),
    reason="espeak-ng and flite are only needed to make the clips anew",
)
def test_clips_can_be_made_anew(tmp_path, capsys):
    assert make_samples.main(["--out", str(tmp_path)]) == 0
    assert "13 files" in capsys.readouterr().err
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    if (tmp_path / "README.md").read_text(encoding="utf-8") != readme:
        pytest.skip("other versions of the synthesisers are installed than made the clips")
    for path in SAMPLES.glob("*.wav"):
        kept, made = (sf.read(p, dtype="int16")[0] for p in (path, tmp_path / path.name))
        np.testing.assert_allclose(made, kept, rtol=0, atol=TOL_LSB, err_msg=path.name)
