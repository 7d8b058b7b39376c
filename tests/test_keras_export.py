# SPDX-License-Identifier: LGPL-2.1-or-later
"""`.keras` files: converted once, then run without TensorFlow; what cannot be run is named."""

import os
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.equalisers.keras_import import (
    from_keras,
    import_keras,
    keras_sha256,
    load_keras,
)
from codec2_eq.equalisers.layers import Dense
from codec2_eq.equalisers.network import Network, load_network
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


def assert_as_keras(keras, model, network, frames=30):
    x = np.random.default_rng(5).normal(0, 1, (frames, 20)).astype(np.float32)
    fed = x if len(model.inputs[0].shape) == 2 else x[None]
    given = keras.tree.flatten(model(fed, training=False))[0]
    theirs = keras.ops.convert_to_numpy(given).reshape(frames, -1)
    np.testing.assert_allclose(network(x), theirs, rtol=1e-5, atol=1e-5)


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


def test_a_layer_that_is_used_twice_is_run_twice(keras):
    x = keras.Input((20,))
    twice = keras.layers.Dense(20)
    model = keras.Model(x, twice(twice(x)))
    assert_as_keras(keras, model, from_keras(model, "net"))


def test_input_of_other_rank_is_refused(keras):
    model = keras.Sequential([keras.Input((4, 5, 20)), keras.layers.Dense(20)])
    with pytest.raises(Codec2EqError, match="takes input of shape"):
        from_keras(model, "net")


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_what_is_no_keras_file_is_an_error(tmp_path, content):
    (tmp_path / "x.keras").write_bytes(content)
    with pytest.raises(Codec2EqError, match="x.keras: not a .keras file"):
        load_equaliser(tmp_path / "x.keras")
    with pytest.raises(Codec2EqError, match="y.keras: no such file"):
        load_equaliser(tmp_path / "y.keras")


def test_weights_that_do_not_fit_are_an_error(saved, tmp_path):
    change = lambda content: content.replace(b'"units": 30', b'"units": 31')  # noqa: E731
    spoilt(saved[1], tmp_path, "config.json", change)
    with pytest.raises(Codec2EqError, match="b.keras: Keras cannot read it"):
        load_keras(tmp_path / "b.keras")


def test_models_beyond_their_weights_are_refused_before_keras_starts(saved, tmp_path, no_keras):
    path = spoilt(saved[1], tmp_path, "config.json", lambda c: c.replace(b": 30", b": 3000000000"))
    with pytest.raises(Codec2EqError, match="has layers of .* 3000000000 values, beyond its"):
        load_keras(path)


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


def weights_of(network):
    arrays = [a for layer in network.layers for a in vars(layer).values() if hasattr(a, "ravel")]
    return np.concatenate([array.ravel() for array in arrays])


