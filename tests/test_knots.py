# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fitted knots against dense least squares, in any division, and what their look-ahead costs."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_extraction import assert_same

import codec2_eq as ce
from codec2_eq.analysis import blocks
from codec2_eq.analysis.knots import MAX_LOOK_AHEAD, KnotFitter
from codec2_eq.audio.stream import read_audio
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import Fitter

TOL_DB = 1e-3
FAR = 12
"""Knots of look-ahead after which nothing changes."""


def lines(n_knots: int, step: int, n_frames: int) -> np.ndarray:
    """(n_frames, n_knots): the shares of the knots in each 10 ms frame, as a decoder draws them."""
    time = np.maximum(np.arange(n_frames) - (step - 1), 0) / step
    left = np.minimum(time.astype(int), n_knots - 1)
    shares = np.zeros((n_frames, n_knots))
    shares[np.arange(n_frames), left] = 1 - (time - left)
    inner = left + 1 < n_knots
    shares[np.flatnonzero(inner), left[inner] + 1] = (time - left)[inner]
    return shares


def lifted(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames below 10 dB raised to that level; levels."""
    level = vectors.mean(axis=1, dtype=float)
    lift = np.maximum(10 - level, 0)
    return vectors + lift[:, None], level + lift


def references(level: np.ndarray) -> np.ndarray:
    """The half decibel that 5 % of the levels are above, after each of them."""
    bins = np.floor((level + 50) * 2)
    return np.array(
        [np.sort(bins[: n + 1])[n - (n + 1) // 20] / 2 - 49.75 for n in range(len(bins))]
    )


def dense_knot(frames: np.ndarray, step: int, look_ahead: int, k: int) -> np.ndarray:
    """Knot k by dense least squares over the frames that it may see.

    An interval has the weights of when the knot before it is settled, or of now.
    """
    raised, level = lifted(frames)
    end = min((k + look_ahead + 1) * step, len(frames))
    knot_before = np.clip(np.arange(end) // step - 1, 0, k)
    settled = np.minimum((knot_before + look_ahead + 1) * step, len(frames)) - 1
    reference = references(frames.mean(axis=1, dtype=float))[settled]
    weight = np.clip(10 ** ((level[:end] - reference + 15) / 20), 0.1, 1)
    return dense_knots(raised[:end], step, weight)[k]


def dense_knots(vectors: np.ndarray, step: int, weight: np.ndarray) -> np.ndarray:
    """Knots by dense least squares over all frames up to the last knot."""
    n_knots = len(vectors) // step
    n_frames = n_knots * step
    root = np.sqrt(weight[:n_frames, None])
    shares = lines(n_knots, step, n_frames)
    return np.linalg.lstsq(root * shares, root * vectors[:n_frames], rcond=None)[0]


def fitted(vectors: np.ndarray, step: int, look_ahead: int) -> np.ndarray:
    fitter = KnotFitter(step, look_ahead)
    rows = vectors.astype(np.float32)
    parts = [fitter.process(rows, rows.mean(axis=1, dtype=np.float32)), fitter.flush()]
    return np.concatenate(parts)


def random_frames(n_frames: int, seed: int = 1) -> np.ndarray:
    """Frames of all levels, below and above the lowest of the energy steps."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 8, (n_frames, 20)) + rng.uniform(-5, 60, (n_frames, 1))


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("look_ahead", [1, 2, 4, FAR])
def test_frames_on_straight_lines_give_their_knots_back(step, look_ahead):
    knots = np.random.default_rng(2).uniform(20, 60, (30, 20))
    frames = lines(30, step, 30 * step) @ knots
    np.testing.assert_allclose(fitted(frames, step, look_ahead), knots, rtol=0, atol=1e-4)


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("look_ahead", [1, 2, 4, FAR])
@pytest.mark.parametrize("n_frames", [1, 3, 4, 7, 8, 203])
def test_each_knot_is_the_dense_solution_of_what_it_may_see(step, look_ahead, n_frames):
    frames = random_frames(n_frames)
    knots = fitted(frames, step, look_ahead)
    assert knots.shape == (n_frames // step, 20)
    for k, knot in enumerate(knots):
        expected = dense_knot(frames, step, look_ahead, k)
        np.testing.assert_allclose(knot, expected, rtol=0, atol=TOL_DB)


@pytest.mark.parametrize("frame_ms", [20, 40])
def test_of_speech_all_of_it_at_once(speech, frame_ms):
    frames = ce.extract(speech, frame_ms=10)
    exact = ce.extract(speech, frame_ms=frame_ms, knots="exact")
    for k in range(0, len(exact), 7):
        expected = dense_knot(frames.vectors, frame_ms // 10, 480 // frame_ms, k)
        np.testing.assert_allclose(exact.vectors[k], expected, rtol=0, atol=TOL_DB)


@pytest.mark.parametrize("frame_ms", [20, 40])
def test_pitch_is_the_picked_frames_and_level_its_own(speech, frame_ms):
    picked = ce.extract(speech, frame_ms=frame_ms)
    fit = ce.extract(speech, frame_ms=frame_ms, knots="fit")
    assert fit.frame_ms == frame_ms and len(fit) == len(picked)
    for name in ("f0_hz", "voiced", "wo", "n_harm"):
        np.testing.assert_array_equal(getattr(fit, name), getattr(picked, name), err_msg=name)
    np.testing.assert_allclose(fit.mean_db, fit.vectors.mean(axis=1), rtol=0, atol=1e-4)
    assert np.abs(fit.vectors - picked.vectors).max() > 1


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.lists(st.integers(0, 2000) | st.sampled_from([0, 1, 79, 80, 320]), max_size=30),
    rate=st.sampled_from([8000, 16000, 11025]),
    frame_ms=st.sampled_from([20, 40]),
    knots=st.sampled_from(["fit", "exact"]),
)
def test_stream_equals_whole_file(sizes, rate, frame_ms, knots):
    samples = np.random.default_rng(1).normal(0, 0.1, sum(sizes) + rate // 5)
    stream = ce.Extractor(rate, frame_ms=frame_ms, knots=knots)
    parts = [stream.process(p) for p in np.split(samples, np.cumsum(sizes))]
    whole = ce.extract(samples, rate, frame_ms=frame_ms, knots=knots)
    assert_same(ce.RateK.join([*parts, stream.flush()]), whole)


def test_jobs_do_not_change_a_bit(monkeypatch, speech):
    monkeypatch.setattr(blocks, "SPAN", 32_000)
    monkeypatch.setattr(blocks, "SAMPLES_ALONE", 12_000)
    samples = np.tile(speech, 6)
    assert_same(ce.extract(samples, knots="fit", jobs=3), ce.extract(samples, knots="fit"))


@pytest.mark.parametrize("command", ["extract", "run"])
def test_file_equals_pipe(command, samples_dir, tmp_path):
    wav, out = samples_dir / "espeak_male_1.wav", tmp_path / "a.f32"
    shell = [sys.executable, "-m", "codec2_eq", command, "--knots", "fit"]
    subprocess.run([*shell, wav, "-o", out], check=True, capture_output=True)
    piped = subprocess.run(shell, input=wav.read_bytes(), check=True, capture_output=True)
    assert piped.stdout == out.read_bytes()
    if command == "extract":
        assert out.read_bytes() == ce.extract_file(wav, knots="fit").vectors.tobytes()


@pytest.mark.parametrize("frame_ms", [20, 40])
def test_a_frame_waits_for_80_ms(speech, frame_ms):
    stream = ce.Extractor(frame_ms=frame_ms, knots="fit")
    n_out = 0
    for n_hops, hop in enumerate(np.split(speech[:16_000], 200), 1):
        n_out += len(stream.process(hop))
        assert n_out == max(0, (n_hops * 10 - 80) // frame_ms)


def test_waiting_frames_are_few(speech):
    fitter = Fitter(40, "fit")
    frames = ce.extract(np.tile(speech, 3), frame_ms=10)
    for start in range(0, len(frames), 7):
        fitter.process(frames[start : start + 7])
        assert len(fitter._picked) <= 2


def test_silence_is_the_lowest_energy_step():
    frames = ce.extract(np.zeros(8000, np.int16), knots="fit")
    # the first frames still hold the ones with which the analysis begins
    np.testing.assert_allclose(frames.mean_db[3:], 10, atol=1e-4)


def interpolation_error(vectors: np.ndarray, knots: np.ndarray, weight: np.ndarray) -> float:
    n_frames = len(knots) * 4
    error = (lines(len(knots), 4, n_frames) @ knots - vectors[:n_frames]) ** 2
    return float((weight[:n_frames, None] * error).sum())


@pytest.mark.parametrize("gain", [1, 0.125, 2])
def test_80_ms_and_a_running_percentile_cost_next_to_nothing(sample_files, gain):
    """Against the exact solution with weights by the true 95th percentile of the recording."""
    errors = np.zeros(3)
    for path in sample_files:
        samples = read_audio(path) * np.float32(gain / 32768)
        raised, level = lifted(ce.extract(samples, frame_ms=10).vectors)
        below = level - np.percentile(level, 95)
        weight = np.clip(10 ** ((below + 15) / 20), 0.1, 1)
        for i, knots in enumerate(
            (
                raised[3::4],
                ce.extract(samples, knots="fit").vectors,
                dense_knots(raised, 4, weight),
            )
        ):
            errors[i] += interpolation_error(raised, knots, weight)
    picked, fit, best = errors
    assert best < 0.75 * picked
    assert (picked - fit) / (picked - best) > 0.98


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knots": "fit", "frame_ms": 10}, "knots 'fit': no frames lie between .*; choose 20 or"),
        ({"knots": "guess"}, "knots 'guess': expected one of pick, fit, exact"),
    ],
)
def test_what_cannot_be_fitted_is_refused(speech, options, message):
    for call in (ce.extract, lambda _, **given: ce.Extractor(**given)):
        with pytest.raises(Codec2EqError, match=message):
            call(speech, **options)


@pytest.mark.parametrize("command", ["extract", "run", "batch"])
def test_10_ms_is_a_usage_error(command, samples_dir, tmp_path, capsys, monkeypatch):
    from codec2_eq.cli import main

    monkeypatch.setattr("codec2_eq.messages._prefix", None)  # and so again when the test is over
    words = [command, str(samples_dir), "-o", str(tmp_path / "out"), "--knots", "fit"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--frame-ms", "10"])
    assert caught.value.code == 2
    assert "error: --knots fit: needs --frame-ms 20 or 40" in capsys.readouterr().err


def test_a_fitter_refuses_what_it_cannot_hold():
    for step, look_ahead, message in (
        (0, 2, "step 0: expected"),
        (4, 0, "look_ahead 0"),
        (4, MAX_LOOK_AHEAD + 1, f"expected 1 to {MAX_LOOK_AHEAD} knots"),
    ):
        with pytest.raises(ValueError, match=message):
            KnotFitter(step, look_ahead)
    with pytest.raises(ValueError, match="3 vectors of 19, 3 means"):
        KnotFitter(4, 2).process(np.zeros((3, 19), np.float32), np.zeros(3, np.float32))
