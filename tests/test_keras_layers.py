# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layers of Keras models give what Keras gives: also branches, nested models, other precisions."""

import numpy as np
import pytest

from codec2_eq.equalisers.keras_import import from_keras, load_keras
from codec2_eq.equalisers.network import load_network
from codec2_eq.errors import Codec2EqError

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("cache")]


def assert_as_keras(keras, model, network, frames=30):
    x = np.random.default_rng(5).normal(0, 1, (frames, 20)).astype(np.float32)
    fed = x if len(model.inputs[0].shape) == 2 else x[None]
    given = keras.tree.flatten(model(fed, training=False))[0]
    theirs = keras.ops.convert_to_numpy(given).reshape(frames, -1)
    np.testing.assert_allclose(network(x), theirs, rtol=1e-5, atol=1e-5)


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


def test_a_layer_that_is_used_twice_is_run_twice(keras):
    x = keras.Input((20,))
    twice = keras.layers.Dense(20)
    model = keras.Model(x, twice(twice(x)))
    assert_as_keras(keras, model, from_keras(model, "net"))


def test_a_description_that_goes_round_is_an_error(keras):
    model = BUILDS["functional"](keras)
    description = model.get_config()
    call = next(each for each in description["layers"] if each["class_name"] == "Functional")
    call["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = [call["name"], 0, 0]
    model.get_config = lambda: description
    with pytest.raises(Codec2EqError, match="^net: layer 'functional.*' needs its own output"):
        from_keras(model, "net")


def test_one_input_and_output_may_be_named(keras, tmp_path):
    x = keras.Input((None, 20), name="vectors")
    y = keras.layers.Dense(20)(keras.layers.GRU(8, return_sequences=True)(x))
    keras.Model({"vectors": x}, {"out": y}).save(tmp_path / "named.keras")
    plain = keras.Model(x, y)
    assert_as_keras(keras, plain, load_keras(tmp_path / "named.keras"))


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
