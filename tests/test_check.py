# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults planted in clean speech are found, and clean speech is left in peace."""

import json
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
import soxr

from codec2_eq.audio.resample import MAX_RATE_HZ
from codec2_eq.bench.shaping import SHAPINGS, load_shaping, low_pass, minimum_phase
from codec2_eq.cli import main
from codec2_eq.inspection.faults import find_faults
from codec2_eq.inspection.measurements import examine
from codec2_eq.inspection.meters import LevelMeter, PeakMeter, SpectrumMeter

RATE_HZ = 8000
SECONDS = 12
CASES = 200
CLEAN_SPEAKERS = (
    "asterisk-fr-june",
    "klettres-lt",
    "ktuberling-lt",
    "warzone-tutorial",
    "warzone-taunt3",
)
"""Validation speakers whose recordings have no fault that an ear or a spectrum finds."""


def figures_of(samples, rate=RATE_HZ):
    block = 32768 * (samples if samples.ndim == 2 else samples[:, None])
    return examine([block.astype(np.float32)], name="test", rate=rate)


def names(samples, rate=RATE_HZ):
    return [fault.name for fault in find_faults(figures_of(samples, rate))]


# -- the meters, on what has a known answer


def test_a_sine_has_the_level_it_has():
    meter = LevelMeter(RATE_HZ)
    meter.process(0.1 + 0.5 * np.sin(2 * np.pi * 1000 / RATE_HZ * np.arange(RATE_HZ)))
    assert meter.percentile_dbfs(50) == pytest.approx(10 * np.log10(0.125), abs=0.5)


def test_a_spectrum_has_the_power_of_its_signal():
    meter = SpectrumMeter(RATE_HZ)
    rng = np.random.default_rng(1)
    meter.process(0.1 * rng.standard_normal(20 * RATE_HZ))
    assert meter.above(-60).sum() == pytest.approx(0.01, rel=0.03)


def test_peaks_are_counted_whatever_the_scale():
    for peak in (0.01, 0.9, 1.0, 7.0):
        meter = PeakMeter()
        rng = np.random.default_rng(1)
        samples = np.clip(peak * rng.standard_normal(10_000), -peak, peak)
        for block in np.array_split(samples, 7):
            meter.process(block)
        held = (samples[1:] == samples[:-1]).sum() / len(samples)
        assert meter.peak == peak
        assert meter.share_held_near_peak(0.001) == held > 0


def test_blocks_do_not_matter():
    rng = np.random.default_rng(2)
    samples = 0.1 * rng.standard_normal((3 * RATE_HZ, 2)).astype(np.float32)
    whole = figures_of(samples).numbers()
    parts = [part * np.float32(32768) for part in np.split(samples, [0, 17, 4000, 4001])]
    in_parts = examine(parts, name="test", rate=RATE_HZ).numbers()
    assert in_parts == whole


