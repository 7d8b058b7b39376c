# SPDX-License-Identifier: LGPL-2.1-or-later
"""Restoring clipped peaks, against the samples that were clipped and dense least squares."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from scipy.signal import lfilter

import codec2_eq as ce
from codec2_eq import cli
from codec2_eq.audio.declip import Declipper

ORDER = 16


def vowel(rate=8000, peak=50_000.0, seconds=1.0):
    """Return a whispered vowel, three formants, (n,) float32."""
    samples = np.random.default_rng(1).normal(0, 1, int(rate * seconds))
    for hz, width in ((500, 60), (1500, 100), (2500, 160)):
        radius = np.exp(-np.pi * width / rate)
        samples = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * hz / rate), radius**2], samples)
    return (samples * peak / np.abs(samples).max()).astype(np.float32)


def clip(samples):
    return np.clip(np.rint(samples), -32768, 32767).astype(np.float32)


def restored(samples, rate=8000, cuts=()):
    declipper = Declipper(rate)
    parts = [declipper.process(part) for part in np.split(samples, sorted(cuts))]
    return np.concatenate([*parts, declipper.flush()])


@pytest.mark.parametrize("rate", [8000, 48000])
def test_most_of_what_was_clipped_comes_back(rate):
    speech = vowel(rate)
    out = restored(clip(speech), rate)
    lost = np.abs(speech) > 32768
    assert lost.sum() > 20
    left = np.square(out - speech)[lost].mean() / np.square(clip(speech) - speech)[lost].mean()
    assert left < 0.2
    np.testing.assert_array_equal(out[~lost], clip(speech)[~lost])


def test_a_run_is_the_least_squares_prediction():
    clipped = np.random.default_rng(4).normal(0, 3000, 300).astype(np.float32)
    clipped[150:155] = 32767
    first, n, back, ahead = 150, 5, 128, 24
    around = clipped[first - back : first + n + ahead].astype(float)
    place = (2 * np.arange(len(around)) + 1 - len(around)) / len(around)
    windowed = around * (1 - place**2)
    lags = np.correlate(windowed, windowed, "full")[len(around) - 1 :][: ORDER + 1]
    lags[0] *= 1 + 1e-4
    predictor = np.concatenate([[1], np.linalg.solve(toeplitz(lags[:-1]), -lags[1:])])
    errors = toeplitz(np.pad(predictor, (0, len(around) - 1)), np.zeros(len(around)))
    run = slice(back, back + n)
    known = around.copy()
    known[run] = 0
    found = np.linalg.lstsq(errors[:, run], -errors @ known, rcond=None)[0]
    expected = np.clip(found, 32767, 2 * 32767)
    np.testing.assert_allclose(restored(clipped)[first : first + n], expected, rtol=1e-5)


def test_what_is_not_clipped_stays_bit_for_bit():
    for samples in (np.rint(vowel(peak=32_766)), vowel(peak=80_000), np.zeros(0, np.float32)):
        np.testing.assert_array_equal(restored(samples), samples)


def test_samples_become_no_smaller_and_at_most_twice_as_large():
    clipped = clip(vowel(48000, peak=200_000))
    clipped[clipped == 0] = 1
    ratio = restored(clipped, 48000) / clipped
    assert ratio.min() == 1
    assert ratio.max() == 2


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 8000), max_size=60))
def test_any_division_gives_the_same(cuts):
    clipped = clip(vowel(peak=100_000))
    np.testing.assert_array_equal(restored(clipped, cuts=cuts), restored(clipped))


def test_samples_wait_for_at_most_6_ms():
    declipper = Declipper(8000)
    tops = np.where(np.arange(4000) % 60 < 24, 32767, 0).astype(np.float32)  # of 3 ms
    n_out, waiting = 0, []
    for n_in, sample in enumerate(tops, 1):
        n_out += len(declipper.process(np.array([sample])))
        waiting.append(n_in - n_out)
    assert max(waiting) == 47


def test_long_runs_stay():
    tops = np.where(np.arange(4000) % 60 < 25, 32767, 0).astype(np.float32)
    np.testing.assert_array_equal(restored(tops, cuts=range(0, 4000, 10)), tops)


def test_encode_restores_before_resampling_what_files_and_arrays_bring(tmp_path, capsys):
    speech = vowel(48000)
    pcm = clip(speech).astype(np.int16)
    soundfile.write(tmp_path / "clipped.wav", np.stack([pcm, pcm], axis=1), 48000)
    cli.main(["encode", str(tmp_path / "clipped.wav"), "-o", str(tmp_path / "stream.raw")])
    capsys.readouterr()
    bits = ce.encode(pcm, 48000)
    assert (tmp_path / "stream.raw").read_bytes() == bits
    encoder = ce.StreamEncoder(rate=48000)
    parts = [encoder.process(part) for part in np.array_split(pcm, 50)]
    assert b"".join(parts) + encoder.flush() == bits
    restored_before = restored(pcm.astype(np.float32), 48000)
    assert ce.encode(restored_before / 32768, 48000) == bits
    assert restored_before.max() > 40_000


def test_codec2s_own_streams_take_clipped_speech_as_it_is():
    speech = clip(vowel())
    assert ce.encode(speech.astype(np.int16), model="700c", knots="fit") != ce.encode(
        restored(speech) / 32768, model="700c", knots="fit"
    )
