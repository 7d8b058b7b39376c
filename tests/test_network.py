# SPDX-License-Identifier: LGPL-2.1-or-later
"""Networks: analytic values, NumPy against Keras, chunks and saved states, files and errors."""

import json
import math
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec2_eq.equalisers import layers, network
from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.equalisers.layers import Activation, Dense, Scale
from codec2_eq.equalisers.network import Network, load_network
from codec2_eq.equalisers.recurrent import GRU
from codec2_eq.errors import Codec2EqError

TOL = 1e-5  # against Keras, whose sums run in another order

SIGMOID_1 = 1 / (1 + math.exp(-1))
AT_ONE = {
    "linear": 1,
    "relu": 1,
    "elu": 1,
    "selu": 1.05070098,
    "tanh": math.tanh(1),
    "sigmoid": SIGMOID_1,
    "hard_sigmoid": 2 / 3,
    "softplus": math.log1p(math.e),
    "softsign": 0.5,
    "silu": SIGMOID_1,
    "swish": SIGMOID_1,
    "gelu": 0.5 * (1 + math.erf(1 / math.sqrt(2))),
    "leaky_relu": 1,
    "exponential": math.e,
}


def weights(*shape, seed=0, size=0.3):
    return (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.float32)


def frames(n, seed=1):
    return weights(n, 20, seed=seed, size=12)


def dense_net(activation):
    first = Dense(weights(20, 33, size=0.05), weights(33, seed=2), activation)
    return Network("net", [first, Dense(weights(33, 20, seed=3), weights(20, seed=4))])


def gru_net(reset_after=True):
    gru = GRU(
        weights(20, 144, size=0.03),
        weights(48, 144, seed=2),
        weights(2, 144, seed=3),
        reset_after=reset_after,
    )
    return Network("net", [gru, Dense(weights(48, 20, seed=4), weights(20, seed=5))])


def test_every_activation_has_its_analytic_value():
    assert set(AT_ONE) == set(layers.ACTIVATIONS)
    one = np.ones((1, 1), np.float32)
    for name, value in AT_ONE.items():
        assert layers.ACTIVATIONS[name](one)[0, 0] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("name", sorted(set(AT_ONE) - {"linear", "exponential", "relu"}))
def test_no_activation_overflows(name):
    far = np.array([[-1e4, 1e4]], np.float32)
    assert np.isfinite(layers.ACTIVATIONS[name](far)).all()


def test_affine_is_the_matrix_product():
    x, kernel, bias = frames(7), weights(20, 5), weights(5)
    exact = x.astype(float) @ kernel.astype(float) + bias
    np.testing.assert_allclose(layers.affine(x, kernel, bias), exact, rtol=0, atol=1e-5)


def test_gru_without_weights_halves_its_memory():
    # all gates are 0.5 and the candidate is 0, so h is halved at each step
    kernel, recurrent, bias = (np.zeros((n, 6), np.float32) for n in (1, 2, 2))
    gru = GRU(kernel, recurrent, bias)
    out, state = gru.forward(np.ones((3, 1), np.float32), {"h": np.array([8, -4], np.float32)})
    np.testing.assert_array_equal(out, [[4, -2], [2, -1], [1, -0.5]])
    np.testing.assert_array_equal(state["h"], [1, -0.5])


@given(st.lists(st.integers(0, 70), max_size=6), st.sampled_from([*AT_ONE, "gru", "before"]))
def test_any_chunking_gives_the_same_bits(cuts, kind):
    net = dense_net(kind) if kind in AT_ONE else gru_net(reset_after=kind == "gru")
    x = frames(70)
    state, parts = net.initial_state(), []
    for block in np.split(x, sorted(cuts)):
        part, state = net.forward(block, state)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts), net(x))


def test_a_saved_state_resumes(tmp_path):
    net, x = gru_net(), frames(20)
    _, state = net.forward(x[:11], net.initial_state())
    np.savez(tmp_path / "state.npz", **state)
    with np.load(tmp_path / "state.npz") as saved:
        rest, _ = net.forward(x[11:], dict(saved))
    np.testing.assert_array_equal(rest, net(x)[11:])


def test_forward_leaves_the_given_state_alone():
    net = gru_net()
    state = net.initial_state()
    net.forward(frames(3), state)
    assert not state["0.h"].any()


def test_a_file_gives_back_the_network(tmp_path):
    net = Network(
        "round trip",
        [
            Scale(weights(20), weights(20, seed=9)),
            *gru_net(reset_after=False).layers,
            Activation("tanh"),
        ],
        frame_ms=20,
        card={"data": "none"},
    )
    net.save(tmp_path / "net.npz")
    again = load_network(tmp_path / "net.npz")
    assert (again.name, again.frame_ms, again.card) == ("round trip", 20, {"data": "none"})
    assert again.sha256 == net.sha256
    assert again.stateful
    np.testing.assert_array_equal(again(frames(9)), net(frames(9)))


