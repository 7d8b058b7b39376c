# SPDX-License-Identifier: LGPL-2.1-or-later
import ctypes.util
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec2_eq import analysis
from codec2_eq.audio.stream import read_audio
from codec2_eq.codec2.library import nlp_fir, oracle_mlfeat
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import remove_mean

VARIANTS = analysis.available_variants()
FIELDS = ("vectors", "mean_db", "wo", "n_harm", "voiced")


def analyse(samples, step=4, variant=analysis.ISA):
    arrays = analysis.load_variant(variant).Analyser(step).process(samples.astype(np.float32))
    return dict(zip(FIELDS, arrays, strict=True))


def harmonics(f0_hz, amps, seconds=1.0):
    """Sum of harmonics of f0 with the given peak amplitudes."""
    t = np.arange(int(8000 * seconds)) / 8000
    return sum(a * np.cos(2 * np.pi * f0_hz * (m + 1) * t + m) for m, a in enumerate(amps))


def noise(n, seed, level=3000):
    return np.rint(np.random.default_rng(seed).normal(0, level, n)).clip(-32768, 32767)


def assert_same(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def join(parts):
    columns = zip(*parts, strict=True)
    return {name: np.concatenate(c) for name, c in zip(FIELDS, columns, strict=True)}


# -- analytic truth


@pytest.mark.parametrize("f0_hz", [75, 87.5, 100, 133, 200, 271, 380])
def test_pitch_of_harmonic_tones(f0_hz):
    out = analyse(harmonics(f0_hz, [2000] * int(3600 / f0_hz)))
    found_hz = out["wo"][5:] * 8000 / (2 * np.pi)
    # the last stage of the search steps by 0.25 samples of period
    period = 8000 / f0_hz
    np.testing.assert_allclose(found_hz, f0_hz, rtol=0.3 / period)
    assert out["voiced"][5:].all()
    expected = int(np.pi / out["wo"][-1])
    assert out["n_harm"][-1] in (expected, expected - 1)


@pytest.mark.parametrize("level_db", [-20, 0, 6])
def test_level_of_a_flat_spectrum(level_db):
    # flat harmonics must give flat vectors, and a change of level the same change in every band
    reference = analyse(harmonics(100, [500] * 38))["vectors"][5:]
    out = analyse(harmonics(100, [500 * 10 ** (level_db / 20)] * 38))["vectors"][5:]
    np.testing.assert_allclose(out - reference, level_db, atol=0.01)
    assert np.ptp(reference, axis=1).max() < 1.5


def test_tilt_is_seen_as_tilt():
    flat = analyse(harmonics(100, [500] * 38))["vectors"][-1]
    tilted = analyse(harmonics(100, [500 / (m + 1) for m in range(38)]))["vectors"][-1]
    slope_db = 20 * np.log10(0.1 / analysis.band_centres_hz() * 1000)
    np.testing.assert_allclose(tilted - flat, slope_db, atol=0.7)


def test_band_centres_are_mel_spaced_between_199_8_and_3701_hz():
    centres = analysis.band_centres_hz()
    assert centres[0] == pytest.approx(199.8, abs=0.05)
    assert centres[-1] == pytest.approx(3701.06, abs=0.05)
    mels = 2595 * np.log10(1 + centres / 700)
    np.testing.assert_allclose(np.diff(mels), (2072 - 283) / 19, atol=0.01)


def test_digital_silence_is_150_db_below():
    out = analyse(np.zeros(3200))
    np.testing.assert_array_equal(out["vectors"][1:], -150)
    np.testing.assert_array_equal(out["mean_db"][1:], -150)
    assert not out["voiced"][1:].any()
    # the analysis buffer starts at one, so the first 10 ms are not silent yet
    assert (analyse(np.zeros(80), step=1)["vectors"] > -150).any()


def test_noise_is_mostly_unvoiced_and_a_chirp_is_followed():
    assert analyse(noise(80000, 1))["voiced"].mean() < 0.25
    t = np.arange(24000) / 8000
    f0_hz = 100 + 30 * t
    phase = 2 * np.pi * np.cumsum(f0_hz) / 8000
    chirp = sum(800 * np.cos(m * phase) for m in range(1, 18))
    out = analyse(chirp)
    middle = 40e-3 * np.arange(len(out["wo"])) + 20e-3
    found_hz = out["wo"] * 8000 / (2 * np.pi)
    np.testing.assert_allclose(found_hz[3:], (100 + 30 * middle)[3:], rtol=0.03)
    assert out["voiced"][3:].mean() > 0.95


# -- libcodec2


def assert_equals_oracle(samples, variant):
    oracle = oracle_mlfeat(samples)
    ours = analyse(samples, variant=variant)
    n_frames = len(samples) // 320
    assert len(oracle.mean_db) == n_frames > 0
    np.testing.assert_array_equal(ours["mean_db"], oracle.mean_db)
    np.testing.assert_array_equal(remove_mean(ours["vectors"])[1], oracle.shapes)
    np.testing.assert_array_equal(ours["wo"], oracle.wo)
    np.testing.assert_array_equal(ours["n_harm"], oracle.n_harm)
    np.testing.assert_array_equal(ours["voiced"], oracle.voiced)


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_equal_libcodec2_bit_for_bit(sample_files, variant):
    for path in sample_files:
        assert_equals_oracle(np.rint(read_audio(path)).astype(np.int16), variant)


@pytest.mark.oracle
@pytest.mark.parametrize("variant", VARIANTS)
def test_real_speech_equals_libcodec2_bit_for_bit(codec2_examples, variant):
    for path in codec2_examples:
        samples = read_audio(path)
        assert_equals_oracle(np.rint(samples).astype(np.int16), variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "samples",
    [
        noise(16000, 2),
        noise(16000, 3, level=1),
        noise(16000, 4, level=20000),
        np.zeros(3200),
        np.full(3200, 32767),
        np.where(np.arange(6400) % 37 == 0, 32767, 0),
        np.where(np.arange(6400) % 20 < 10, 32767, -32768),
        np.r_[noise(5000, 5), np.zeros(30000), noise(5000, 6)],
        harmonics(400, [3000] * 9),
        harmonics(50, [300] * 70),
    ],
    ids=["noise", "tiny", "loud", "zero", "constant", "pulses", "square", "gap", "high", "low"],
)
def test_extreme_signals_equal_libcodec2(samples, variant):
    assert_equals_oracle(np.rint(samples).astype(np.int16), variant)


def test_low_pass_of_the_pitch_estimator_is_libcodec2s():
    design = analysis.load_variant("baseline").low_pass_taps()
    np.testing.assert_array_equal(np.array(design, np.float32), nlp_fir())


# -- variants, steps, chunks


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("step", [1, 2, 4])
def test_variants_and_steps_agree(variant, step):
    samples = np.r_[harmonics(120, [900] * 30, 7.0), noise(20000, 7)]
    every = analyse(samples, step=1, variant="baseline")
    some = analyse(samples, step=step, variant=variant)
    assert_same(some, {name: every[name][step - 1 :: step] for name in FIELDS})


@settings(deadline=None, max_examples=25)
@given(
    step=st.sampled_from([1, 2, 4]),
    sizes=st.lists(
        st.integers(0, 3000) | st.sampled_from([0, 1, 79, 80, 81, 320, 50000]),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 9),
)
def test_any_chunks_give_the_same_bits(step, sizes, seed):
    samples = noise(sum(sizes), seed).astype(np.float32)
    analyser = analysis.Analyser(step)
    parts = [analyser.process(chunk) for chunk in np.split(samples, np.cumsum(sizes)[:-1])]
    joined = join(parts)
    assert_same(joined, analyse(samples, step))
    assert len(joined["wo"]) == len(samples) // (80 * step)


def test_a_wrong_guess_of_the_notch_memory_is_repaired():
    # Under a constant the notch's float32 memory settles where it started from, an ulp apart: the
    # run-in from zero never meets it.
    samples = np.full(16 * 32 * 80, 32767, np.float32)
    analyser = analysis.Analyser(4)
    parts = [analyser.process(samples[i : i + 80]) for i in range(0, len(samples), 80)]
    joined = join(parts)
    assert_same(joined, analyse(samples))


def test_state_is_all_that_the_past_leaves():
    samples = noise(8000, 8).astype(np.float32)
    one = analysis.Analyser(2)
    one.process(samples[:4080])
    other = analysis.Analyser(2)
    assert other.state != one.state
    other.state = one.state
    for a, b in zip(one.process(samples[4080:]), other.process(samples[4080:]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.state == other.state


def test_state_is_refused_within_a_hop_and_of_another_size():
    analyser = analysis.Analyser(1)
    with pytest.raises(ValueError, match="expected"):
        analyser.state = b"short"
    analyser.process(np.zeros(81, np.float32))
    with pytest.raises(ValueError, match="1 samples of an incomplete hop"):
        analyser.state  # noqa: B018


def test_only_whole_numbers_of_hops():
    with pytest.raises(ValueError, match="step 3"):
        analysis.Analyser(3)


def test_variant_is_chosen_by_the_environment():
    code = "from codec2_eq import analysis; print(analysis.ISA)"
    for variant in VARIANTS:
        environ = {**os.environ, "CODEC2_EQ_ISA": variant}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == variant
    with pytest.raises(Codec2EqError, match="not an instruction set of this machine"):
        analysis.load_variant("z80")


def test_band_centres_are_those_that_libm_computes():
    name = ctypes.util.find_library("m")
    libm = ctypes.CDLL(name)
    if not hasattr(libm, "exp10f"):
        pytest.skip(f"{name} has no exp10f")
    for function in (libm.exp10f, libm.log10f):
        function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    # codec2 newamp1.c, mel_sample_freqs_kHz and ftomel
    low, high = (np.float32(int(2595 * libm.log10f(1 + hz / 700) + 0.5)) for hz in (200.0, 3700.0))
    step, mel, centres_khz = (high - low) / np.float32(19), low, []
    for _ in range(20):
        centres_khz.append(0.7 * (libm.exp10f(float(mel) / 2595) - 1))
        mel += step
    expected = np.array(centres_khz, np.float32) * np.float32(1000)
    np.testing.assert_array_equal(analysis.band_centres_hz(), expected)
