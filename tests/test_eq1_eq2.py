# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
import pytest

from codec2_eq.codec2 import CODEBOOK_MEAN_DB
from codec2_eq.codec2.library import codebook_700c
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.records import K
from codec2_eq.vq.quantiser import Quantiser


def speech_like(n, seed=0):
    """Vectors of n frames with a fixed curve."""
    rng = np.random.default_rng(seed)
    return (40 + np.linspace(8, -12, K) + rng.normal(0, 6, (n, K))).astype(np.float32)


def test_eq1_takes_off_what_the_mean_is_above_the_codebooks():
    x = speech_like(60)
    shapes = x.astype(float) - x.mean(axis=1, keepdims=True)
    y = load_equaliser("eq1")(x)
    for i in (0, 1, 30, 59):
        curve = np.maximum(shapes[: i + 1].mean(axis=0) - CODEBOOK_MEAN_DB, 0)
        expected = shapes[i] - curve
        np.testing.assert_allclose(y[i], expected - expected.mean(), atol=1e-4)
    assert (shapes.mean(axis=0) < CODEBOOK_MEAN_DB).any()  # somewhere nothing is taken off


def test_eq2_is_its_formula():
    x = speech_like(40, seed=1)
    quantiser = Quantiser(codebook_700c())
    f = np.zeros(K)
    y = load_equaliser("eq2")(x)
    for t, out in zip(x.astype(float), y, strict=True):
        left = t - f - t.mean()
        f += 0.02 * (left - quantiser.quantise(left[None].astype(np.float32))[0][0])
        expected = t - f
        np.testing.assert_allclose(out, expected - expected.mean(), atol=1e-3)


def test_eq2_learns_a_curve_that_does_not_suit_the_quantiser():
    entries = Quantiser(codebook_700c()).quantise(speech_like(2000, seed=2) - 40)[0]
    curve = 3 * np.cos(np.arange(K) / 2).astype(np.float32)
    x = 40 + entries + curve - curve.mean()
    before = np.square(x - x.mean(axis=1, keepdims=True) - entries)[-500:].mean()
    after = np.square(load_equaliser("eq2")(x) - entries)[-500:].mean()
    assert after < 0.6 * before


@pytest.mark.parametrize("name", ["eq1", "eq2"])
@pytest.mark.parametrize("frame_ms", [10, 40])
def test_any_blocks_give_the_same_bits(name, frame_ms):
    equaliser = load_equaliser(name, frame_ms=frame_ms)
    x = speech_like(50, seed=3)
    whole = equaliser(x)
    stream = equaliser.stream()
    parts = [stream.process(part) for part in np.split(x, [0, 1, 17, 40])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    first = equaliser.stream()
    first.process(x[:20])
    np.testing.assert_array_equal(equaliser.stream(first.state()).process(x[20:]), whole[20:])


@pytest.mark.parametrize("name", ["eq1", "eq2"])
def test_their_curve_is_what_they_take_off(name):
    x = speech_like(30, seed=4)
    stream = load_equaliser(name).stream()
    assert stream.curve_db is not None and not stream.curve_db.any()
    y = stream.process(x)
    taken = x[-1] - x[-1].mean() - y[-1]
    curve = stream.curve_db - stream.curve_db.mean()
    np.testing.assert_allclose(taken - taken.mean(), curve, atol=1e-4)