def test_a_recording_of_the_highest_rate_and_all_levels_fits_into_memory():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((MAX_RATE_HZ // 10, 1)).astype(np.float32)
    tracemalloc.start()
    examine((gain * noise for gain in np.geomspace(0.1, 10_000, 50)), name="", rate=MAX_RATE_HZ)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 250e6


# -- planted faults


@pytest.fixture(scope="module")
def clean(speech_dir):
    """Clean passages of 12 s, 8 kHz, their speech at -24 dBFS."""
    recordings: dict[str, list] = {}
    for line in (speech_dir / "manifest.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["speaker"] in CLEAN_SPEAKERS and entry["use"] == "validate":
            recordings.setdefault(entry["speaker"], []).append(speech_dir / entry["path"])
    if len(recordings) < len(CLEAN_SPEAKERS):
        pytest.skip("validation speech is missing: run scripts/fetch_speech.py --use validate")
    rng = np.random.default_rng(3)
    return [passage(paths, rng) for paths in recordings.values() for _ in range(4)]


def passage(paths, rng):
    parts, length = [], 0
    for index in rng.permutation(len(paths)):
        samples, rate = sf.read(paths[index])
        parts.append(soxr.resample(samples, rate, RATE_HZ))
        length += len(parts[-1])
        if length > SECONDS * RATE_HZ:
            break
    samples = np.concatenate(parts)
    return samples * 10 ** (-24 / 20) / np.sqrt(np.mean(samples**2))


def clip(x, rng):
    gain = 10 ** (rng.uniform(4, 14) / 20) / np.abs(x).max()
    return rng.choice([0.5, 1]) * np.clip(gain * x, -1, 1)


def hum(x, rng):
    mains = rng.choice([50, 60]) + rng.uniform(-0.1, 0.1)
    t = np.arange(len(x)) / RATE_HZ
    lines = rng.uniform(0.2, 1, 4)
    tone = sum(
        a * np.sin(2 * np.pi * mains * (i + 1) * t + rng.uniform(0, 6)) for i, a in enumerate(lines)
    )
    return x + tone / rms(tone) * rms(x) * 10 ** (-rng.uniform(15, 28) / 20)


def noise(x, rng):
    return x + rng.standard_normal(len(x)) * rms(x) * 10 ** (-rng.uniform(5, 15) / 20)


def low_cut(x, rng):
    corner = rng.uniform(400, 700)
    return filtered(x, lambda hz: np.where(hz < corner, -60.0, 0))


def high_cut(x, rng):
    return filtered(x, low_pass(rng.uniform(1800, 2500), 10))


def silent_channel(x, rng):
    silent = rng.standard_normal(len(x)) * 1e-4
    return np.stack([x, silent] if rng.random() < 0.5 else [silent, x], axis=1)


FAULTS = {
    "clipping": clip,
    "hum": hum,
    "noise": noise,
    "offset": lambda x, rng: x + rng.choice([-1, 1]) * rng.uniform(0.03, 0.2),
    "low-cut": low_cut,
    "high-cut": high_cut,
    "quiet": lambda x, rng: x * 10 ** (-rng.uniform(25, 40) / 20),
    "loud": lambda x, rng: x * 10 ** (rng.uniform(18, 24) / 20),
    "silent-channel": silent_channel,
    "antiphase": lambda x, rng: np.stack([x, -x * rng.uniform(0.7, 1)], axis=1),
    "silence": lambda x, rng: 1e-5 * rng.standard_normal(len(x)),
}


def rms(x):
    return np.sqrt(np.mean(x**2))


def filtered(x, curve):
    return np.convolve(x, minimum_phase(curve))[: len(x)]


def as_int16(x):
    return np.round(np.clip(x, -1, 1 - 2**-15) * 32768) / 32768


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault, clean):
    rng = np.random.default_rng(7)
    found = [
        fault in names(as_int16(FAULTS[fault](clean[i % len(clean)], rng)))
        for i in range(CASES // len(FAULTS) + 2)
    ]
    assert np.mean(found) >= 0.95


@pytest.mark.slow
def test_clean_speech_is_left_in_peace(clean):
    alarms = [names(as_int16(x)) for x in clean]
    assert sum(map(bool, alarms)) <= 0.05 * len(clean), alarms


@pytest.mark.slow
@pytest.mark.parametrize("shaping", SHAPINGS)
def test_the_curve_is_that_of_the_planted_filter(shaping, clean):
    taps = load_shaping(shaping).taps
    gain_db = 20 * np.log10(np.abs(np.fft.rfft(taps, 8192)))
    errors = []
    for x in clean[::4]:
        plain, shaped = figures_of(x), figures_of(np.convolve(x, taps)[: len(x)])
        planted = np.interp(plain.freqs_hz, np.fft.rfftfreq(8192, 1 / RATE_HZ), gain_db)
        error = shaped.curve_db - plain.curve_db - (planted - planted.mean())
        errors.append(rms(error - error.mean()))
    # 6 dB/octave more bass drowns the treble in the floor that rate K puts 50 dB under the peak
    assert np.mean(errors) < (3.5 if shaping == "tilt-6" else 2.5)


# -- the command


@pytest.fixture
def noisy_wav(tmp_path, samples_dir):
    samples, rate = sf.read(samples_dir / "flite_male_2.wav")
    path = tmp_path / "noisy.wav"
    sf.write(path, noise(samples, np.random.default_rng(1)), rate)
    return path


def test_the_command_says_what_to_change(noisy_wav, capsys):
    assert main(["check", str(noisy_wav)]) == 3
    out = capsys.readouterr().out
    assert "noise: noise only" in out and "speak closer" in out


def test_json_has_numbers(noisy_wav, capsys):
    assert main(["check", "--json", str(noisy_wav)]) == 3
    facts = json.loads(capsys.readouterr().out)
    assert facts["snr_db"] < 20 and len(facts["curve_db"]) == 20
    assert [fault["name"] for fault in facts["faults"]] == ["noise"]


def test_a_silent_channel_beside_two_in_antiphase_goes_into_json():
    x = np.random.default_rng(0).normal(0, 0.1, RATE_HZ)
    facts = json.loads(json.dumps(figures_of(np.stack([x, -x, 0 * x], axis=1)).numbers()))
    assert facts["silent_channels"] == [3]
    assert facts["antiphase_channels"] == [1, 2]


def test_a_sample_is_fine(samples_dir):
    assert main(["check", str(samples_dir / "flite_male_2.wav")]) == 0


def test_a_bad_file_is_reported_and_the_others_checked(tmp_path, samples_dir, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    assert main(["check", str(bad), str(samples_dir / "flite_male_2.wav")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"codec2-eq: error: {bad}") and "fine" in printed.out


def test_a_picture(noisy_wav, tmp_path):
    out = tmp_path / "a.png"
    assert main(["check", str(noisy_wav), "--picture", str(out)]) == 3
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.jpg", "name it .png"), ("old.png", "exists already"), ("-", "written as PNG")],
)
def test_a_picture_is_refused_before_the_work(
    noisy_wav, tmp_path, monkeypatch, capsys, name, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.png").touch()
    assert main(["check", str(noisy_wav), "--picture", name]) == 1
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out
    assert not (tmp_path / "old.png").stat().st_size


def test_one_picture_for_one_recording(noisy_wav, capsys):
    assert main(["check", str(noisy_wav), str(noisy_wav), "--picture", "a.png"]) == 1
    assert "check one at a time" in capsys.readouterr().err


def test_nothing_is_silence():
    assert names(np.zeros(0)) == names(np.zeros(RATE_HZ)) == ["silence"]
