# SPDX-License-Identifier: LGPL-2.1-or-later
"""Equalisers: what each does in numbers, libcodec2 as the oracle, chunks, names and errors."""

import pickle

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codec2_eq.audio.stream import read_audio
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.equalisers import classic
from codec2_eq.equalisers.equaliser import (
    available_models,
    load_equaliser,
    model_names,
)
from codec2_eq.equalisers.layers import Dense
from codec2_eq.equalisers.network import Network
from codec2_eq.equalisers.recurrent import GRU
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.records import K, remove_mean

NAMES = ["none", "mean", "700c", "cmn", "mean_removal"]
SAMPLES = ["espeak_male_1", "flite_female_1", "flite_female_1_lowpass"]


def speech_like(n, seed=0):
    """Vectors of n frames with silences, a fixed curve and levels as speech has them."""
    rng = np.random.default_rng(seed)
    level = 35 + 15 * np.sin(np.arange(n) / 7)[:, None]
    return (level + np.linspace(8, -12, K) + rng.normal(0, 6, (n, K))).astype(np.float32)


def gru_file(folder, *, frame_ms=40, outputs=K):
    rng = np.random.default_rng(5)

    def draw(*shape):
        return (rng.standard_normal(shape) * 0.1).astype(np.float32)

    layers = [GRU(draw(K, 24), draw(8, 24), draw(2, 24)), Dense(draw(8, outputs), draw(outputs))]
    Network("memory", layers, frame_ms=frame_ms).save(folder / "memory.npz")
    return folder / "memory.npz"


@pytest.fixture(scope="module", params=SAMPLES)
def samples(request):
    path = ROOT / "samples" / f"{request.param}.wav"
    return read_audio(path).astype(np.int16)


# ----------------------------------------------------------------------- the classic ones


def test_none_changes_nothing_and_shares_nothing():
    x = speech_like(5)
    y = load_equaliser("none")(x)
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)


def test_the_mean_is_a_float32_sum_in_order():
    x = np.zeros((1, K), np.float32)
    # in float32, in order, both small values are lost; pairwise they are not
    x[0, :3] = 2**16, 2**-8, 2**-8
    mean, shape = remove_mean(x)
    assert mean[0] == np.float32(2**16) / 20
    np.testing.assert_array_equal(load_equaliser("mean")(x), shape)


@given(arrays(np.float32, (3, K), elements=st.floats(-150, 120, width=32)))
def test_shapes_have_no_mean(x):
    for name in ("mean", "cmn", "mean_removal"):
        limit = 0.01 if name == "mean_removal" else 1e-4
        assert np.abs(load_equaliser(name)(x).mean(axis=1)).max() < limit


def test_mean_is_that_of_libcodec2_bit_for_bit(samples):
    from codec2_eq.extraction import extract

    oracle = libcodec2.oracle_mlfeat(samples)
    np.testing.assert_array_equal(load_equaliser("mean")(extract(samples).vectors), oracle.shapes)


def test_700c_is_libcodec2_s_front_equaliser_bit_for_bit(samples):
    plain = libcodec2.oracle_mlfeat(samples)
    equalised = libcodec2.oracle_mlfeat(samples, eq=True)
    # the shapes' own mean is not exactly 0, so the stage behind the mean removal is held to it
    rows = plain.shapes.copy()
    eq = np.zeros(K, np.float32)
    classic.front_equaliser(rows, eq, classic.FRONT_IDEAL_DB, classic.FRONT_GAIN)
    np.testing.assert_array_equal(rows, equalised.shapes)
    assert np.abs(rows - plain.shapes).max() > 0.5  # the equaliser did something


def test_700c_of_our_vectors_is_libcodec2_s_too(samples):
    from codec2_eq.extraction import extract

    oracle = libcodec2.oracle_mlfeat(samples, eq=True)
    np.testing.assert_array_equal(load_equaliser("700c")(extract(samples).vectors), oracle.shapes)


def test_700c_settles_at_the_excess_over_the_ideal():
    shape = np.where(np.arange(K) == 5, 30, -30 / 19).astype(np.float32)
    y = load_equaliser("700c")(np.tile(shape + 40, (1000, 1)))
    excess = np.maximum(shape - classic.FRONT_IDEAL_DB, 0)
    np.testing.assert_allclose(y[-1], shape - excess, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["700c", "cmn"])
def test_time_constants_do_not_depend_on_the_frame_interval(name):
    x = speech_like(1, seed=3)
    coarse = load_equaliser(name, frame_ms=40)(np.repeat(x, 100, axis=0))
    fine = load_equaliser(name, frame_ms=10)(np.repeat(x, 400, axis=0))
    # the last 10 ms frame of each 40 ms; the sums of cmn differ by the order of update and use
    np.testing.assert_allclose(fine[3::4], coarse, rtol=0, atol=2e-3 if name == "700c" else 0.2)


