# SPDX-License-Identifier: LGPL-2.1-or-later
import dataclasses
import json
import sys

import numpy as np
import pytest
from conftest import require_package

from codec2_eq.audio.stream import read_audio
from codec2_eq.bench import shaping
from codec2_eq.bench.cases import shape_recording
from codec2_eq.bench.measures import shapes_of
from codec2_eq.bench.speech import Speech
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.equalisers.network import load_network
from codec2_eq.errors import Codec2EqError
from codec2_eq.training import channel_eq, data
from codec2_eq.training.loop import Watch
from codec2_eq.training.sampler import Sampler
from codec2_eq.training.settings import Draws


@pytest.fixture(scope="module")
def recordings(samples_dir, quantise):
    speakers = {
        sex: sorted(samples_dir.glob(f"espeak_{sex}_*.wav")) * 3 for sex in ("male", "female")
    }
    assert all(speakers.values())
    return data.prepare(speakers, quantise=quantise)


# --------------------------------------------------------------------------------------- data


def test_recordings_hold_twins_and_warped_voices(recordings):
    names = {r.speaker for r in recordings}
    assert {
        f"{sex}{speed}" for sex in ("male", "female") for speed in ("", "*0.86", "*1.16")
    } == names
    for recording in recordings:
        n_frames = len(recording.plain)
        assert recording.twins.shape == (data.TWINS, n_frames, 20)
        assert recording.active.shape == (n_frames,)
        assert 0.3 < recording.active.mean() <= 1
        shift = shapes_of(recording.twins[0]) - shapes_of(recording.plain)
        assert np.abs(shift[recording.active].mean(axis=0)).max() > 1


@pytest.fixture(scope="module")
def noisy_and_fitted(samples_dir, quantise):
    draws = Draws(noisy=0.5, fitted=0.5)
    speakers = {"male": sorted(samples_dir.glob("espeak_male_*.wav"))}
    return data.prepare(speakers, quantise=quantise, draws=draws)


def test_recordings_in_noise_and_fitted(noisy_and_fitted, recordings):
    assert [r.knots for r in noisy_and_fitted[:2]] == ["pick", "fit"]
    picked, fitted = noisy_and_fitted[:2]
    assert picked.twins.shape == fitted.twins.shape == (data.TWINS + 1, *picked.plain.shape)
    difference = shapes_of(fitted.plain) - shapes_of(picked.plain)
    assert 0.5 < np.sqrt(np.square(difference[picked.active]).mean()) < 8
    pauses = ~picked.active  # noise fills them
    assert picked.twins[data.TWINS][pauses].mean() > picked.twins[: data.TWINS, pauses].mean() + 5
    assert {r.knots for r in recordings} == {"pick"}


@pytest.mark.parametrize("fitted", [0.0, 1.0])
def test_draws_from_noise_and_fitted_vectors(noisy_and_fitted, fitted):
    draws = Draws(canonical=0, noise=0, change=0, prelude=0, noisy=1, fitted=fitted)
    sampler = Sampler(noisy_and_fitted, draws)
    _, targets = sampler.batch(8, np.random.default_rng(0))
    kind = "fit" if fitted else "pick"
    wanted = [shapes_of(r.plain)[0] - r.offset for r in noisy_and_fitted if r.knots == kind]
    found = targets[..., :20].reshape(-1, 20)
    assert any(np.isclose(found, first, atol=1e-4).all(axis=1).any() for first in wanted)


def test_cache_round_trip(recordings, tmp_path):
    data.save(recordings, tmp_path / "sub" / "features.npz", "cafe")
    again, sources = data.load(tmp_path / "sub" / "features.npz")
    assert sources == "cafe"
    assert [(r.speaker, r.knots) for r in again] == [(r.speaker, r.knots) for r in recordings]
    for name in ("plain", "twins", "active", "offset"):
        np.testing.assert_array_equal(getattr(again[1], name), getattr(recordings[1], name))


