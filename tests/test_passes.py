# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two passes over a recording, and states that are kept between recordings."""

import json
import pickle

import numpy as np
import pytest

from codec2_eq import Codec2EqError, load_equaliser
from codec2_eq.cli import main
from codec2_eq.equalisers import hearing, passes, state_file
from codec2_eq.equalisers.layers import Dense
from codec2_eq.equalisers.network import Network
from codec2_eq.equalisers.recurrent import GRU
from codec2_eq.extraction import extract_file
from codec2_eq.records import K
from codec2_eq.vectors import VectorRecord, read_vectors
from codec2_eq.vq import Quantiser, load_codebooks

STATEFUL = ("700c", "cmn", "channel_eq")


@pytest.fixture
def vectors():
    rng = np.random.default_rng(4)
    level = 40 + 12 * np.sin(np.arange(250) / 5)[:, None]
    return (level + np.linspace(10, -10, K) + rng.normal(0, 6, (250, K))).astype(np.float32)


@pytest.fixture
def own_network(tmp_path):
    rng = np.random.default_rng(1)

    def draw(*shape):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)

    layers = [GRU(draw(K, 24), draw(8, 24), draw(2, 24)), Dense(draw(8, K), draw(K))]
    Network("own", layers).save(tmp_path / "own.npz")
    return str(tmp_path / "own.npz")


@pytest.mark.parametrize("name", [*STATEFUL, "own"])
@pytest.mark.parametrize("frame_ms", [40, 20])
def test_the_output_starts_where_two_hearings_ended(name, frame_ms, vectors, own_network):
    model = load_equaliser(own_network if name == "own" else name, frame_ms=frame_ms)
    assert model.stateful
    stream = model.stream()
    first = stream.process(vectors)
    stream.process(vectors)  # it is heard twice
    second = model.stream(stream.state()).process(vectors)
    twice = model(vectors, passes=2)
    curve = (second - twice).astype(float)  # constant, and nothing where no codebook is aimed at
    assert np.abs(curve - curve[0]).max() < 1e-4
    assert (np.abs(curve).max() > 0) == (name in ("cmn", "channel_eq"))
    np.testing.assert_array_equal(model(vectors), first)
    assert np.abs(twice - first)[:5].max() > 1e-3
    assert twice.dtype == np.float32


def test_two_passes_know_a_constant_curve_from_the_first_frame():
    curve = np.linspace(10, -10, K, dtype=np.float32)
    vectors = np.full((250, 1), 40, np.float32) + curve
    once, twice = (load_equaliser("cmn")(vectors, passes=n)[0] for n in (1, 2))
    settled = load_equaliser("cmn")(vectors, passes=2)[-1]
    assert np.abs(twice - settled).max() < 0.6  # 0.4 s of prior in 10 s
    assert np.abs(once - settled).max() > 5


@pytest.mark.parametrize("name", ["none", "mean", "mean_removal"])
def test_without_memory_the_second_pass_is_the_first(name, vectors):
    model = load_equaliser(name)
    assert not model.stateful
    np.testing.assert_array_equal(model(vectors, passes=2), model(vectors))


@pytest.mark.parametrize("size", [1, 7, 250])
def test_blocks_give_the_bits_of_the_whole(size, vectors):
    model = load_equaliser("channel_eq")
    records = (VectorRecord(vectors[i : i + size]) for i in range(0, len(vectors), size))
    with passes.begin(model, records, passes=2) as (stream, blocks):
        parts = [stream.process(block.vectors) for block in blocks]
    np.testing.assert_array_equal(np.concatenate(parts), model(vectors, passes=2))


def test_the_errors_of_the_quantiser_average_to_zero(samples_dir):
    vectors = extract_file(samples_dir / "flite_female_1_lowpass.wav").vectors
    quantiser = Quantiser(load_codebooks("700c"))
    active = vectors.mean(axis=1) > np.percentile(vectors.mean(axis=1), 95) - 20

    def mean_error(passes):
        shapes = load_equaliser("channel_eq")(vectors, passes=passes)[active]
        return np.abs((shapes - quantiser.quantise(shapes)[0]).mean(axis=0)).max()

    assert mean_error(2) < 0.5 * mean_error(1)


def test_an_equaliser_that_knows_a_voice_is_one_more_equaliser(vectors):
    model = load_equaliser("channel_eq")
    knowing = pickle.loads(pickle.dumps(model.after(vectors)))
    np.testing.assert_array_equal(knowing(vectors), model(vectors, passes=2))
    stream = knowing.stream()
    parts = [stream.process(vectors[i : i + 9]) for i in range(0, len(vectors), 9)]
    np.testing.assert_array_equal(np.concatenate(parts), knowing(vectors))
    assert stream.curve_db is not None
    assert load_equaliser("mean").after(vectors)(vectors).shape == vectors.shape


def test_a_long_recording_is_thinned_out_the_same_in_any_division(monkeypatch, vectors):
    monkeypatch.setattr(hearing, "MOST_FRAMES", 40)
    model = load_equaliser("cmn")
    whole = model(vectors, passes=2)
    records = (VectorRecord(vectors[i : i + 3]) for i in range(0, len(vectors), 3))
    with passes.begin(model, records, passes=2) as (stream, blocks):
        parts = [stream.process(block.vectors) for block in blocks]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_no_frames(vectors):
    model = load_equaliser("channel_eq")
    assert model(vectors[:0], passes=2).shape == (0, K)
    none: list[VectorRecord] = []
    with passes.begin(model, none, passes=2) as (_, blocks):
        assert list(blocks) == []


