# SPDX-License-Identifier: LGPL-2.1-or-later
import concurrent.futures
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import codec2_eq as ce
from codec2_eq.analysis import blocks
from codec2_eq.errors import Codec2EqError

FIELDS = ("vectors", "mean_db", "f0_hz", "voiced", "wo", "n_harm")


def assert_same(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.frame_ms == b.frame_ms


def test_record_describes_the_frames(speech):
    frames = ce.extract(speech)
    assert len(frames) == len(speech) // 320
    assert frames.vectors.shape == (len(frames), 20) and frames.vectors.dtype == np.float32
    np.testing.assert_allclose(frames.f0_hz, frames.wo * 4000 / np.pi, rtol=1e-6)
    np.testing.assert_allclose(frames.mean_db, frames.vectors.mean(axis=1), atol=1e-4)
    assert 60 < np.median(frames.f0_hz[frames.voiced]) < 200  # a man's voice
    assert frames.freqs_hz.shape == (20,) and not frames.freqs_hz.flags.writeable


@pytest.mark.parametrize("frame_ms", [10, 20, 40])
def test_frame_intervals_pick_the_last_frame_of_each(speech, frame_ms):
    every = ce.extract(speech, frame_ms=10)
    some = ce.extract(speech, frame_ms=frame_ms)
    step = frame_ms // 10
    np.testing.assert_array_equal(some.vectors, every.vectors[step - 1 :: step])
    assert len(some) == len(speech) // (80 * step)


def test_sample_types_agree(speech):
    expected = ce.extract(speech)
    assert_same(expected, ce.extract(speech / 32768))
    assert_same(expected, ce.extract(speech.astype(">i2")))
    assert_same(expected, ce.extract(speech.astype(np.int32) * 65536))
    assert_same(expected, ce.extract(speech.astype(np.float32), full_scale=32768))


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.lists(st.integers(0, 2000) | st.sampled_from([0, 1, 79, 80, 320]), max_size=30),
    rate=st.sampled_from([8000, 16000, 11025, 48000]),
)
def test_stream_equals_whole_file(sizes, rate):
    samples = np.random.default_rng(1).normal(0, 0.1, sum(sizes) + rate // 5)
    stream = ce.Extractor(rate)
    parts = [stream.process(p) for p in np.split(samples, np.cumsum(sizes))]
    assert_same(ce.RateK.join([*parts, stream.flush()]), ce.extract(samples, rate))


@pytest.mark.parametrize("jobs", [2, 3])
@pytest.mark.parametrize("frame_ms", [10, 40])
def test_jobs_do_not_change_a_bit(monkeypatch, speech, jobs, frame_ms):
    monkeypatch.setattr(blocks, "SPAN", 32_000)
    monkeypatch.setattr(blocks, "SAMPLES_ALONE", 12_000)
    samples = np.concatenate([speech, np.full(100_000, 12_345, np.int16), speech, speech[:777]])
    assert_same(
        ce.extract(samples, frame_ms=frame_ms, jobs=jobs), ce.extract(samples, frame_ms=frame_ms)
    )


def test_wrong_guesses_of_a_workers_first_state_are_found_out(monkeypatch):
    """The pitch that is tracked stays only for what was before: no worker can guess that."""
    monkeypatch.setattr(blocks, "SPAN", 32_000)
    monkeypatch.setattr(blocks, "SAMPLES_ALONE", 12_000)
    time_s = np.arange(200_000) / 8000
    middle = np.where(time_s < 1, 1, np.linspace(0.24, 0.28, len(time_s)))
    tones = [np.sin(2 * np.pi * hz * time_s) for hz in (400, 600, 500)]
    samples = (3000 * (tones[0] + tones[1] + middle * tones[2])).astype(np.int16)
    alone = ce.extract(samples)
    late = ce.extract(samples[64_000:])
    assert (alone.f0_hz[200:][50:100] != late.f0_hz[50:100]).any()  # the input is of that kind
    assert_same(ce.extract(samples, jobs=2), alone)


def test_short_recordings_use_no_threads(monkeypatch, speech):
    def refuse(*args):
        raise AssertionError("a thread pool for 3 s of speech")

    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", refuse)
    monkeypatch.setattr(blocks, "SAMPLES_ALONE", 80_000)
    with pytest.raises(AssertionError, match="a thread pool"):
        ce.extract(np.tile(speech, 60), jobs=8)
    assert_same(ce.extract(speech, jobs=8), ce.extract(speech))


def test_file_equals_samples(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech, 8000)
    assert_same(ce.extract_file(tmp_path / "a.wav"), ce.extract(speech))
    assert_same(ce.extract_file(tmp_path / "a.wav", jobs=2), ce.extract(speech))


def test_no_audio_gives_no_frames(tmp_path):
    assert len(ce.extract(np.empty(0, np.int16))) == 0
    assert len(ce.extract(np.zeros(319, np.int16))) == 0
    soundfile.write(tmp_path / "empty.wav", np.empty(0, np.int16), 8000)
    assert ce.extract_file(tmp_path / "empty.wav").vectors.shape == (0, 20)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (np.array([0.0, np.nan]), {}, "sample 1 is NaN or infinite"),
        (np.zeros((80, 2, 1)), {}, r"shape \(80, 2, 1\): expected \(n,\) or \(n, channels\)"),
        (np.array([40_000]), {}, r"type int64: expected int16, .*; convert them, say with .astype"),
        (np.array(["a"]), {}, "type <U1: expected int16, int32, uint8 or float"),
        ("a.wav", {}, "a.wav: is the name of a file, not samples; read it with extract_file"),
        (Path("a.wav"), {}, "a.wav: is the name of a file"),
        (np.zeros(80), {"rate": "8000"}, "sample rate '8000'; expected a number of Hz"),
        (np.zeros(80), {"rate": None}, "sample rate None; expected a number"),
        (np.zeros(80), {"rate": 4000}, "4000 Hz: at least 8000 Hz"),
        (np.zeros(80), {"frame_ms": 30}, "30 ms; choose 10, 20 or 40"),
        (np.zeros(80), {"jobs": 0}, "jobs 0: at least one"),
        (np.zeros(80), {"full_scale": 0}, "full scale 0: expected a positive number"),
        (np.zeros(80), {"full_scale": np.nan}, "full scale nan: expected a positive number"),
        (np.array([0.0, 1.0, 1e300]), {}, "sample 2 is over 1,000,000 times full scale"),
    ],
)
def test_bad_input_is_refused_in_one_line(samples, options, message):
    with pytest.raises(Codec2EqError, match=message) as caught:
        ce.extract(samples, **options)
    assert "\n" not in str(caught.value)


def test_a_record_stands_for_its_vectors(speech):
    frames = ce.extract(speech)
    assert np.asarray(frames) is frames.vectors
    equaliser = ce.load_equaliser("cmn")
    np.testing.assert_array_equal(equaliser(frames), equaliser(frames.vectors))  # type: ignore[arg-type]


def test_records_refuse_other_shapes(speech):
    frames = ce.extract(speech)
    for change, message in (
        ({"vectors": frames.vectors[:, :5]}, "expected"),
        ({"mean_db": frames.mean_db[1:]}, "mean_db of shape"),
        ({"frame_ms": 30}, "frame_ms 30"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(frames, **change)
    with pytest.raises(TypeError, match=r"one frame is \[3:4\], its vector .vectors\[3\]"):
        frames[3]  # type: ignore[index]
    with pytest.raises(ValueError, match=r"\[40, 10\] ms apart, one interval expected"):
        ce.RateK.join([frames, ce.extract(speech, frame_ms=10)])


def test_the_package_names_what_it_offers():
    assert set(ce.__all__) <= set(dir(ce))
    for name in ce.__all__:
        assert getattr(ce, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ce.nonsense  # noqa: B018
