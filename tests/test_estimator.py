# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled step of the recursive estimator: against its definition in float64, and its bits."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest
from exported_network import without_gate
from hypothesis import given, settings
from hypothesis import strategies as st

from codec2_eq.codec2 import K
from codec2_eq.equalisers.equaliser import load_trained
from codec2_eq.equalisers.estimator import GatedEstimator, RecursiveEstimator

TOL_DB = 1e-5


@pytest.fixture(scope="module", params=["gated", "without a gate"])
def layer(request) -> RecursiveEstimator:
    if request.param == "without a gate":
        return without_gate()
    (layer,) = load_trained("channel_eq").layers
    assert isinstance(layer, GatedEstimator)
    return layer


def vectors(n, seed=0):
    """Vectors that move, stand still and move again."""
    rng = np.random.default_rng(seed)
    level = 40 + 15 * np.sin(np.arange(n) / 5)[:, None]
    shapes = np.linspace(10, -10, K) + rng.normal(0, 6, (n, K))
    shapes[n // 3 : n // 2] = shapes[n // 3]
    return (level + shapes).astype(np.float32)


def by_definition(layer, rows):
    """The docstring of `RecursiveEstimator`, in float64."""
    e = {f.name: np.asarray(getattr(layer, f.name), np.float64) for f in dataclasses.fields(layer)}
    c, w, s, last = e["start"].copy(), e["start_weight"].copy(), np.zeros(K), np.zeros(K)
    peak, reach = e["silence_db"], e["reach_db"] / 10
    out = []
    for row in rows.astype(np.float64):
        mean = row.mean()
        peak = max(peak - e["peak_fall_db"], mean, e["silence_db"])
        heard = np.clip((row - mean - c) / 10 - e["reference"], -reach, reach)
        level = max((mean - peak) / e["level_range_db"], -2)
        seen = [level, np.log(w).mean() / 2 - 1, 4 * np.sqrt(np.square(s).mean() + 1e-6) - 1]
        hidden = np.concatenate([heard, seen]) @ e["kernel1"] + e["bias1"]
        hidden = np.where(hidden > 0, hidden, 0.1 * hidden) @ e["kernel2"] + e["bias2"]
        given = np.where(hidden > 0, hidden, 0.1 * hidden) @ e["kernel3"] + e["bias3"]
        lack, trust, trim, (keep,) = np.split(given, [K, 2 * K, 3 * K])
        fresh, kept = np.log1p(np.exp(trust)), 1 / (1 + np.exp(-keep))
        if np.square(row - mean - last).mean() < e.get("still_db", np.zeros(())) ** 2:
            fresh, kept = np.zeros(K), 1
        last = row - mean
        news = np.clip(heard + lack, -reach, reach)
        s += e["surprise_rate"] * fresh / (1 + fresh) * (news - s)
        w = np.maximum(np.maximum(kept * w, e["least_weight"]), fresh) + fresh
        c = c + 10 * fresh / w * news
        c = e["start"] + np.clip(c - e["start"], -e["reach_db"], e["reach_db"])
        shape = row - mean - c - 10 * trim
        out.append(shape - shape.mean())
    return np.array(out)


def test_it_is_its_definition(layer):
    rows = vectors(200)
    shapes, _ = layer.forward(rows, layer.initial_state())
    np.testing.assert_allclose(shapes, by_definition(layer, rows), rtol=0, atol=2 * TOL_DB)


def test_what_stands_still_teaches_nothing(layer):
    state = layer.forward(vectors(50), layer.initial_state())[1]
    tone = np.linspace(30, -30, K) + np.arange(100)[:, None] / 20  # it only becomes louder
    begun = layer.forward(tone[:1].astype(np.float32), state)[1]
    after = layer.forward(tone[1:].astype(np.float32), begun)[1]
    drift = np.abs(after["curve"] - begun["curve"]).max()
    if isinstance(layer, GatedEstimator):
        assert drift < 1e-4
        np.testing.assert_allclose(after["weight"], begun["weight"], rtol=1e-5)
        np.testing.assert_array_equal(after["surprise"], begun["surprise"])
    else:
        assert drift > 3


@pytest.mark.parametrize("hidden", [(72, 62), (64, 64), (1, 3), (150, 17)])
def test_wide_vectors_give_the_same_bits(layer, hidden):
    rng = np.random.default_rng(1)
    widths = [K + 3, *hidden, 3 * K + 1]
    own = {}
    for i, (rows, columns) in enumerate(itertools.pairwise(widths), start=1):
        own[f"kernel{i}"] = (rng.normal(0, 0.05, (rows, columns))).astype(np.float32)
        own[f"bias{i}"] = rng.normal(0, 0.05, columns).astype(np.float32)
    layer = dataclasses.replace(layer, **own)
    rows, state = vectors(100), layer.initial_state()
    wide, after_wide = layer.compiled.run(rows, state)
    narrow, after_narrow = layer.compiled.run(rows, state, wide=False)
    np.testing.assert_array_equal(wide, narrow)
    for name in state:
        np.testing.assert_array_equal(after_wide[name], after_narrow[name])
    np.testing.assert_allclose(wide, by_definition(layer, rows), rtol=0, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_division_gives_the_same_bits(layer, cuts):
    rows, state, parts = vectors(60), layer.initial_state(), []
    for part in np.split(rows, sorted(cuts)):
        out, state = layer.forward(part, state)
        parts.append(out)
    whole, after = layer.forward(rows, layer.initial_state())
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert all(np.array_equal(after[name], state[name]) for name in after)


def test_it_pickles_after_it_was_run(layer):
    rows = vectors(5)
    expected, _ = layer.forward(rows, layer.initial_state())
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again.forward(rows, again.initial_state())[0], expected)


def test_extreme_input_stays_finite(layer):
    for value in (-1e6, 1e6, 0.0):
        rows = np.full((5, K), value, np.float32)
        rows[2, 3] = -value
        shapes, state = layer.forward(rows, layer.initial_state())
        assert np.isfinite(shapes).all()
        assert all(np.isfinite(array).all() for array in state.values())


def test_other_bands_are_refused(layer):
    with pytest.raises(ValueError, match="vectors of 19 bands, expected 20"):
        layer.compiled.run(np.zeros((2, 19), np.float32), layer.initial_state())