def test_the_codebook_s_mean_is_the_codebook_s():
    mean = sum(book.mean(axis=0, dtype=float) for book in libcodec2.codebook_700c())
    np.testing.assert_allclose(classic.CODEBOOK_MEAN_DB, mean, rtol=0, atol=1e-4)


def test_cmn_takes_away_any_curve():
    x = speech_like(1500)
    curve = 10 * np.sin(np.arange(K, dtype=np.float32))
    cmn = load_equaliser("cmn")
    difference = cmn(x + curve) - cmn(x)
    assert np.sqrt((difference[0] ** 2).mean()) > 4  # one frame has not yet told the curve
    assert np.sqrt((difference[-1] ** 2).mean()) < 0.2


def test_cmn_draws_the_mean_to_the_codebook_s():
    shapes = load_equaliser("cmn")(speech_like(1500))[500:]
    target = classic.CODEBOOK_MEAN_DB - classic.CODEBOOK_MEAN_DB.mean()
    assert np.abs(shapes.mean(axis=0) - target).max() < 1


def test_cmn_starts_from_its_prior():
    # one frame against 10 of the prior: it moves the curve by an 11th
    x = speech_like(1)
    shape = remove_mean(x)[1][0]
    expected = shape - (shape - classic.CODEBOOK_MEAN_DB) / (10 * np.exp(-0.004) + 1)
    y = load_equaliser("cmn")(x)[0]
    np.testing.assert_allclose(y, expected - expected.mean(), rtol=0, atol=1e-4)


def test_cmn_does_not_learn_from_silence():
    x = speech_like(300)
    pause = np.full((200, K), -150, np.float32)
    pause[100:] = 5 + 10 * np.sin(np.arange(K))  # a hum, far below the speech
    cmn = load_equaliser("cmn")
    after_pause = cmn(np.concatenate([x, pause, x]))[-300:]
    without = cmn(np.concatenate([x, x]))[-300:]
    np.testing.assert_array_equal(after_pause, without)


def test_cmn_of_digital_silence_is_flat():
    np.testing.assert_array_equal(load_equaliser("cmn")(np.full((9, K), -150, np.float32)), 0)


# ------------------------------------------------------------------------------- streams


@given(st.sampled_from(NAMES), st.sampled_from([10, 20, 40]), st.lists(st.integers(0, 60)))
def test_any_division_into_blocks_gives_the_same_bits(name, frame_ms, cuts):
    x = speech_like(60)
    equaliser = load_equaliser(name, frame_ms=frame_ms)
    stream = equaliser.stream()
    parts = [stream.process(block) for block in np.split(x, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), equaliser(x))


@given(st.sampled_from([10, 20, 40]), st.lists(st.integers(0, 60)))
def test_networks_with_memory_stream_too(tmp_path_factory, frame_ms, cuts):
    x = speech_like(60)
    equaliser = load_equaliser(gru_file(tmp_path_factory.mktemp("m")), frame_ms=frame_ms)
    stream = equaliser.stream()
    parts = [stream.process(block) for block in np.split(x, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), equaliser(x))


@pytest.mark.parametrize("name", NAMES)
def test_streams_share_no_memory_and_start_afresh(name):
    x, equaliser = speech_like(30), load_equaliser(name)
    first, second = equaliser.stream(), equaliser.stream()
    one = first.process(x)
    np.testing.assert_array_equal(second.process(x), one)
    np.testing.assert_array_equal(equaliser(x), one)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_left_alone(name):
    x = speech_like(8)
    x.setflags(write=False)
    y = load_equaliser(name)(x)
    assert (y.dtype, y.shape) == (np.float32, (8, K))
    assert load_equaliser(name)(x[:0]).shape == (0, K)
    np.testing.assert_array_equal(load_equaliser(name)(np.asfortranarray(x, float)), y)


def test_a_network_with_memory_sees_the_interval_it_was_trained_on(tmp_path):
    path, x = gru_file(tmp_path), speech_like(40)
    fine = load_equaliser(path, frame_ms=10)(x)
    for phase in range(4):
        np.testing.assert_array_equal(fine[phase::4], load_equaliser(path)(x[phase::4]))


@pytest.mark.parametrize("name", NAMES)
def test_equalisers_travel_to_other_processes(name):
    x, equaliser = speech_like(20), load_equaliser(name)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(equaliser))(x), equaliser(x))