def test_the_file_needs_no_pickle_and_holds_what_is_documented(tmp_path):
    dense_net("tanh").save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["0.bias", "0.kernel", "1.bias", "1.kernel", "meta"]
        meta = json.loads(str(arrays["meta"]))
    assert meta["format"] == "codec2_eq network"
    assert meta["layers"][0] == {"kind": "dense", "activation": "tanh"}


def test_the_version_follows_the_weights_not_the_card():
    net = dense_net("tanh")
    renamed = Network("other", net.layers, card={"seed": 2})
    first = net.layers[0]
    nudged = Dense(first.kernel + np.float32(1e-6), first.bias, "tanh")
    assert renamed.sha256 == net.sha256
    assert Network("net", [nudged, net.layers[1]]).sha256 != net.sha256
    assert dense_net("relu").sha256 != net.sha256


def test_a_network_travels_to_another_process():
    net = gru_net(reset_after=False)
    net(frames(2))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net))(frames(5)), net(frames(5)))


def test_a_new_layer_kind_is_stored_and_run(tmp_path, monkeypatch):
    kinds = dict(layers.LAYERS)
    for module in (layers, network):
        monkeypatch.setattr(module, "LAYERS", kinds)
    source = """
import dataclasses
import numpy as np
from codec2_eq.equalisers.layers import Layer, register

@register("total")
@dataclasses.dataclass(frozen=True, eq=False)
class Total(Layer):
    gain: np.ndarray
    shift: float = 0.0

    def initial_state(self):
        return {"sum": np.zeros(self.gain.shape, np.float32)}

    def forward(self, x, state):
        sums = np.cumsum(np.vstack([state["sum"][None], x]), axis=0, dtype=np.float32)
        return sums[1:] * self.gain + np.float32(self.shift), {"sum": sums[-1]}
"""
    names: dict = {}
    exec(source, names)  # as another module would, with or without postponed annotations
    net = Network("sum", [names["Total"](np.full(20, 2, np.float32), 1.0)])
    net.save(tmp_path / "sum.npz")
    again = load_network(tmp_path / "sum.npz")
    np.testing.assert_array_equal(again(np.ones((3, 20)))[:, 0], [3, 5, 7])


def test_loading_does_not_import_tensorflow(tmp_path):
    gru_net().save(tmp_path / "net.npz")
    code = (
        "import sys; from codec2_eq.equalisers.network import load_network as l; l(sys.argv[1]);"
        "sys.exit(sum(m in sys.modules for m in ('tensorflow', 'keras', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "net.npz"]).returncode == 0


def save_meta(path, meta, **arrays):
    np.savez(path, meta=np.array(json.dumps(meta)), **arrays)


META = {"format": network.FORMAT, "version": 1, "name": "n", "frame_ms": 40, "card": {}}


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (META | {"layers": [{"kind": "conv"}]}, "layer 0 is of kind 'conv', which is not supp"),
        (META | {"layers": [], "version": 3}, "network format 3, this version reads up to 2"),
        (META | {"layers": [], "format": "x"}, "not a network file"),
        (META | {"layers": [{"kind": "dense"}]}, "not a network file"),
        (META | {"layers": [], "frame_ms": 400_000_000}, "not a network file"),
        (META | {"layers": [{"kind": "activation", "activation": "hat"}]}, "activation 'hat'"),
        (META | {"layers": [{"kind": "activation", "activation": "relu", "x": 1}]}, "not a netw"),
    ],
)
def test_bad_files_are_named(tmp_path, meta, message):
    save_meta(tmp_path / "bad.npz", meta)
    with pytest.raises(Codec2EqError, match=f"bad.npz: .*{message}"):
        load_network(tmp_path / "bad.npz")


def test_biases_of_an_estimator_have_one_dimension(tmp_path):
    with np.load(models_dir() / "channel_eq.npz") as arrays:
        own = dict(arrays)
    (name,) = (name for name in own if name.endswith(".bias1"))
    np.savez(tmp_path / "b.npz", **{**own, name: own[name].reshape(2, -1)})
    with pytest.raises(Codec2EqError, match=r"b\.npz: recursive_estimator: kernels .* do not fit"):
        load_network(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"model.weights.h5": bytes(200 << 20)}, "bytes of arrays, at most 134,217,728"),
        ({"config.json": b"[" * 100_000}, "not a .keras file"),
        (  # as deep as Python 3.11 reads no more, but later ones do
            {"config.json": b'{"config": ' + b'{"a":' * 900 + b"1" + b"}" * 901},
            r"not a (\.keras file|Sequential or Functional model)",
        ),
    ],
)
def test_hostile_keras_files_are_refused_before_keras_starts(tmp_path, members, message):
    path = tmp_path / "a.keras"
    whole = {"metadata.json": b"{}", "config.json": b'{"config": {}}', "model.weights.h5": b""}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (whole | members).items():
            archive.writestr(name, content)
    with pytest.raises(Codec2EqError, match=message):
        load_equaliser(str(path))


