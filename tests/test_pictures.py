# SPDX-License-Identifier: LGPL-2.1-or-later
"""`plot`: what is drawn is what was given, where and how it was asked for."""

import sys

import numpy as np
import pytest
from conftest import require_package

import codec2_eq as ce

pyplot = require_package("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def test_a_record_is_drawn_over_its_time_and_bands(speech):
    frames = ce.extract(speech, frame_ms=20)
    axis = ce.plot(frames)
    (image,) = axis.images
    np.testing.assert_array_equal(image.get_array(), frames.vectors.T)
    assert image.origin == "lower"
    assert image.get_extent() == [0, len(frames) * 0.02, -0.5, 19.5]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[0] == "200 Hz" and labels[-1] == "3701 Hz"


def test_an_array_is_drawn_where_and_within_the_levels_that_are_asked_for():
    figure, axes = pyplot.subplots(1, 2)
    shapes = np.random.default_rng(1).normal(0, 10, (7, 20))
    assert ce.plot(shapes, axis=axes[1], frame_ms=10, limits_db=(-25, 25)) is axes[1]
    assert not axes[0].images
    (image,) = axes[1].images
    assert image.get_clim() == (-25, 25)
    assert image.get_extent()[:2] == [0, 0.07]


@pytest.mark.parametrize("shape", [(0, 20), (3, 19), (20,)])
def test_what_is_no_vectors_is_refused(shape):
    with pytest.raises(ce.Codec2EqError, match=r"expected \(n, 20\), n from 1"):
        ce.plot(np.zeros(shape))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ce.Codec2EqError, match=r"\[report\]"):
        ce.plot(np.zeros((3, 20)))