# --------------------------------------------------------------------- names and errors


def test_every_name_loads():
    assert set(NAMES) <= set(model_names())
    for name in model_names():
        assert load_equaliser(name).name == name


def test_the_models_at_hand_tell_what_they_are():
    facts = {model.name: model for model in available_models()}
    assert list(facts) == model_names()
    assert all(model.does for model in facts.values())
    trained = facts["mean_removal"]
    assert trained.sha256 == load_equaliser("mean_removal").sha256
    assert trained.data
    assert "speech_offset_db_rms" in trained.figures


def test_an_unknown_name_is_answered_with_the_names():
    with pytest.raises(Codec2EqError, match="no equaliser 'men'; there are none, mean, 700c, cmn"):
        load_equaliser("men")


def test_a_network_must_map_vectors_to_vectors(tmp_path):
    with pytest.raises(Codec2EqError, match="memory.npz: maps 20 values to 7; .* maps 20 to 20"):
        load_equaliser(gru_file(tmp_path, outputs=7))


def test_a_memory_of_finer_frames_cannot_be_used(tmp_path):
    with pytest.raises(Codec2EqError, match="10 ms apart, not 40; use --frame-ms 10"):
        load_equaliser(gru_file(tmp_path, frame_ms=10))


def test_other_frame_intervals_are_refused():
    with pytest.raises(Codec2EqError, match="frame interval 30 ms; choose 10, 20 or 40"):
        load_equaliser("mean", frame_ms=30)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros(K), r"vectors of shape \(20,\): expected \(frames, 20\)"),
        (np.zeros((2, 19)), r"vectors of shape \(2, 19\)"),
        (np.zeros((2, K), complex), "vectors of type complex128"),
        (np.array([[0.0] * K, [np.nan] * K]), "vector 1: is not finite; vectors are decibels"),
        (np.array([[np.inf] * K]), "vector 0: is not finite"),
        (np.full((1, K), 3e38), "vector 0: has values beyond 1,000,000 dB"),
    ],
)
@pytest.mark.parametrize("name", ["none", "cmn"])
def test_bad_vectors_are_refused(name, block, message):
    with pytest.raises(Codec2EqError, match=message):
        load_equaliser(name)(block)


def test_a_network_that_explodes_is_named(tmp_path):
    layers = [Dense(100 * np.eye(20, dtype=np.float32), np.zeros(20, np.float32), "exponential")]
    Network("bang", layers).save(tmp_path / "bang.npz")
    with pytest.raises(Codec2EqError, match="bang: gives values that are not finite"):
        load_equaliser(tmp_path / "bang.npz")(np.full((3, 20), 30, np.float32))


@pytest.mark.parametrize("name", ["700c", "cmn", "channel_eq"])
def test_a_stream_tells_the_curve_that_it_takes_off(name):
    stream = load_equaliser(name).stream()
    vectors = speech_like(50)
    before = stream.curve_db
    stream.process(vectors)
    after = stream.curve_db
    assert before is not None and before.shape == (K,) and before.dtype == np.float32
    assert after is not None and not np.array_equal(after, before)
    if name == "700c":  # with nothing else in it, it is the difference
        taken = remove_mean(vectors)[1][-1] - load_equaliser(name)(vectors)[-1]
        np.testing.assert_allclose(after, taken, atol=1e-5)


@pytest.mark.parametrize("name", ["none", "mean", "mean_removal"])
def test_equalisers_without_a_curve_say_so(name):
    assert load_equaliser(name).stream().curve_db is None


def test_models_say_in_a_line_what_they_are():
    assert repr(load_equaliser("cmn", frame_ms=20)) == "<Equaliser cmn, every 20 ms>"
    trained = load_equaliser("channel_eq")
    assert repr(trained) == f"<Equaliser channel_eq, weights {trained.sha256[:12]}, every 40 ms>"
    shown = trained._repr_html_()
    assert "<b>channel_eq</b><table>" in shown and "<img" in shown
    network = Network("n<1>", [Dense(np.eye(20, dtype=np.float32), np.zeros(20, np.float32))])
    assert repr(network).startswith("<Network n<1>: dense, weights ")


def test_a_record_says_in_a_line_what_it_is():
    import base64
    import struct

    record = extract(np.zeros(16000, np.int16))
    assert repr(record) == "<RateK 50 frames every 40 ms, 2.00 s>"
    shown = record._repr_html_()
    png = base64.b64decode(shown.split("base64,")[1].split('"')[0])
    assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24]) == (50, K)
    assert "<img" not in extract(np.zeros(0, np.int16))._repr_html_()
