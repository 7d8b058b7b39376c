# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
import pytest

from codec2_eq.analysis import rate_k_less_curves
from codec2_eq.bench.shaping import load_shaping
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.extraction import Extractor, extract
from codec2_eq.stream700c.flattener import equalise_before_floor, flatten


@pytest.fixture(scope="module")
def frames(speech):
    """10 ms frames with their harmonics."""
    return Extractor(frame_ms=10, harmonics=True).process(speech)


def test_without_a_curve_harmonics_give_the_vectors(speech, frames):
    vectors, mean_db = rate_k_less_curves(
        frames.harmonics_db, frames.wo, frames.n_harm, np.zeros_like(frames.vectors)
    )
    np.testing.assert_array_equal(vectors, frames.vectors)
    np.testing.assert_array_equal(mean_db, frames.mean_db)
    np.testing.assert_array_equal(extract(speech, frame_ms=10).vectors, frames.vectors)


def test_a_constant_lowers_all_bands_alike(frames):
    vectors, mean_db = rate_k_less_curves(
        frames.harmonics_db, frames.wo, frames.n_harm, np.full_like(frames.vectors, 7)
    )
    sounding = frames.mean_db > 0
    np.testing.assert_allclose(vectors[sounding], frames.vectors[sounding] - 7, atol=1e-3)
    np.testing.assert_allclose(mean_db[sounding], frames.mean_db[sounding] - 7, atol=1e-3)


def test_a_boom_that_is_taken_off_gives_back_the_treble(speech):
    boom = load_shaping("boom")
    plain, boomy = (
        Extractor(frame_ms=10, harmonics=True, full_scale=32768).process(samples)
        for samples in (speech.astype(np.float32), boom(speech))
    )
    curve = boom.gain_db(plain.freqs_hz).astype(np.float32)
    curves = np.tile(curve, (len(plain), 1))
    before = rate_k_less_curves(boomy.harmonics_db, boomy.wo, boomy.n_harm, curves)[0]
    after = boomy.vectors - curves
    same = (plain.mean_db > 20) & (np.abs(plain.wo / boomy.wo - 1) < 1e-3)
    assert same.sum() > 100

    def error(vectors):
        difference = (vectors - plain.vectors)[same]
        return np.square(difference - difference.mean(axis=0)).mean()

    assert error(before) < 1
    assert error(after) > 4 * error(before)


@pytest.mark.parametrize("model", ["cmn", "channel_eq", "mean"])
def test_every_fourth_frame_is_what_the_equaliser_makes_of_it_but_for_the_floor(frames, model):
    equaliser = load_equaliser(model)
    whole = frames[: len(frames) // 4 * 4]
    flat = flatten(whole, equaliser.stream(), 4)
    assert flat.harmonics_db is None
    shapes = flat.vectors[3::4] - flat.mean_db[3::4, None]
    wanted = equaliser(whole.vectors[3::4])
    wanted -= wanted.mean(axis=1, keepdims=True)
    assert np.median(np.abs(shapes - wanted)) < 0.5


def test_frames_without_harmonics_are_equalised_as_vectors(speech):
    picked = extract(speech)
    equaliser = load_equaliser("cmn")
    flat = flatten(picked, equaliser.stream(), 1)
    np.testing.assert_allclose(
        flat.vectors - flat.mean_db[:, None], equaliser(picked.vectors), atol=1e-4
    )
    np.testing.assert_allclose(flat.mean_db, picked.mean_db, atol=1e-4)


def test_shapes_before_the_floor_come_nearer_to_those_of_the_plain_microphone(speech):
    equaliser = load_equaliser("channel_eq")
    plain, boomy = (
        Extractor(harmonics=True, full_scale=32768).process(samples)
        for samples in (speech.astype(np.float32), load_shaping("boom")(speech))
    )

    def distance(one, other):
        difference = (one - other)[plain.mean_db > 20]
        return np.square(difference - difference.mean(axis=0)).mean()

    before = [equalise_before_floor(frames, equaliser.stream()) for frames in (plain, boomy)]
    after = [equaliser(frames.vectors) for frames in (plain, boomy)]
    assert distance(*before) < 0.9 * distance(*after)
    assert np.abs(before[1].mean(axis=1)).max() < 1e-4
