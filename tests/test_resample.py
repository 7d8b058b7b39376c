# SPDX-License-Identifier: LGPL-2.1-or-later
"""Resampling to 8 kHz, against sines and soxr."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from codec2_eq.audio import resample
from codec2_eq.audio.resample import Resampler, to_8khz
from codec2_eq.errors import Codec2EqError

RATES_HZ = (8001, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000)


def noise(n_samples):
    """Return noise (n_samples,) over the whole range of int16."""
    rng = np.random.default_rng(0)
    return rng.integers(-32766, 32767, n_samples, dtype=np.int16).astype(np.float32)


@pytest.mark.parametrize("rate", RATES_HZ)
def test_tone_keeps_its_level_and_a_higher_one_vanishes(rate):
    time_s = np.arange(rate) / rate
    for f_hz, gain in ((1000.0, 1.0), (3600.0, 1.0), (4400.0, 0.0)):
        if f_hz >= rate / 2:
            continue
        out = to_8khz((1e4 * np.sin(2 * np.pi * f_hz * time_s)).astype(np.float32), rate)
        assert len(out) == 8000
        expected = 1e4 * gain * np.sin(2 * np.pi * f_hz * np.arange(8000) / 8000)
        middle = slice(500, -500)
        # Passband of soxr's HQ within 0.01 dB up to 3600 Hz; stop band 100 dB down.
        np.testing.assert_allclose(out[middle], expected[middle], rtol=0, atol=12)


@settings(deadline=None, max_examples=60)
@given(
    rate=st.sampled_from((8000, *RATES_HZ)),
    sizes=st.lists(
        st.one_of(st.integers(0, 5), st.integers(0, 20_000)), min_size=1, max_size=12
    ).filter(any),
)
def test_resampling_does_not_depend_on_chunks(rate, sizes):
    samples = noise(rate // 2 + 17)
    resampler = Resampler(rate)
    parts = []
    start = turn = 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        parts.append(resampler.process(samples[start : start + size]))
        start, turn = start + size, turn + 1
    parts.append(resampler.flush())
    np.testing.assert_array_equal(np.concatenate(parts), to_8khz(samples, rate))


@pytest.mark.parametrize("rate", RATES_HZ)
def test_resampler_is_soxr_and_hands_on_early(rate):
    samples = noise(rate)
    np.testing.assert_allclose(
        to_8khz(samples, rate), soxr.resample(samples, rate, 8000), rtol=0, atol=0.1
    )
    resampler = Resampler(rate)
    chunk = rate // 100
    n_out = 0
    for start in range(0, rate - chunk, chunk):
        n_out += len(resampler.process(samples[start : start + chunk]))
        assert (start + chunk) / rate - n_out / 8000 < 0.080


@pytest.mark.parametrize("rate", [*RATES_HZ, 8001, 128_000, 8363.42])
def test_the_end_of_a_stream_has_the_bits_that_soxr_ends_with(rate):
    for n_samples in (1, 100, 5000, int(rate) // 2 + 17):
        samples = noise(n_samples)
        whole = resample._soxr_stream(rate).resample_chunk(samples, last=True)
        np.testing.assert_array_equal(to_8khz(samples, rate), whole)


def test_resampler_starts_afresh_after_a_flush():
    samples = noise(5000)
    resampler = Resampler(16000)
    first = [resampler.process(samples), resampler.flush()]
    second = [resampler.process(samples), resampler.flush()]
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_the_environment_changes_no_sample_and_is_left_alone():
    code = (
        "import os, sys, numpy as np; from codec2_eq.audio.resample import to_8khz\n"
        "before = dict(os.environ)\n"
        "x = np.random.default_rng(0).integers(-9000, 9000, 40000).astype(np.float32)\n"
        "sys.stdout.buffer.write(to_8khz(x, 44100).tobytes())\n"
        "if dict(os.environ) != before: print('environment changed')"
    )
    hostile = {
        "SOXR_LARGE_DFT_SIZE": "17",
        "SOXR_MIN_DFT_SIZE": "15",
        "SOXR_COEFS_SIZE": "100",
        "SOXR_COEF_INTERP": "2",
        "SOXR_NUM_THREADS": "3",
        "SOXR_STRICT_BUF": "1",
        "SOXR_NOSMALLINTOPT": "1",
        "SOXR_USE_SIMD": "0",
        "SOXR_USE_SIMD32": "0",
        "SOXR_TRACE": "5",
        "LC_ALL": "tr_TR.UTF-8",
        "OMP_NUM_THREADS": "7",
        "PYTHONWARNINGS": "error",
    }
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env={**os.environ, **extra}
        )
        for extra in ({}, hostile)
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert len(outputs[0].stdout) == 4 * 7256
    assert outputs[0].stderr == outputs[1].stderr == b""


def test_rates_without_number_keep_few_streams():
    for rate in range(8001, 8001 + 40):
        to_8khz(np.zeros(10, np.float32), rate)
    assert len(resample._idle_streams._idle) <= 8


def test_resampler_refuses_two_dimensions():
    with pytest.raises(ValueError, match=r"shape \(3, 2\): expected \(n_samples,\)"):
        Resampler(16000).process(np.zeros((3, 2)))


@pytest.mark.parametrize("rate", [7999, 0, -1, float("nan"), 1e8])
def test_impossible_rates(rate):
    with pytest.raises(Codec2EqError, match=r"sample rate .* Hz: (at least 8000|at most)"):
        to_8khz(np.zeros(10), rate)