@pytest.mark.parametrize("number", [0, 3, -1])
def test_other_numbers_of_passes_are_refused(number, vectors):
    with pytest.raises(Codec2EqError, match=f"passes {number}: 1 or 2"):
        load_equaliser("cmn")(vectors, passes=number)


def test_run_and_equalise_are_the_function(samples_dir, tmp_path, stdin):
    wav = str(samples_dir / "espeak_male_1.wav")
    plain, a, b, c = (tmp_path / f"{n}.f32" for n in "pabc")
    main(["extract", wav, "-o", str(plain)])
    assert not main(["run", wav, "-o", str(a), "-m", "channel_eq", "--passes", "2"])
    assert not main(["equalise", str(plain), "-o", str(b), "-m", "channel_eq", "--passes", "2"])
    expected = load_equaliser("channel_eq")(read_vectors(plain), passes=2)
    np.testing.assert_array_equal(read_vectors(a), expected)
    np.testing.assert_array_equal(read_vectors(b), expected)
    stdin(plain.read_bytes())
    assert not main(["equalise", "-", "-o", str(c), "-m", "channel_eq", "--passes", "2"])
    assert c.read_bytes() == b.read_bytes()


# ------------------------------------------------------------------------------------ states


@pytest.mark.parametrize("name", [*STATEFUL, "own"])
def test_a_state_goes_through_a_file(name, vectors, tmp_path, own_network):
    model = load_equaliser(own_network if name == "own" else name)
    stream = model.stream()
    stream.process(vectors)
    state_file.save_state(tmp_path / "s.npz", model, stream)
    warm = model.stream(state_file.load_state(tmp_path / "s.npz", model))
    np.testing.assert_array_equal(warm.process(vectors), stream.process(vectors))
    with pytest.raises(Codec2EqError, match="s.npz: exists already"):
        state_file.save_state(tmp_path / "s.npz", model, stream)


def test_a_state_saved_twice_is_that_of_the_second_pass(samples_dir, tmp_path):
    wav = str(samples_dir / "espeak_male_1.wav")
    words = ["run", wav, "-m", "channel_eq", "-o"]
    once, twice = str(tmp_path / "1.npz"), str(tmp_path / "2.npz")
    assert not main([*words, str(tmp_path / "a.f32"), "--save-state", once])
    load_once = ["--load-state", once, "--save-state", twice]
    assert not main([*words, str(tmp_path / "-.f32"), *load_once])
    assert not main([*words, str(tmp_path / "b.f32"), "--load-state", twice])
    assert not main([*words, str(tmp_path / "c.f32"), "--passes", "2"])
    a, b, c = (read_vectors(tmp_path / f"{name}.f32") for name in "abc")
    assert np.ptp(b - c, axis=0).max() < 1e-4 < np.abs(b - a).max()


@pytest.fixture
def state(tmp_path):
    model = load_equaliser("channel_eq")
    state_file.save_state(tmp_path / "s.npz", model, model.stream())
    return tmp_path / "s.npz"


@pytest.mark.parametrize(
    ("model", "frame_ms", "message"),
    [
        ("cmn", 40, r"s.npz: is of 'channel_eq' \(weights 14eed55117b3\) .*, not of 'cmn' at 40"),
        ("channel_eq", 20, "at 40 ms a frame, not of .* at 20 ms a frame; save it with the same"),
        ("mean", 40, "mean: has no memory, so no state to save or load"),
    ],
)
def test_the_state_of_another_model_is_refused(model, frame_ms, message, state):
    with pytest.raises(Codec2EqError, match=message):
        state_file.load_state(state, load_equaliser(model, frame_ms=frame_ms))


def _meta(**changes):
    own = load_equaliser("channel_eq")
    return {
        "format": state_file.FORMAT,
        "version": 1,
        "model": "channel_eq",
        "sha256": own.sha256,
        "frame_ms": 40,
    } | changes


@pytest.mark.parametrize(
    ("meta", "arrays", "message"),
    [
        (_meta(format="other"), {}, "not a state of an equaliser; write one with"),
        (_meta(version="x"), {}, "not a state of an equaliser"),
        ([], {}, "not a state of an equaliser"),
        (_meta(), {}, "state of nothing, expected 0.0.curve"),
        (_meta(), {"0.0.curve": np.zeros(3)}, "state of 0.0.curve, expected"),
        (_meta(sha256=None), {}, "not a state of|is of 'channel_eq'"),
    ],
)
def test_what_is_no_state_is_an_error(meta, arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", meta=np.array(json.dumps(meta)), **arrays)
    with pytest.raises(Codec2EqError, match=f"x.npz: ({message})"):
        state_file.load_state(tmp_path / "x.npz", load_equaliser("channel_eq"))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_other_files_are_no_states(content, tmp_path):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(Codec2EqError, match="x.npz: not a state of an equaliser"):
        state_file.load_state(tmp_path / "x.npz", load_equaliser("channel_eq"))
    with pytest.raises(Codec2EqError, match="y.npz: no such file"):
        state_file.load_state(tmp_path / "y.npz", load_equaliser("channel_eq"))


def test_a_state_that_cannot_be_saved_is_an_early_error(state, samples_dir, tmp_path, capsys):
    wav, out = str(samples_dir / "espeak_male_1.wav"), tmp_path / "a.f32"
    words = ["run", wav, "-o", str(out), "--save-state", str(state)]
    assert main([*words, "-m", "channel_eq"]) == 1
    assert main([*words, "-m", "mean"]) == 1
    assert main(["run", wav, "-o", str(out), "-m", "cmn", "--save-state", "-"]) == 1
    told = capsys.readouterr().err
    assert "s.npz: exists already" in told
    assert "mean: has no memory" in told
    assert "-: stdout cannot take this; name a file" in told
    assert not out.exists()
