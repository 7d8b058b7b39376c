# SPDX-License-Identifier: LGPL-2.1-or-later
"""The mean-removal network: its data, a short training, the shipped model, and the command."""

import hashlib
import json

import numpy as np
import pytest

from codec2_eq import pictures
from codec2_eq.cli import main
from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.equalisers.keras_import import keras_sha256
from codec2_eq.equalisers.layers import Dense, Scale
from codec2_eq.equalisers.network import Network, load_network
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import K, remove_mean
from codec2_eq.training import mean_removal

LIMIT_DB_RMS = 0.01  # of the offset that remains and of the change of shape
SHIPPED = models_dir() / "mean_removal.npz"


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short training, with speech to judge on; the folder and the network."""
    folder = tmp_path_factory.mktemp("trained") / "new"
    speech = mean_removal.read_speech(mean_removal.sample_files()[:2])
    lines: list[str] = []
    network = mean_removal.train(
        folder, seed=3, epochs=4, speech=speech, command="test", report=lines.append
    )
    return folder, network, lines


def test_random_vectors_are_as_the_card_says():
    x, y = mean_removal.random_vectors(20000, np.random.default_rng(0))
    assert (x.shape, x.dtype, y.dtype) == ((20000, K), np.float32, np.float32)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-5)
    offset = (x - y).astype(float)
    np.testing.assert_allclose(offset, offset[:, :1] * np.ones(K), atol=1e-4)
    low, high = mean_removal.OFFSET_DB
    assert low <= offset.min() < low + 1
    assert high - 1 < offset.max() <= high
    assert rms(offset[:, 0]) == pytest.approx(mean_removal.MEAN_SQUARE_OFFSET_DB2**0.5, rel=0.02)
    # one degree of freedom of K goes with the mean
    assert rms(y) == pytest.approx(mean_removal.SHAPE_SD_DB * (1 - 1 / K) ** 0.5, rel=0.02)


def test_errors_are_split_into_offset_and_shape():
    plus_two = Network("n", [Scale(np.ones(K, np.float32), np.full(K, 2, np.float32))])
    tilt = np.linspace(-1, 1, K, dtype=np.float32)
    shapes = np.zeros((3, K), np.float32)
    offset, change = mean_removal.errors(plus_two, shapes + tilt, shapes)
    np.testing.assert_allclose(offset, 2, atol=1e-6)
    np.testing.assert_allclose(change, tilt * np.ones((3, 1)), atol=1e-6)


@pytest.mark.train
def test_a_short_training_already_learns(trained):
    _, network, lines = trained
    x, y = mean_removal.random_vectors(500, np.random.default_rng(99))
    offset, change = mean_removal.errors(network, x, y)
    assert rms(offset) < LIMIT_DB_RMS
    assert rms(change) < LIMIT_DB_RMS
    assert len(lines) == 4
    assert lines[-1].startswith("epoch   4/4  loss ")


@pytest.mark.train
def test_it_leaves_model_card_and_pictures(trained):
    folder, network, _ = trained
    pngs = {f"mean_removal_{name}.png" for name in mean_removal.PICTURES}
    wanted = {"mean_removal.keras", "mean_removal.npz", "mean_removal.json", *pngs}
    assert {path.name for path in folder.iterdir()} == wanted
    for name in pngs:
        content = (folder / name).read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert 3000 < len(content) < 150_000
    card = json.loads((folder / "mean_removal.json").read_text())
    assert card == load_network(folder / "mean_removal.npz").card
    assert card["sha256"] == network.sha256
    assert card["keras_sha256"] == keras_sha256(folder / "mean_removal.keras")
    assert (card["seed"], card["command"], card["parameters"]) == (3, "test", K * K + K)
    assert set(card["versions"]) == {"python", "numpy", "tensorflow", "keras"}
    assert len(card["figures"]) == 4


@pytest.mark.train
def test_the_keras_file_gives_the_same_numbers(trained):
    from codec2_eq.equalisers.keras_import import import_keras

    folder, network, _ = trained
    keras = import_keras()
    model = keras.saving.load_model(folder / "mean_removal.keras")
    (layer,) = model.layers
    assert type(layer).__name__ == "Dense"
    x, _ = mean_removal.random_vectors(50, np.random.default_rng(5))
    theirs = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(network(x), theirs, rtol=0, atol=2e-5)


@pytest.mark.train
def test_the_same_seed_gives_the_same_weights_and_another_others(trained, tmp_path):
    _, network, _ = trained
    again = mean_removal.train(tmp_path / "a", seed=3, epochs=4)
    other = mean_removal.train(tmp_path / "b", seed=4, epochs=1)
    assert again.sha256 == network.sha256
    assert other.sha256 != network.sha256
    assert not (tmp_path / "a" / "mean_removal_speech.png").exists()
    shared = {k: v for k, v in network.card["figures"].items() if k.startswith("random")}
    assert again.card["figures"] == shared


@pytest.mark.train
def test_an_existing_model_is_kept(trained, monkeypatch):
    folder, _, _ = trained
    before = hashlib.sha256((folder / "mean_removal.npz").read_bytes()).digest()
    monkeypatch.setattr(mean_removal, "import_keras", lambda: pytest.fail("too late"))
    with pytest.raises(Codec2EqError, match="mean_removal.keras: exists already; pass -f"):
        mean_removal.train(folder)
    assert hashlib.sha256((folder / "mean_removal.npz").read_bytes()).digest() == before


@pytest.mark.train
def test_the_command_trains_and_prints_the_figures(tmp_path, capsys, samples_dir):
    wav = str(samples_dir / "espeak_male_1.wav")
    words = ["train", "mean_removal", "-o", str(tmp_path), "--epochs", "1", "--speech", wav]
    assert main(words) == 0
    out, err = capsys.readouterr()
    figures = dict(line.split() for line in out.splitlines())
    card = json.loads((tmp_path / "mean_removal.json").read_text())
    assert {name: float(value) for name, value in figures.items()} == card["figures"]
    assert "epoch   1/1" in err
    assert card["command"] == f"codec2-eq train mean_removal --seed 1 --epochs 1 --speech {wav}"
    assert main(words) == 1
    assert "exists already; pass -f" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Codec2EqError, match="part of this path is a file"):
        mean_removal.train(tmp_path / "file" / "models")


# ------------------------------------------------------------------------ the shipped model


def test_the_shipped_model_is_one_dense_layer_with_its_card():
    network = load_network(SHIPPED)
    (layer,) = network.layers
    assert isinstance(layer, Dense)
    assert (layer.kernel.shape, layer.bias.shape, layer.activation) == ((K, K), (K,), "linear")
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert card == network.card
    assert card["sha256"] == network.sha256
    assert card["keras_sha256"] == keras_sha256(SHIPPED.with_suffix(".keras"))
    assert all(0 < value < LIMIT_DB_RMS for value in card["figures"].values())


def test_the_shipped_model_s_figures_are_its_own():
    rng = np.random.default_rng(load_network(SHIPPED).card["seed"])
    mean_removal.random_vectors(mean_removal.TRAIN_VECTORS, rng)
    held_out = mean_removal.random_vectors(mean_removal.HELD_OUT_VECTORS, rng)
    network = load_network(SHIPPED)
    figures = network.card["figures"]
    offset, change = mean_removal.errors(network, *held_out)
    assert rms(offset) == pytest.approx(figures["random_vectors_offset_db_rms"], rel=0.05)
    assert rms(change) == pytest.approx(figures["random_vectors_shape_change_db_rms"], rel=0.05)


def held_on(vectors):
    shapes = load_equaliser("mean_removal")(vectors)
    offset = shapes.mean(axis=1, dtype=float)
    assert np.abs(offset).max() < LIMIT_DB_RMS
    assert rms(shapes - offset[:, None] - remove_mean(vectors)[1]) < LIMIT_DB_RMS


def test_the_shipped_model_holds_on_the_samples(sample_files):
    speech = mean_removal.read_speech(sample_files)
    assert speech is not None
    assert len(speech.vectors) > 500
    held_on(speech.vectors)


@pytest.mark.oracle
def test_the_shipped_model_holds_on_real_speech(codec2_examples):
    speech = mean_removal.read_speech(codec2_examples)
    assert speech is not None
    held_on(speech.vectors)


# -------------------------------------------------------------------------------- pictures


def test_histograms_show_shares_of_each_set():
    sets = {"a": np.full(50, 0.5), "b": np.linspace(-1, 1, 200)}
    figure = pictures.error_histograms("t", {"kind": sets}, "dB")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "a: 0.5 dB rms",
        "b: 0.58 dB rms",
    ]
    shares = [patch.get_data().values for patch in axis.patches[::2]]
    assert shares[0].sum() == pytest.approx(100)
    assert shares[0].max() == pytest.approx(100)
    assert shares[1].sum() == pytest.approx(100, abs=1)


def test_loss_curves_hold_every_epoch():
    figure = pictures.loss_curves("t", {"training": [4, 2, 1], "held-out": [3, 2, 1.5]}, "dB")
    lines = figure.axes[0].get_lines()
    np.testing.assert_array_equal(lines[1].get_xydata(), [[1, 3], [2, 2], [3, 1.5]])