def test_warp_raises_the_pitch():
    tone = np.sin(2 * np.pi * 500 * np.arange(8000) / 8000).astype(np.float32)
    warped = data.warp(tone, 1.16)
    spectrum = np.abs(np.fft.rfft(warped))
    assert np.argmax(spectrum) * 8000 / len(warped) == pytest.approx(580, abs=3)


def test_codec_and_clipping_keep_length_and_range():
    rng = np.random.default_rng(0)
    speech = (rng.standard_normal(4001) * 5000).astype(np.float32)
    for change in (data._through_codec, data._clip, data._add_noise):
        changed = change(speech, np.random.default_rng(1))
        assert changed.shape == speech.shape
        assert changed.dtype == np.float32
        assert 0 < np.abs(changed - speech).max()


def test_batches_are_what_they_promise(recordings):
    sampler = Sampler(recordings, Draws())
    vectors, targets = sampler.batch(16, np.random.default_rng(3))
    assert vectors.shape == (16, 300, 20)
    assert targets.shape == (16, 300, 21)
    assert np.isfinite(vectors).all()
    assert set(np.unique(targets[..., 20])) == {0, 1}
    assert vectors.max(axis=2).min() - 50.1 < vectors.min()
    again = sampler.batch(16, np.random.default_rng(3))
    np.testing.assert_array_equal(vectors, again[0])
    np.testing.assert_array_equal(targets, again[1])


def test_canonical_items_ask_for_nothing(recordings):
    draws = Draws(canonical=1, noise=0, change=0, prelude=0)
    vectors, targets = Sampler(recordings, draws).batch(8, np.random.default_rng(0))
    active = targets[..., 20] > 0
    difference = shapes_of(vectors.reshape(-1, 20)).reshape(targets[..., :20].shape)
    difference = (difference - targets[..., :20])[active]
    assert np.sqrt(np.mean(difference**2)) < 1.5


def test_a_prelude_is_not_scored(recordings):
    draws = Draws(change=0, prelude=1)
    _, targets = Sampler(recordings, draws).batch(8, np.random.default_rng(0))
    assert not targets[:, :5, 20].any()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"text", "no arrays", "one array"])
def test_files_without_features_are_an_error(recordings, tmp_path, content):
    path = tmp_path / "features.npz"
    if content == "no arrays":
        np.savez(path, speakers=np.array(["a"]), sources=np.array(""))
    elif content == "one array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(Codec2EqError, match=r"features\.npz: no features .*; remove it"):
        data.load(path)


