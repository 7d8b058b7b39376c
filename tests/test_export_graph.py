# SPDX-License-Identifier: LGPL-2.1-or-later
"""Networks as ONNX and LiteRT graphs, run frame by frame beside Python and Keras."""

import json

import numpy as np
import pytest
from conftest import require_package
from exported_network import all_layers, weights, without_gate

from codec2_eq.cli import main
from codec2_eq.codec2 import K
from codec2_eq.equalisers.activations import ACTIVATIONS
from codec2_eq.equalisers.equaliser import load_trained, models_dir
from codec2_eq.equalisers.layers import Dense
from codec2_eq.equalisers.network import Network
from codec2_eq.extraction import extract_file

pytestmark = pytest.mark.train
TOL = 1e-5


def run_onnx(path, rows):
    onnxruntime = require_package("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    states: dict[str, np.ndarray] = {}
    shapes = []
    for row in rows:
        given = dict(zip(names, session.run(names, {"vector": row[None], **states}), strict=True))
        shapes.append(given.pop("shape")[0])
        states = {name.removesuffix("_next"): value for name, value in given.items()}
    return np.array(shapes)


def run_litert(path, rows, network):
    litert = require_package("ai_edge_litert.interpreter")
    step = litert.Interpreter(str(path)).get_signature_runner("serve")
    states = {f"l{n.replace('.', '_')}": v[None] for n, v in network.initial_state().items()}
    shapes = []
    for row in rows:
        given = step(vector=row[None], **states)
        shapes.append(given["shape"][0])
        states = {name: given[f"{name}_next"] for name in states}
    return np.array(shapes)


def run(kind, network, rows, folder):
    if kind == "onnx":
        from codec2_eq.equalisers.export_onnx import write_onnx

        write_onnx(network, folder / "net.onnx")
        return run_onnx(folder / "net.onnx", rows)
    from codec2_eq.equalisers.keras_litert import write_litert

    write_litert(network, folder / "net.tflite")
    return run_litert(folder / "net.tflite", rows, network)


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_channel_eq_gives_what_keras_gives(kind, samples_dir, tmp_path):
    """Of speech and a tone, the state carried from frame to frame."""
    from codec2_eq.equalisers.keras_import import import_keras

    keras = import_keras()
    import codec2_eq.equalisers.keras_cell  # noqa: F401  # makes its cell known

    rows = extract_file(samples_dir / "espeak_male_1.wav").vectors
    rows = np.concatenate([rows, np.repeat(rows[-1:], 20, axis=0), rows])
    model = keras.saving.load_model(models_dir() / "channel_eq.keras", compile=False)
    theirs = keras.ops.convert_to_numpy(model(rows[None]))[0]
    network = load_trained("channel_eq")
    out = run(kind, network, rows, tmp_path)
    np.testing.assert_allclose(out, theirs, rtol=TOL, atol=TOL)


def test_gradients_pass_the_gate():
    """And what moves less than the gate asks for teaches neither curve nor weights."""
    from codec2_eq.equalisers.keras_import import import_keras

    import_keras()
    import tensorflow as tf

    from codec2_eq.equalisers import keras_cell

    rows = np.random.default_rng(0).normal(20, 5, (1, 30, K)).astype(np.float32)
    model = keras_cell.model((5, 4), still_db=1.0)
    names = [weight.name for weight in model.trainable_weights]
    for batch, teaches in ((rows, True), (rows.mean(axis=2, keepdims=True) + 0 * rows, False)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(batch)))
        found = dict(zip(names, tape.gradient(loss, model.trainable_weights), strict=True))
        assert all(np.isfinite(gradient).all() for gradient in found.values())
        lack_and_trust = found["kernel3"].numpy()[:, : 2 * K]
        assert (np.abs(lack_and_trust).max() > 0) == teaches
        assert np.abs(found["kernel3"].numpy()[:, 2 * K : 3 * K]).max() > 0  # trims are no memory


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_an_estimator_without_a_gate(kind, samples_dir, tmp_path):
    network = Network("ungated", [without_gate()])
    rows = extract_file(samples_dir / "espeak_male_1.wav").vectors
    out = run(kind, network, rows, tmp_path)
    np.testing.assert_allclose(out, network(rows), rtol=TOL, atol=TOL)


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_every_kind_of_layer(kind, tmp_path):
    network, rows = all_layers(), weights(40, K, seed=9)
    out = run(kind, network, rows, tmp_path)
    np.testing.assert_allclose(out, network(rows), rtol=TOL, atol=TOL)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation(name, tmp_path):
    network = Network("act", [Dense(weights(K, K), weights(K), name)])
    rows = weights(50, K, seed=3)
    out = run("onnx", network, rows, tmp_path)
    np.testing.assert_allclose(out, network(rows), rtol=TOL, atol=TOL)


def test_a_graph_may_go_to_a_pipe(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    words = ["export", "mean_removal", "--format", "onnx", "--json", "-o"]
    assert not main([*words, "a.onnx"])
    capfdbinary.readouterr()
    assert not main([*words, "-"])
    told = capfdbinary.readouterr()
    assert told.out == (tmp_path / "a.onnx").read_bytes()
    assert json.loads(told.err) == {"outputs": ["-"], "bytes": len(told.out)}


def test_the_command_writes_graphs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert not main(["export", "mean_removal", "--format", "onnx"])
    assert (tmp_path / "mean_removal.onnx").is_file()
    assert main(["export", "mean_removal", "--format", "onnx"]) == 1
    assert "mean_removal.onnx: exists already" in capfd.readouterr().err
    rows = weights(5, K, seed=1)
    out = run_onnx(tmp_path / "mean_removal.onnx", rows)
    np.testing.assert_allclose(out, load_trained("mean_removal")(rows), atol=TOL)
    with pytest.raises(SystemExit):
        main(["export", "mean_removal", "--c", "c", "-o", "x"])