def test_weights_must_be_finite(tmp_path):
    layers = [{"kind": "scale"}]
    save_meta(
        tmp_path / "nan.npz", META | {"layers": layers}, **{"0.scale": [np.nan], "0.offset": [0]}
    )
    with pytest.raises(Codec2EqError, match=r"layer 0 \(scale\) has weights that are not finite"):
        load_network(tmp_path / "nan.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY", b"text"])
def test_other_files_are_not_networks(tmp_path, content):
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(Codec2EqError, match="other.npz: not a network file"):
        load_network(tmp_path / "other.npz")


def test_a_truncated_file_is_refused(tmp_path):
    gru_net().save(tmp_path / "net.npz")
    whole = (tmp_path / "net.npz").read_bytes()
    (tmp_path / "net.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Codec2EqError, match="net.npz: not a network file"):
        load_network(tmp_path / "net.npz")


def test_files_that_cannot_be_read_or_replaced(tmp_path):
    with pytest.raises(Codec2EqError, match="none.npz: no such file"):
        load_network(tmp_path / "none.npz")
    with pytest.raises(Codec2EqError, match="directory"):
        load_network(tmp_path)
    net = dense_net("tanh")
    net.save(tmp_path / "net.npz")
    with pytest.raises(Codec2EqError, match="exists already"):
        net.save(tmp_path / "net.npz")
    net.save(tmp_path / "net.npz", force=True)


def test_layers_must_fit():
    with pytest.raises(Codec2EqError, match="layer 1 .dense. takes 33 values, .* gives 20"):
        Network("n", [Scale(weights(20), weights(20)), dense_net("tanh").layers[1]])
    with pytest.raises(Codec2EqError, match="kernel .* do not fit"):
        Dense(weights(20, 5), weights(4))
    with pytest.raises(Codec2EqError, match="gru: kernel .* do not fit"):
        GRU(weights(20, 5), weights(4, 12), weights(2, 12))
    with pytest.raises(Codec2EqError, match="scale: .* do not fit"):
        Scale(weights(20), weights(4))
    with pytest.raises(Codec2EqError, match=r"input of shape \(20,\), expected \(frames, 20\)"):
        dense_net("tanh")(weights(20))


# --------------------------------------------------------------------------- against Keras


def held_to_keras(keras, layers, shape=(20,)):
    from codec2_eq.equalisers.keras_import import from_keras

    model = keras.Sequential([keras.Input(shape), *layers])
    model.set_weights([weights(*w.shape, seed=i) for i, w in enumerate(model.get_weights())])
    net = from_keras(model, "net")
    x = weights(1, 50, 20, seed=7, size=0.7)
    theirs = keras.ops.convert_to_numpy(model(x if len(shape) > 1 else x[0]))
    np.testing.assert_allclose(net(x[0]), theirs.reshape(50, -1), rtol=TOL, atol=TOL)
    return net


@pytest.mark.train
@pytest.mark.parametrize("name", sorted(AT_ONE))
def test_activations_are_those_of_keras(keras, name):
    held_to_keras(keras, [keras.layers.Dense(30, activation=name), keras.layers.Dense(20)])


@pytest.mark.train
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reset_after": False},
        {"use_bias": False},
        {"reset_after": False, "use_bias": False},
        {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    ],
)
def test_gru_is_that_of_keras(keras, options):
    gru = keras.layers.GRU(24, return_sequences=True, **options)
    net = held_to_keras(keras, [gru, keras.layers.Dense(20)], shape=(None, 20))
    assert net.stateful


@pytest.mark.train
def test_other_layers_are_those_of_keras(keras):
    layers = keras.layers
    normal = layers.Normalization(mean=weights(20), variance=weights(20) ** 2 + 1)
    held_to_keras(
        keras,
        [
            layers.Rescaling(0.5, offset=-1),
            normal,
            layers.Reshape((20,)),
            layers.Dropout(0.5),
            layers.Dense(20, use_bias=False),
            layers.Activation("tanh"),
            layers.GaussianNoise(1),
        ],
    )


@pytest.mark.train
def test_batch_normalization_is_folded(keras):
    from codec2_eq.equalisers.keras_import import from_keras

    model = keras.Sequential([keras.Input((20,)), keras.layers.BatchNormalization()])
    values = [weights(20, seed=i) for i in range(3)] + [weights(20) ** 2 + 0.5]
    model.set_weights(values)
    theirs = keras.ops.convert_to_numpy(model(frames(30), training=False))
    np.testing.assert_allclose(from_keras(model, "n")(frames(30)), theirs, rtol=TOL, atol=TOL)


@pytest.mark.train
def test_a_time_distributed_dense_is_a_dense(keras):
    layers = keras.layers
    held_to_keras(keras, [layers.TimeDistributed(layers.Dense(20))], shape=(None, 20))
    with pytest.raises(Codec2EqError, match="holds a LayerNormalization, which is not supported"):
        held_to_keras(
            keras, [layers.TimeDistributed(layers.LayerNormalization())], shape=(None, 20)
        )