def write_manifest(folder, *entries):
    """Entries (speaker, use, sha256) of a manifest; the files need not be there."""
    rows = [
        {
            "path": f"{i}.wav",
            "speaker": speaker,
            "use": use,
            "sha256": sha256,
            "package": "speech-xx",
            "version": "1.0",
        }
        for i, (speaker, use, sha256) in enumerate(entries)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_sources_are_what_is_to_be_trained_on(tmp_path):
    write_manifest(tmp_path, ("b", "train", "1"), ("a", "train", "2"), ("a", "classic", "3"))
    sources = data.find_sources(tmp_path)
    assert sources.speakers == {"a": [tmp_path / "1.wav"], "b": [tmp_path / "0.wav"]}
    assert sources.origins == "speech-xx 1.0"
    write_manifest(tmp_path, ("b", "train", "1"), ("a", "train", "2"), ("a", "classic", "x"))
    assert data.find_sources(tmp_path).sha256 == sources.sha256
    assert data.find_sources(tmp_path, Draws(noisy=0.1)).sha256 != sources.sha256
    write_manifest(tmp_path, ("b", "train", "1"), ("a", "train", "x"), ("a", "classic", "3"))
    assert data.find_sources(tmp_path).sha256 != sources.sha256
    write_manifest(tmp_path, ("a", "classic", "3"))
    with pytest.raises(Codec2EqError, match="for use 'train', only for classic"):
        data.find_sources(tmp_path)
    with pytest.raises(Codec2EqError, match="fetch_speech"):
        data.find_sources(tmp_path / "none")


@pytest.mark.train
def test_features_of_other_speech_are_made_again(recordings, tmp_path, monkeypatch, quantise):
    made: list[str] = []

    def prepare(speakers, **_):
        made.extend(speakers)
        return recordings

    monkeypatch.setattr(data, "prepare", prepare)
    cached = tmp_path / "features.npz"
    for name, speakers in (("a", ["one"]), ("a", []), ("b", ["two"]), ("a", ["one"])):
        write_manifest(tmp_path / name, ({"a": "one", "b": "two"}[name], "train", name))
        made.clear()
        sources = data.find_sources(tmp_path / name)
        found = channel_eq._features(sources, cached, quantise, Draws(), lambda line: None)
        assert [r.speaker for r in found] == [r.speaker for r in recordings]
        assert made == speakers


# ----------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def cases(samples_dir, quantise):
    samples = np.concatenate([read_audio(p) for p in sorted(samples_dir.glob("espeak_*.wav"))])
    speech = Speech("them", "them", samples[: 13 * 8000])
    return [shape_recording(speech, [shaping.load_shaping("boom")], quantise)]


TINY = channel_eq.Settings(hidden=(6, 5), epochs=2, steps=2, batch=3, patience=2)


@pytest.mark.train
def test_training_publishes_what_runs_without_keras(recordings, cases, tmp_path):
    lines: list[str] = []
    network = channel_eq.train(
        tmp_path,
        recordings,
        cases,
        seed=3,
        settings=TINY,
        command="this",
        watch=Watch(lines.append),
    )
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    for suffix in (".npz", ".json", ".keras", "_loss.png", "_convergence.png"):
        assert (tmp_path / f"channel_eq{suffix}").is_file()
    assert not list(tmp_path.glob("*checkpoint*"))
    card = json.loads((tmp_path / "channel_eq.json").read_text())
    assert card["seed"] == 3
    assert card["settings"]["hidden"] == [6, 5]
    assert card["multiply_adds_per_frame"] == 23 * 6 + 6 * 5 + 5 * 61
    vectors = cases[0].shaped["boom"]
    loaded = load_equaliser(str(tmp_path / "channel_eq.npz"))(vectors)
    np.testing.assert_array_equal(loaded, network(vectors))
    with pytest.raises(Codec2EqError, match="exists"):
        channel_eq.train(tmp_path, recordings, cases, settings=TINY)


@pytest.mark.train
def test_steps_and_measures_are_reported(recordings, cases, tmp_path):
    require_package("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    steps: list[tuple[int, int]] = []
    lines: list[str] = []
    logs = tmp_path / "logs"
    watch = Watch(lines.append, lambda *step: steps.append(step), logs)
    channel_eq.train(tmp_path, recordings, cases, settings=TINY, watch=watch)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    events = EventAccumulator(str(logs / "validation"))
    events.Reload()
    for name in ("canonical_error", "shape_error", "D"):
        told = [line.split(f"{name} ")[1].split()[0] for line in lines]
        written = [float(make_ndarray(e.tensor_proto)) for e in events.Tensors(f"epoch_{name}")]
        assert [f"{value:.2f}" for value in written] == told


def test_tensorboard_that_is_missing_is_reported_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    watch = Watch(tensorboard=tmp_path / "logs")
    with pytest.raises(Codec2EqError, match=r"--tensorboard: needs tensorboard.*\[tensorboard\]"):
        channel_eq.train_on_speech(tmp_path, tmp_path / "none", tmp_path / "none", watch=watch)


@pytest.mark.train
def test_a_stopped_training_goes_on_as_if_it_had_not_been(recordings, cases, tmp_path):
    def stop(line: str) -> None:
        if line.startswith("epoch   2"):
            raise KeyboardInterrupt

    settings = dataclasses.replace(TINY, epochs=3, patience=3)
    whole = channel_eq.train(tmp_path / "whole", recordings, cases, settings=settings)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        channel_eq.train(folder, recordings, cases, settings=settings, watch=Watch(stop))
    assert [path.name for path in folder.iterdir()] == ["channel_eq_seed1.checkpoint"]
    for other in (dataclasses.replace(settings, epochs=4), dataclasses.replace(settings, ema=0.5)):
        with pytest.raises(Codec2EqError, match="other settings or other speech"):
            channel_eq.train(folder, recordings, cases, settings=other)
    with pytest.raises(Codec2EqError, match="other settings or other speech"):
        channel_eq.train(folder, recordings[1:], cases, settings=settings)
    lines: list[str] = []
    resumed = channel_eq.train(
        folder, recordings, cases, settings=settings, watch=Watch(lines.append)
    )
    assert lines[0] == "resuming after epoch 2"
    assert [line.split()[1] for line in lines[1:]] == ["3/3"]
    assert resumed.sha256 == whole.sha256


@pytest.mark.train
@pytest.mark.parametrize("damage", ["other arrays", "no archive", "empty", "one array"])
def test_a_checkpoint_of_something_else_is_an_error(recordings, cases, tmp_path, damage):
    checkpoint = tmp_path / "channel_eq_seed1.checkpoint"
    if damage == "no archive":
        checkpoint.write_bytes(b"PK\3\4 and no more")
    elif damage == "empty":
        checkpoint.touch()
    elif damage == "one array":
        with open(checkpoint, "wb") as file:
            np.save(file, np.zeros(3))
    else:
        with open(checkpoint, "wb") as file:
            np.savez(file, loss=[1.0], canonical_error=[1.0], shape_error=[1.0], now0=np.zeros(3))
    with pytest.raises(Codec2EqError, match="checkpoint: not a checkpoint"):
        channel_eq.train(tmp_path, recordings, cases, settings=TINY)


@pytest.mark.train
def test_a_training_that_diverges_is_an_error(recordings, cases, tmp_path):
    wild = dataclasses.replace(TINY, learning_rate=1e30)
    with pytest.raises(Codec2EqError, match="diverged"):
        channel_eq.train(tmp_path, recordings, cases, settings=wild)


def test_a_model_that_is_there_is_kept_without_much_ado(tmp_path):
    (tmp_path / "channel_eq.npz").write_bytes(b"precious")
    with pytest.raises(Codec2EqError, match=r"channel_eq\.npz: exists already"):
        channel_eq.train_on_speech(tmp_path, tmp_path / "no speech", tmp_path / "no cache")


@pytest.mark.train
def test_nothing_to_train_on(recordings, cases, tmp_path):
    with pytest.raises(Codec2EqError, match="fetch more"):
        channel_eq.train(tmp_path, [], cases, settings=TINY)


@pytest.mark.train
def test_shipped_keras_file_is_the_shipped_network():
    from codec2_eq.equalisers.keras_import import load_keras

    shipped = load_network(models_dir() / "channel_eq.npz")
    converted = load_keras(models_dir() / "channel_eq.keras")
    assert converted.sha256 == shipped.sha256
    rng = np.random.default_rng(0)
    vectors = (rng.normal(0, 7, (50, 20)) + CODEBOOK_MEAN_DB + 40).astype(np.float32)
    keras = _keras_model(models_dir() / "channel_eq.keras")
    difference = np.asarray(keras(vectors[None]))[0] - shipped(vectors)
    assert np.abs(difference).max() < 1e-3


def _keras_model(path):
    from codec2_eq.equalisers.keras_import import import_keras

    keras = import_keras()
    from codec2_eq.equalisers import keras_cell  # noqa: F401  # makes its cell known

    return keras.saving.load_model(path, compile=False)


def test_an_installed_package_is_not_written_into(monkeypatch, capsys):
    from codec2_eq.cli import main

    monkeypatch.setattr("codec2_eq.equalisers.equaliser.clone_dir", lambda: None)
    for network in ("channel_eq", "mean_removal"):
        with pytest.raises(SystemExit):
            main(["train", network])
        assert "-o DIR is required when the package is installed" in capsys.readouterr().err


def test_speech_that_is_missing_is_reported_before_the_work(tmp_path, monkeypatch):
    def fail():
        raise AssertionError("Keras was started")

    monkeypatch.setattr(channel_eq, "import_keras", fail)
    with pytest.raises(Codec2EqError, match=r"manifest.jsonl: not found"):
        channel_eq.train_on_speech(tmp_path / "out", tmp_path / "speech", tmp_path / "cache")
