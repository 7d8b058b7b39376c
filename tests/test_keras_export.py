# SPDX-License-Identifier: LGPL-2.1-or-later
"""`.keras` files: converted once, then run without TensorFlow; what cannot be run is named."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.equalisers.keras_import import (
    from_keras,
    import_keras,
    keras_sha256,
    load_keras,
)
from codec2_eq.equalisers.network import load_network
from codec2_eq.errors import Codec2EqError

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def keras():
    return import_keras()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "codec2_eq"


@pytest.fixture
def saved(keras, tmp_path):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((20,)), keras.layers.Dense(30, "tanh"), keras.layers.Dense(20)]
    model = keras.Sequential(layers)
    (tmp_path / "home").mkdir()
    model.save(tmp_path / "home" / "mine.keras")
    return model, tmp_path / "home" / "mine.keras"


@pytest.fixture
def no_keras(monkeypatch):
    def fail():
        raise Codec2EqError("TensorFlow was asked for")

    monkeypatch.setattr("codec2_eq.equalisers.keras_import.import_keras", fail)


def vectors(n=12):
    return np.random.default_rng(3).normal(25, 15, (n, 20)).astype(np.float32)


def test_a_user_s_model_is_an_equaliser(keras, saved):
    model, path = saved
    equaliser = load_equaliser(path)
    assert equaliser.name == "mine"
    theirs = keras.ops.convert_to_numpy(model(vectors()))
    np.testing.assert_allclose(equaliser(vectors()), theirs, rtol=0, atol=1e-5)


def test_the_second_use_needs_no_tensorflow(saved, request):
    _, path = saved
    first = load_keras(path)
    assert path.with_name("mine.keras.npz").is_file()
    request.getfixturevalue("no_keras")
    assert load_keras(path).sha256 == first.sha256
    path.with_name("mine.keras.npz").rename(path.with_name("mine.npz"))  # as trained models ship
    assert load_keras(path).sha256 == first.sha256


def test_a_retrained_model_is_converted_again(saved, request):
    model, path = saved
    first = load_keras(path)
    model.set_weights([w + 1 for w in model.get_weights()])
    model.save(path)
    assert load_keras(path).sha256 != first.sha256


def test_where_the_folder_cannot_be_written_the_cache_serves(saved, cache, monkeypatch, request):
    _, path = saved
    # root may write anywhere, so the folder's refusal is played
    beside = path.with_name("mine.keras.npz")
    beside.mkdir()
    first = load_keras(path)
    assert [p.stem for p in cache.iterdir()] == [keras_sha256(path)]
    request.getfixturevalue("no_keras")
    assert load_keras(path).sha256 == first.sha256


def test_a_model_runs_even_where_nothing_can_be_kept(saved, tmp_path, monkeypatch):
    _, path = saved
    path.with_name("mine.keras.npz").mkdir()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_keras(path).outputs == 20


def test_the_hash_tells_content_not_date(saved, tmp_path):
    _, path = saved
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "b.keras", "w") as other:
        for name in archive.namelist():
            other.writestr(name, b"{}" if name == "metadata.json" else archive.read(name))
    assert keras_sha256(tmp_path / "b.keras") == keras_sha256(path)


def test_without_tensorflow_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(Codec2EqError, match=r"pip install '\.\[train\]'"):
        load_keras(saved[1])


def test_importing_keras_is_silent():
    code = "from codec2_eq.equalisers.keras_import import import_keras as i; i()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_an_unsupported_layer_is_named_without_tensorflow(keras, tmp_path, request):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((None, 20)), layers.Dense(20), layers.LSTM(20, name="memory")]
    )
    model.save(tmp_path / "lstm.keras")
    request.getfixturevalue("no_keras")
    with pytest.raises(Codec2EqError, match="lstm.keras: layer 2 'memory' is a LSTM, .*not supp"):
        load_keras(tmp_path / "lstm.keras")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda k: k.GRU(20), "gives one vector for all frames; set return_sequences=True"),
        (lambda k: k.GRU(20, return_sequences=True, go_backwards=True), "goes backwards"),
        (lambda k: k.Dense(20, activation="log_softmax"), "activation 'log_softmax' is not supp"),
        (lambda k: k.Reshape((-1, 10)), "changes the shape of a frame"),
        (lambda k: k.Normalization(mean=0, variance=1, invert=True), "has invert=True"),
    ],
)
def test_unsupported_options_are_named(keras, build, message):
    model = keras.Sequential([keras.Input((6, 20)), build(keras.layers)])
    with pytest.raises(Codec2EqError, match=message):
        from_keras(model, "net")


def test_a_model_that_is_no_row_of_layers_is_found_out(keras):
    x = keras.Input((20,))
    twice = keras.layers.Dense(20)
    with pytest.raises(Codec2EqError, match="runs differently here than in Keras"):
        from_keras(keras.Model(x, twice(twice(x))), "net")


def test_input_of_other_rank_is_refused(keras):
    model = keras.Sequential([keras.Input((4, 5, 20)), keras.layers.Dense(20)])
    with pytest.raises(Codec2EqError, match="takes input of shape"):
        from_keras(model, "net")


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_what_is_no_keras_file_is_told(tmp_path, content):
    (tmp_path / "x.keras").write_bytes(content)
    with pytest.raises(Codec2EqError, match="x.keras: not a .keras file"):
        load_equaliser(tmp_path / "x.keras")
    with pytest.raises(Codec2EqError, match="y.keras: no such file"):
        load_equaliser(tmp_path / "y.keras")


def test_weights_that_do_not_fit_are_told(saved, tmp_path):
    with zipfile.ZipFile(saved[1]) as archive, zipfile.ZipFile(tmp_path / "b.keras", "w") as other:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                content = content.replace(b'"units": 30', b'"units": 31')
            other.writestr(name, content)
    with pytest.raises(Codec2EqError, match="b.keras: Keras cannot read it"):
        load_keras(tmp_path / "b.keras")


def test_a_subclassed_model_is_told(saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "c.keras", "w") as other:
        other.writestr("config.json", '{"config": {}}')
        other.writestr("model.weights.h5", "")
    with pytest.raises(Codec2EqError, match="c.keras: not a Sequential or Functional model"):
        load_keras(tmp_path / "c.keras")


def test_the_converted_file_says_where_it_is_from(saved):
    load_keras(saved[1])
    kept = load_network(saved[1].with_name("mine.keras.npz"))
    assert kept.card == {"keras_sha256": keras_sha256(saved[1])}


@pytest.mark.train
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("kind", ["unbuilt", "empty", "two inputs", "dict", "unequal outputs"])
def test_models_that_are_no_row_of_layers_are_told_in_a_line(keras, tmp_path, kind):
    layers = keras.layers
    if kind == "unbuilt":
        model = keras.Sequential([layers.Dense(20)])
    elif kind == "empty":
        model = keras.Sequential([keras.Input((20,))])
    else:
        a, b = keras.Input((20,)), keras.Input((20,))
        wide, narrow = layers.Dense(20)(a), layers.Dense(10)(a)
        model = {
            "two inputs": lambda: keras.Model([a, b], [wide, layers.Dense(20)(b)]),
            "dict": lambda: keras.Model(a, {"x": wide}),
            "unequal outputs": lambda: keras.Model(a, [wide, narrow]),
        }[kind]()
    path = tmp_path / "odd.keras"
    model.save(path)
    with pytest.raises(Codec2EqError, match=r"odd\.keras: ") as told:
        load_keras(path)
    assert "\n" not in str(told.value)


@pytest.mark.train
def test_a_file_that_is_no_conversion_is_kept(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "mine.keras"
    path.write_bytes(saved[1].read_bytes())
    beside = tmp_path / "mine.keras.npz"
    np.savez(beside, vectors=np.zeros((3, 20)))
    kept = beside.read_bytes()
    load_keras(path)
    assert beside.read_bytes() == kept
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


@pytest.mark.train
def test_layers_that_keep_any_number_of_values_make_an_equaliser(keras, tmp_path):
    model = keras.Sequential([keras.Input((20,)), keras.layers.Rescaling(1.0, offset=-10)])
    model.save(tmp_path / "less.keras")
    rows = np.random.default_rng(0).normal(30, 5, (7, 20)).astype(np.float32)
    np.testing.assert_allclose(
        load_equaliser(str(tmp_path / "less.keras"))(rows), rows - 10, atol=1e-4
    )