def spoilt(path, folder, name, change):
    """Write a copy of an archive in which one member is changed; return its path."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(folder / "b.keras", "w") as other:
        for member in archive.namelist():
            content = archive.read(member)
            other.writestr(member, change(content) if member == name else content)
    return folder / "b.keras"


def test_a_subclassed_model_is_refused(saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "c.keras", "w") as other:
        other.writestr("config.json", '{"config": {}}')
        other.writestr("model.weights.h5", "")
    with pytest.raises(Codec2EqError, match="c.keras: not a Sequential or Functional model"):
        load_keras(tmp_path / "c.keras")


def test_the_converted_file_says_where_it_is_from(saved):
    load_keras(saved[1])
    kept = load_network(saved[1].with_name("mine.keras.npz"))
    assert kept.card == {"keras_sha256": keras_sha256(saved[1]), "sha256": kept.sha256}


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


# ---------------------------------------------------------------- layers that are not in a row


def with_weights(model):
    """Give a model weights of which none is zero or one, biases included."""
    rng = np.random.default_rng(2)
    model.set_weights([0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def residual(k):
    x = k.Input((None, 20))
    hidden = k.layers.GRU(20, return_sequences=True)(x)
    added = k.layers.Add()([hidden, x])
    wide = k.layers.Dense(30, activation="tanh")(added)
    projected = k.layers.Dense(30)(x)
    return k.Model(x, k.layers.Dense(20)(k.layers.Add()([wide, projected, wide])))


def nested(k):
    def inner():
        return k.Sequential([k.Input((None, 20)), k.layers.Dense(16, "relu"), k.layers.Dense(20)])

    y = k.Input((None, 20))
    functional = k.Model(y, k.layers.Add()([inner()(y), y]))
    return k.Sequential([k.Input((None, 20)), functional, inner(), k.layers.Dense(20)])


def functional_in_functional(k):
    def inner():
        y = k.Input((None, 20))
        return k.Model(y, y + k.layers.LSTM(20, return_sequences=True)(y))

    x = k.Input((None, 20))
    both = inner()
    return k.Model(x, k.layers.Dense(20)(inner()(both(both(x))) + x))


BUILDS = {
    "relu": lambda k: k.Sequential([k.Input((20,)), k.layers.Dense(16), k.layers.ReLU()]),
    "bounded relu": lambda k: k.Sequential(
        [k.Input((20,)), k.layers.Dense(16), k.layers.ReLU(1.0, 0.25, 0.2)]
    ),
    "leaky relu": lambda k: k.Sequential(
        [k.Input((20,)), k.layers.Dense(16), k.layers.LeakyReLU(0.07)]
    ),
    "lstm": lambda k: k.Sequential(
        [k.Input((None, 20)), k.layers.LSTM(12, return_sequences=True), k.layers.Dense(20)]
    ),
    "lstm, other options": lambda k: k.Sequential(
        [
            k.Input((None, 20)),
            k.layers.LSTM(
                12,
                return_sequences=True,
                use_bias=False,
                activation="softsign",
                recurrent_activation="hard_sigmoid",
            ),
        ]
    ),
    "residual": residual,
    "nested": nested,
    "functional": functional_in_functional,
}


@pytest.mark.parametrize("kind", BUILDS)
def test_layers_give_what_keras_gives(keras, kind):
    model = with_weights(BUILDS[kind](keras))
    assert_as_keras(keras, model, from_keras(model, "net"))


@pytest.mark.parametrize("kind", ["residual", "nested", "functional", "lstm", "bounded relu"])
def test_they_go_through_files(keras, kind, tmp_path):
    model = with_weights(BUILDS[kind](keras))
    model.save(tmp_path / "m.keras")
    network = load_keras(tmp_path / "m.keras")
    again = load_network(tmp_path / "m.keras.npz")
    assert again.sha256 == network.sha256 and again.wiring == network.wiring
    assert_as_keras(keras, model, again)
    x = np.random.default_rng(1).normal(0, 1, (20, 20)).astype(np.float32)
    first, state = again.forward(x[:7], again.initial_state())
    second, _ = again.forward(x[7:], state)
    np.testing.assert_array_equal(np.concatenate([first, second]), again(x))


def test_a_description_that_goes_round_is_an_error(keras):
    model = BUILDS["functional"](keras)
    description = model.get_config()
    call = next(each for each in description["layers"] if each["class_name"] == "Functional")
    call["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = [call["name"], 0, 0]
    model.get_config = lambda: description
    with pytest.raises(Codec2EqError, match="^net: layer 'functional.*' needs its own output"):
        from_keras(model, "net")


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "float64"])
def test_other_precisions_run_in_float32(keras, policy, tmp_path):
    kept = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((None, 20)),
                layers.Rescaling(0.05, -1),
                layers.GRU(8, return_sequences=True),
                layers.Dense(20),
            ]
        )
        model.save(tmp_path / "m.keras")
        weights = [np.float32(w) for w in model.get_weights()]
    finally:
        keras.mixed_precision.set_dtype_policy(kept)
    plain = keras.Sequential(
        [
            keras.Input((None, 20)),
            layers.Rescaling(0.05, -1),
            layers.GRU(8, return_sequences=True),
            layers.Dense(20),
        ]
    )
    plain.set_weights(weights)
    assert_as_keras(keras, plain, load_keras(tmp_path / "m.keras"))


def test_one_input_and_output_may_be_named(keras, tmp_path):
    x = keras.Input((None, 20), name="vectors")
    y = keras.layers.Dense(20)(keras.layers.GRU(8, return_sequences=True)(x))
    keras.Model({"vectors": x}, {"out": y}).save(tmp_path / "named.keras")
    plain = keras.Model(x, y)
    assert_as_keras(keras, plain, load_keras(tmp_path / "named.keras"))


def test_several_outputs_are_refused_by_a_sentence(keras, tmp_path):
    x = keras.Input((20,))
    y = keras.layers.Dense(20)(x)
    keras.Model(x, {"a": y, "b": keras.layers.Dense(20)(y)}).save(tmp_path / "two.keras")
    with pytest.raises(Codec2EqError, match="two.keras: gives 2 outputs; an equaliser takes vect"):
        load_keras(tmp_path / "two.keras")


# ------------------------------------------------------------------------------ foreign classes


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


# ---------------------------------------------------------------------------------- other formats


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


def test_a_conversion_that_was_changed_is_not_used(saved):
    _, path = saved
    first = load_keras(path)
    beside = path.with_name("mine.keras.npz")
    layers = [Dense(np.ones((20, 20), np.float32), np.zeros(20, np.float32))]
    Network("mine", layers, card=first.card).save(beside, force=True)
    assert load_keras(path).sha256 == first.sha256
    assert load_network(beside).sha256 == first.sha256


def test_the_environment_is_left_as_it_was():
    code = (
        "import os; before = dict(os.environ);"
        "from codec2_eq.equalisers.keras_import import import_keras as i; i();"
        "assert dict(os.environ).items() - before.items() <= "
        "{('TF2_BEHAVIOR', '1'), ('TPU_ML_PLATFORM', 'Tensorflow')}, os.environ"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_shipped_model_opens_in_keras_after_one_import(tmp_path):
    """As docs/models.md says, in a program that is not ours."""
    shipped = models_dir() / "channel_eq.keras"
    code = (
        "import keras; import codec2_eq.equalisers.keras_cell;"
        f"print(keras.saving.load_model({str(shipped)!r}).count_params())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(models_dir().parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == load_network(models_dir() / "channel_eq.npz").card["parameters"]
