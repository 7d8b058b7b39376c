# SPDX-License-Identifier: LGPL-2.1-or-later
"""`.keras` files: converted once, kept beside them or in the cache, then run without TensorFlow."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.equalisers.keras_import import keras_sha256, load_keras
from codec2_eq.equalisers.layers import Dense
from codec2_eq.equalisers.network import Network, load_network
from codec2_eq.errors import Codec2EqError

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("cache")]


def vectors(n=12):
    return np.random.default_rng(3).normal(25, 15, (n, 20)).astype(np.float32)


def test_a_user_s_model_is_an_equaliser(keras, saved):
    model, path = saved
    equaliser = load_equaliser(path)
    assert equaliser.name == "mine"
    theirs = keras.ops.convert_to_numpy(model(vectors()))
    np.testing.assert_allclose(equaliser(vectors()), theirs, rtol=0, atol=1e-5)


@pytest.mark.train
def test_layers_that_keep_any_number_of_values_make_an_equaliser(keras, tmp_path):
    model = keras.Sequential([keras.Input((20,)), keras.layers.Rescaling(1.0, offset=-10)])
    model.save(tmp_path / "less.keras")
    rows = np.random.default_rng(0).normal(30, 5, (7, 20)).astype(np.float32)
    np.testing.assert_allclose(
        load_equaliser(str(tmp_path / "less.keras"))(rows), rows - 10, atol=1e-4
    )


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


def test_the_converted_file_says_where_it_is_from(saved):
    load_keras(saved[1])
    kept = load_network(saved[1].with_name("mine.keras.npz"))
    assert kept.card == {"keras_sha256": keras_sha256(saved[1]), "sha256": kept.sha256}


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


def test_a_conversion_that_was_changed_is_not_used(saved):
    _, path = saved
    first = load_keras(path)
    beside = path.with_name("mine.keras.npz")
    layers = [Dense(np.ones((20, 20), np.float32), np.zeros(20, np.float32))]
    Network("mine", layers, card=first.card).save(beside, force=True)
    assert load_keras(path).sha256 == first.sha256
    assert load_network(beside).sha256 == first.sha256


def test_without_tensorflow_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(Codec2EqError, match=r"pip install '\.\[train\]'"):
        load_keras(saved[1])


def test_importing_keras_is_silent():
    code = "from codec2_eq.equalisers.keras_import import import_keras as i; i()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


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
