# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keras models that cannot be run: damaged files, other layers and foreign classes are named."""

import warnings
import zipfile

import numpy as np
import pytest

from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.equalisers.keras_import import from_keras, load_keras
from codec2_eq.errors import Codec2EqError

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("cache")]


# -- files


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_what_is_no_keras_file_is_an_error(tmp_path, content):
    (tmp_path / "x.keras").write_bytes(content)
    with pytest.raises(Codec2EqError, match="x.keras: not a .keras file"):
        load_equaliser(tmp_path / "x.keras")
    with pytest.raises(Codec2EqError, match="y.keras: no such file"):
        load_equaliser(tmp_path / "y.keras")


def test_older_formats_get_their_remedy(keras, saved, tmp_path):
    model, _ = saved
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "old.h5")
    (tmp_path / "old.keras").write_bytes((tmp_path / "old.h5").read_bytes())
    for name in ("old.h5", "old.keras"):
        with pytest.raises(Codec2EqError, match=f"{name}: of Keras' older format HDF5.*convert it"):
            load_equaliser(tmp_path / name)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(Codec2EqError, match="saved: a SavedModel, .*; save the Keras model that"):
        load_equaliser(tmp_path / "saved")


def spoilt(path, folder, name, change):
    """Write a copy of an archive in which one member is changed; return its path."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(folder / "b.keras", "w") as other:
        for member in archive.namelist():
            content = archive.read(member)
            other.writestr(member, change(content) if member == name else content)
    return folder / "b.keras"


def test_weights_that_do_not_fit_are_an_error(saved, tmp_path):
    change = lambda content: content.replace(b'"units": 30', b'"units": 31')  # noqa: E731
    spoilt(saved[1], tmp_path, "config.json", change)
    with pytest.raises(Codec2EqError, match="b.keras: Keras cannot read it"):
        load_keras(tmp_path / "b.keras")


def test_models_beyond_their_weights_are_refused_before_keras_starts(saved, tmp_path, no_keras):
    path = spoilt(saved[1], tmp_path, "config.json", lambda c: c.replace(b": 30", b": 3000000000"))
    with pytest.raises(Codec2EqError, match="has layers of .* 3000000000 values, beyond its"):
        load_keras(path)


def weights_of(network):
    arrays = [a for layer in network.layers for a in vars(layer).values() if hasattr(a, "ravel")]
    return np.concatenate([array.ravel() for array in arrays])


def test_damaged_weights_are_rejected(saved, tmp_path):
    """Keras would use random ones for those that are lost, and h5py may raise anything."""
    rng = np.random.default_rng(2)
    whole = load_keras(saved[1])

    def damage(content):
        at = int(rng.integers(0, len(content) - 8))
        return content[:at] + bytes(8) + content[at + 8 :]

    n_refused = 0
    for number in range(60):
        path = spoilt(saved[1], tmp_path / str(number), "model.weights.h5", damage)
        try:
            network = load_keras(path)
        except Codec2EqError as error:
            assert "Keras cannot read it" in str(error) or "finite" in str(error)
            n_refused += 1
            continue
        assert np.count_nonzero(weights_of(network) != weights_of(whole)) <= 3
    assert n_refused > 5


# -- layers and shapes


def test_an_unsupported_layer_is_named_without_tensorflow(keras, tmp_path, request):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((None, 20)), layers.Dense(20), layers.Conv1D(20, 3, name="memory")]
    )
    model.save(tmp_path / "conv.keras")
    request.getfixturevalue("no_keras")
    with pytest.raises(Codec2EqError, match="conv.keras: layer 2 'memory' is a Conv1D, .*not supp"):
        load_keras(tmp_path / "conv.keras")


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


def test_input_of_other_rank_is_refused(keras):
    model = keras.Sequential([keras.Input((4, 5, 20)), keras.layers.Dense(20)])
    with pytest.raises(Codec2EqError, match="takes input of shape"):
        from_keras(model, "net")


def test_a_subclassed_model_is_refused(saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "c.keras", "w") as other:
        other.writestr("config.json", '{"config": {}}')
        other.writestr("model.weights.h5", "")
    with pytest.raises(Codec2EqError, match="c.keras: not a Sequential or Functional model"):
        load_keras(tmp_path / "c.keras")


@pytest.mark.train
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("kind", ["unbuilt", "empty", "two inputs", "unequal outputs"])
def test_models_that_are_no_row_of_layers_are_refused_in_a_line(keras, tmp_path, kind):
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
            "unequal outputs": lambda: keras.Model(a, [wide, narrow]),
        }[kind]()
    path = tmp_path / "odd.keras"
    model.save(path)
    with pytest.raises(Codec2EqError, match=r"odd\.keras: ") as told:
        load_keras(path)
    assert "\n" not in str(told.value)


def test_several_outputs_are_refused_by_a_sentence(keras, tmp_path):
    x = keras.Input((20,))
    y = keras.layers.Dense(20)(x)
    keras.Model(x, {"a": y, "b": keras.layers.Dense(20)(y)}).save(tmp_path / "two.keras")
    with pytest.raises(Codec2EqError, match="two.keras: gives 2 outputs; an equaliser takes vect"):
        load_keras(tmp_path / "two.keras")


# -- foreign classes


def test_classes_within_wrappers_are_checked_before_keras_builds_them(
    keras, tmp_path, request, saved
):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((None, 20)), layers.Conv1D(20, 1)])
    models = {
        "a Conv1D": keras.Sequential([keras.Input((None, 20)), inner]),
        "a Softmax": keras.Sequential(
            [keras.Input((None, 20)), layers.TimeDistributed(layers.Softmax())]
        ),
        "a SimpleRNNCell": keras.Sequential(
            [keras.Input((None, 20)), layers.RNN(layers.SimpleRNNCell(20), return_sequences=True)]
        ),
    }
    for i, model in enumerate(models.values()):
        model.save(tmp_path / f"{i}.keras")
    request.getfixturevalue("no_keras")
    for i, kind in enumerate(models):
        with pytest.raises(Codec2EqError, match=rf"{i}.keras: layer 1 .* holds {kind}, which is"):
            load_keras(tmp_path / f"{i}.keras")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            b'"activation": "tanh"',
            b'"activation": {"module": "builtins", "class_name": "function", "config": "eval"}',
            "holds a function, which is not supported",
        ),
        (b'"module": "keras.initializers"', b'"module": "os"', "holds a .*, which is not supp"),
        (b'"class_name": "Sequential"', b'"class_name": "Mine"', "is a Mine, a class of its own"),
    ],
)
def test_foreign_functions_are_named_before_keras_sees_them(
    saved, tmp_path, request, old, new, message
):
    with zipfile.ZipFile(saved[1]) as archive, zipfile.ZipFile(tmp_path / "b.keras", "w") as other:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                assert old in content
                content = content.replace(old, new)
            other.writestr(name, content)
    request.getfixturevalue("no_keras")
    with pytest.raises(Codec2EqError, match=f"b.keras: .*{message}"):
        load_keras(tmp_path / "b.keras")
