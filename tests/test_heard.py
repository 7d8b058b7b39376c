# SPDX-License-Identifier: LGPL-2.1-or-later
import ctypes

import numpy as np
import pytest

from codec2_eq.bench import heard
from codec2_eq.bench.heard import Heard, heard_error, spectral_error
from codec2_eq.bench.measures import speech_activity
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.stream700c.codec import encode
from codec2_eq.stream700c.frames import HEADER, pack_frames, unpack_frames


@pytest.fixture(scope="module")
def passage(samples_dir):
    """A sentence: its 10 ms vectors and its plain stream."""
    from codec2_eq.audio.stream import read_audio

    samples = read_audio(samples_dir / "espeak_male_1.wav").astype(np.int16)
    return extract(samples, 8000, frame_ms=10).vectors, encode(samples, model="none")


def all_active(vectors):
    return np.ones(len(vectors), bool)


def test_unquantised_frames_score_nothing(passage):
    vectors, _ = passage
    found = spectral_error(vectors, vectors, speech_activity(vectors.mean(axis=1)))
    assert found.total == 0
    assert found.frames > 100


def test_a_constant_curve_or_gain_changes_nothing(passage):
    vectors, bits = passage
    curve = np.linspace(-20, 30, 20, dtype=np.float32)
    active = speech_activity(vectors.mean(axis=1))
    assert spectral_error(vectors + curve, vectors, active).total == pytest.approx(0, abs=1e-8)
    plain, gained = heard_error(bits, vectors), heard_error(bits, vectors + 5)
    assert gained.total == pytest.approx(plain.total, rel=1e-4)


def test_errors_of_level_and_of_shape_fall_into_their_parts():
    rng = np.random.default_rng(1)
    reference = rng.normal(50, 8, (4000, 20))
    level = rng.normal(0, 2, (4000, 1))
    shape = rng.normal(0, 3, (4000, 20))
    shape -= shape.mean(axis=1, keepdims=True)
    found = spectral_error(reference + level + shape, reference, all_active(reference))
    assert found.level == pytest.approx(4, rel=0.1)
    assert found.shape == pytest.approx(9 * 19 / 20, rel=0.05)
    assert found.total == found.level + found.shape


def test_shuffled_energies_are_caught(passage):
    vectors, bits = passage
    indexes, energies, pitch_codes = unpack_frames(bits)
    shuffled = np.random.default_rng(2).permutation(energies)
    plain = heard_error(bits, vectors)
    worse = heard_error(pack_frames(indexes, shuffled, pitch_codes), vectors)
    assert worse.level > 3 * plain.level
    assert worse.shape == pytest.approx(plain.shape, abs=1e-4)


def test_shuffled_shapes_are_caught(passage):
    vectors, bits = passage
    indexes, energies, pitch_codes = unpack_frames(bits)
    order = np.random.default_rng(3).permutation(len(indexes))
    plain = heard_error(bits, vectors)
    worse = heard_error(pack_frames(indexes[order], energies, pitch_codes), vectors)
    assert worse.shape > 1.5 * plain.shape
    assert worse.level == pytest.approx(plain.level, abs=1e-4)


def test_a_stream_out_of_step_is_heard(passage):
    vectors, bits = passage
    late = heard_error(bits[:4] + bits[:-4], vectors)
    assert late.total > 1.5 * heard_error(bits, vectors).total


def test_knots_are_what_the_encoder_chose(speech):
    oracle = libcodec2.oracle_mlfeat(speech)
    knots = heard.stream_knots(oracle.bits)
    shapes = knots - knots.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(shapes, oracle.quantised, rtol=0, atol=1e-4)
    steps = libcodec2.energy_codebook()
    nearest = steps[np.abs(oracle.mean_db[:, None] - steps).argmin(axis=1)]
    np.testing.assert_allclose(knots.mean(axis=1), nearest, rtol=0, atol=1e-4)


def test_lines_are_the_decoders_own():
    """newamp1_interpolate gives the four frames from the knot before up to, not with, this one."""
    rng = np.random.default_rng(4)
    knots = rng.normal(40, 10, (6, 20)).astype(np.float32)
    lines = heard.decoder_lines(knots)
    assert lines.shape == (4 * 5 + 1, 20)
    library = libcodec2.library()
    pointer = ctypes.POINTER(ctypes.c_float)
    for i in range(5):
        surface = np.zeros((4, 20), np.float32)
        left, right = knots[i].copy(), knots[i + 1].copy()
        library.newamp1_interpolate(
            surface.ctypes.data_as(pointer),
            left.ctypes.data_as(pointer),
            right.ctypes.data_as(pointer),
            20,
        )
        np.testing.assert_allclose(lines[4 * i : 4 * i + 4], surface, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(lines[-1], knots[-1])


def test_a_header_changes_nothing(passage):
    vectors, bits = passage
    assert heard_error(HEADER + bits, vectors) == heard_error(bits, vectors)


def test_from_s_leaves_out_the_start_of_the_speech():
    reference = np.zeros((500, 20))
    decoded = np.zeros((500, 20))
    decoded[:200] = np.random.default_rng(5).normal(0, 5, (200, 20))
    active = all_active(reference)
    assert spectral_error(decoded, reference, active).total > 5
    assert spectral_error(decoded, reference, active, from_s=2) == Heard(0.0, 0.0, 300)
    active[:100] = False  # seconds are of active speech
    assert spectral_error(decoded, reference, active, from_s=1).total == 0


def test_passages_add_up_by_frames():
    assert Heard(1.0, 4.0, 300) + Heard(5.0, 8.0, 100) == Heard(2.0, 5.0, 400)


def test_unusable_passages_are_an_error(passage):
    vectors, bits = passage
    with pytest.raises(Codec2EqError, match="no active speech after the first 99 s"):
        heard_error(bits, vectors, from_s=99)
    with pytest.raises(Codec2EqError, match="give the passage that was encoded"):
        heard_error(bits, vectors[:-40])
    with pytest.raises(Codec2EqError, match="not whole frames"):
        heard_error(bits[:-1], vectors)
    with pytest.raises(Codec2EqError, match="give the passage"):
        heard_error(b"", vectors)
