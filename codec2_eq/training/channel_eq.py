# SPDX-License-Identifier: LGPL-2.1-or-later
"""Train the network that removes spectral shaping: the recursive estimator `channel_eq`.

It sees 12 s of shaped speech at a time, from a cold start, and is to give back canonical speech:
the speaker's own vectors less the curve that suits speaker and microphone best (`quality`).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq import pictures
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.cases import Case, distortion, run_case, shape_recording
from codec2_eq.bench.measures import (
    FRAME_S,
    RESIDUAL_EDGES_S,
    Equalise,
    Measures,
    Quantise,
    Sums,
    closed,
    quantise_700c,
    score,
)
from codec2_eq.bench.shaping import SHAPINGS, load_shaping
from codec2_eq.bench.speech import analyse, find_speech, load_speech
from codec2_eq.codec2 import K
from codec2_eq.equalisers.keras_import import import_keras
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output, require_writable
from codec2_eq.training import card, data

NAME = "channel_eq"
LEAST_FRAMES = 150  # of a recording that is trained on: half a segment
LEAST_ACTIVE = 80
PICTURES = ("loss", "convergence")


@dataclass(frozen=True)
class Settings:
    """What a training depends on, besides the speech.

    hidden : sizes of the hidden layers; the widest within 10,000 multiply-adds a frame.
    steps : batches an epoch. fv_weight : of the part of the error that wanders, beside the whole.
    trim_weight : of the squared trims, without which they shrink the speech; trim_gain : of the
    trims after training, for the same reason. ema : of the weights over steps; their average is
    judged and kept. patience : epochs without a better one, after which it ends.
    """

    hidden: tuple[int, int] = (72, 62)
    epochs: int = 24
    steps: int = 250
    batch: int = 64
    learning_rate: float = 3e-3
    fv_weight: float = 1.0
    trim_weight: float = 0.15
    trim_gain: float = 0.67
    ema: float = 0.99
    patience: int = 8
    draws: data.Draws = field(default_factory=data.Draws)


def train(
    folder: Path,
    recordings: Sequence[data.Recording],
    cases: Sequence[Case],
    *,
    seed: int = 1,
    settings: Settings | None = None,
    classic: Mapping[str, np.ndarray] | None = None,
    command: str = "",
    sources: str = "",
    tensorboard: Path | None = None,
    force: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Network:
    """Train, choose the epoch that errs least on unseen speakers through real filters, and publish.

    folder : where ``channel_eq.*`` go; a training that was stopped goes on from the checkpoint
    that it left there. recordings : to train on. cases : to validate on. classic : recordings
    that are only measured, vectors by name. sources : where the speech came from, for the card.
    Raises Codec2EqError if an output exists and `force` is false, or TensorFlow is missing.
    """
    settings = settings or Settings()
    _require_free(folder, force=force)
    usable = [
        r for r in recordings if len(r.plain) >= LEAST_FRAMES and r.active.sum() >= LEAST_ACTIVE
    ]
    if not usable or not cases:
        raise Codec2EqError(
            f"{len(usable)} recordings to train on and {len(cases)} to validate on; fetch more "
            "speech with scripts/fetch_speech.py"
        )
    trained = _fit(usable, cases, seed, settings, folder, tensorboard, report)
    network = Network(NAME, [trained.layer])
    network.card.update(
        does="removes spectral shaping: estimates the microphone's curve and takes it off",
        data=_describe(usable, sources),
        command=command,
        seed=seed,
        settings=asdict(settings),
        multiply_adds_per_frame=multiply_adds(settings.hidden),
        figures=figures(network, cases, classic or {}),
    )
    for picture, figure in _draw(network, cases, trained.history).items():
        pictures.save_picture(figure, _image(folder, picture), force=force)
    published = card.publish(network, trained.model, folder, force=force)
    trained.checkpoint.unlink(missing_ok=True)
    return published


def _image(folder: Path, picture: str) -> Path:
    return folder / f"{NAME}_{picture}.png"


def _require_free(folder: Path, *, force: bool) -> None:
    outputs = [folder / f"{NAME}{suffix}" for suffix in (".keras", ".npz", ".json")]
    card.require_free([*outputs, *(_image(folder, p) for p in PICTURES)], force=force)


def train_on_speech(
    folder: Path,
    speech: Path,
    cache: Path,
    *,
    force: bool = False,
    report: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Network:
    """Train on what scripts/fetch_speech.py fetched into `speech`; see `train` for the options.

    cache : folder of the features, made at the first training with that speech.
    """
    _require_free(folder, force=force)  # all that can be known before minutes of analysis
    cached = cache / "channel_eq_features.npz"
    card.require_free([cached], force=True)
    require_writable(cached, force=True)
    sources = data.find_sources(speech)
    validate, heard = (find_speech([speech], use) for use in ("validate", "classic"))
    import_keras()
    quantise = quantise_700c()
    recordings = _features(sources, cached, quantise, report)
    report("shaping the validation speech")
    shapings = [load_shaping(name) for name in SHAPINGS]
    cases = [shape_recording(recording, shapings, quantise) for recording in load_speech(validate)]
    classic = {name: analyse(read_audio(paths[0])) for name, paths in heard.items()}
    return train(
        folder,
        recordings,
        cases,
        classic=classic,
        sources=sources.told,
        force=force,
        report=report,
        **options,
    )


def _features(
    sources: data.Sources, cached: Path, quantise: Quantise, report: Callable[[str], None]
) -> list[data.Recording]:
    """The features of the training speech, from the cache if it holds those of this speech."""
    if cached.is_file():
        recordings, made_from = data.load(cached)
        if made_from == sources.sha256:
            return recordings
        report(f"{cached} holds features of other speech, and is made again")
    report("analysing the training speech, some minutes")
    recordings = data.prepare(sources.speakers, quantise=quantise, progress=report)
    data.save(recordings, cached, sources.sha256)
    return recordings


def multiply_adds(hidden: tuple[int, int]) -> int:
    """Multiply-adds a frame costs: the three kernels; the recursion adds some tens a band."""
    widths = (K + 3, *hidden, 3 * K + 1)
    return sum(a * b for a, b in zip(widths, widths[1:], strict=False))


# --------------------------------------------------------------------------------- training


@dataclass
class _Trained:
    model: Any
    layer: Any
    history: dict[str, list[float]]
    checkpoint: Path


def _fit(
    recordings: Sequence[data.Recording],
    cases: Sequence[Case],
    seed: int,
    settings: Settings,
    folder: Path,
    tensorboard: Path | None,
    report: Callable[[str], None],
) -> _Trained:
    keras = import_keras()
    from codec2_eq.equalisers import keras_cell

    keras.utils.set_random_seed(seed)
    model = keras_cell.model(settings.hidden, tell_trim=True)
    cell = model.get_layer(NAME).cell
    cell.start.assign(np.mean([r.offset for r in recordings], axis=0) / keras_cell.UNIT_DB)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 20,
        settings.steps * settings.epochs,
        alpha=0.02,
        warmup_target=settings.learning_rate,
        warmup_steps=50,
    )
    optimizer = keras.optimizers.Adam(
        schedule, clipnorm=1.0, use_ema=True, ema_momentum=settings.ema
    )
    model.compile(optimizer, loss=_loss(keras, settings), jit_compile=True)
    checkpoint = folder / f"{NAME}_seed{seed}.checkpoint"
    basis = _basis(recordings, cases, seed, settings)
    keeper = _keep_best(keras, cell, cases, settings, checkpoint, basis, report)
    callbacks = [keeper, keras.callbacks.TerminateOnNaN()]
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(log_dir=str(tensorboard)))
    batches = _batches(keras, data.Sampler(recordings, settings.draws), seed, settings)
    batches.epoch = start = keeper.resume(model)
    model.fit(
        batches,
        epochs=settings.epochs,
        initial_epoch=start,
        verbose=0,
        shuffle=False,
        callbacks=callbacks,
    )
    published = keras_cell.model(settings.hidden)
    published.set_weights(keeper.best)
    estimator = published.get_layer(NAME).cell
    estimator.scale_trims(settings.trim_gain)
    return _Trained(published, estimator.exported(), keeper.history, checkpoint)


def _loss(keras: Any, settings: Settings) -> Any:
    """Squared error on active frames, the same less each segment's constant part, and trims."""
    ops = keras.ops

    def loss(wanted: Any, output: Any) -> Any:
        active = wanted[..., K:]
        error = output[..., :K] - wanted[..., :K]
        count = ops.sum(active, axis=1, keepdims=True) + 1e-3
        constant = ops.sum(error * active, axis=1, keepdims=True) / count
        total = K * ops.sum(active)
        square = ops.sum(ops.square(error) * active) / total
        wander = ops.sum(ops.square(error - constant) * active) / total
        trim = ops.sum(ops.square(output[..., K:]) * active) / total
        return square + settings.fv_weight * wander + settings.trim_weight * trim

    return loss


def _batches(keras: Any, sampler: data.Sampler, seed: int, settings: Settings) -> Any:
    class Batches(keras.utils.PyDataset):
        """Batches that depend on seed, epoch and index alone, however often one resumes."""

        epoch = 0

        def __len__(self) -> int:
            return settings.steps

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            rng = np.random.default_rng([seed, self.epoch, index])
            return sampler.batch(settings.batch, rng)

        def on_epoch_end(self) -> None:
            self.epoch += 1

    return Batches(workers=1)


def _basis(
    recordings: Sequence[data.Recording],
    cases: Sequence[Case],
    seed: int,
    settings: Settings,
) -> str:
    """The sha256 of all that a training depends on: one that is resumed must have the same."""
    digest = hashlib.sha256(json.dumps([seed, asdict(settings)]).encode())
    for recording in recordings:
        digest.update(recording.plain.tobytes() + recording.twins.tobytes())
    for case in cases:
        for vectors in case.shaped.values():
            digest.update(vectors.tobytes())
    return digest.hexdigest()


def _keep_best(
    keras: Any,
    cell: Any,
    cases: Sequence[Case],
    settings: Settings,
    checkpoint: Path,
    basis: str,
    report: Callable[[str], None],
) -> Any:
    class KeepBest(keras.callbacks.Callback):
        """Measure the averaged weights after each epoch; keep the best; stop if none comes."""

        def __init__(self) -> None:
            super().__init__()
            self.best: list[np.ndarray] = []
            self.best_score = np.inf
            self.since = 0
            self.history: dict[str, list[float]] = {
                "loss": [],
                "canonical_error": [],
                "shape_error": [],
            }

        def resume(self, model: Any) -> int:
            """Go on after the last whole epoch, as if it had never been interrupted."""
            if not checkpoint.is_file():
                return 0
            model.optimizer.build(model.trainable_variables)
            try:
                with open(checkpoint, "rb") as file, np.load(file) as kept:
                    if str(kept["basis"]) != basis:
                        raise ValueError("other settings or other speech")
                    count = len(model.get_weights())
                    model.set_weights([kept[f"now{i}"] for i in range(count)])
                    self.best = [kept[f"best{i}"] for i in range(count)]
                    self.history = {name: kept[name].tolist() for name in self.history}
                    for i, variable in enumerate(model.optimizer.variables):
                        variable.assign(kept[f"optimizer{i}"])
            except (KeyError, ValueError, zipfile.BadZipFile) as error:
                raise Codec2EqError(
                    f"{checkpoint}: not a checkpoint of this training ({error}); remove it to "
                    "start afresh"
                ) from error
            scores = np.add(self.history["canonical_error"], self.history["shape_error"])
            self.best_score = scores.min()
            self.since = len(scores) - 1 - int(scores.argmin())
            report(f"resuming after epoch {len(self.history['loss'])}")
            return len(self.history["loss"])

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if not np.isfinite((logs or {})["loss"]):
                raise Codec2EqError(
                    f"training diverged in epoch {epoch + 1} (loss {(logs or {})['loss']}); try "
                    "another seed, or a smaller learning_rate in the Settings"
                )
            now = self.model.get_weights()
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
            averaged = self.model.get_weights()
            found = judge(Network(NAME, [cell.exported()]), cases)
            self.model.set_weights(now)
            for name, value in (
                ("loss", (logs or {})["loss"]),
                ("canonical_error", found.canonical_error),
                ("shape_error", found.shape_error),
            ):
                self.history[name].append(float(value))
            self.since += 1
            if found.canonical_error + found.shape_error < self.best_score:
                self.best, self.best_score, self.since = (
                    averaged,
                    found.canonical_error + found.shape_error,
                    0,
                )
            if self.since >= settings.patience:
                self.model.stop_training = True
            weights = {f"now{i}": w for i, w in enumerate(now)}
            weights |= {f"best{i}": w for i, w in enumerate(self.best)}
            for i, variable in enumerate(self.model.optimizer.variables):
                weights[f"optimizer{i}"] = keras.ops.convert_to_numpy(variable)
            with atomic_output(checkpoint, force=True) as stream:
                np.savez(stream, basis=np.array(basis), **weights, **self.history)  # type: ignore
            report(
                f"epoch {epoch + 1:3}/{settings.epochs}  loss {self.history['loss'][-1]:6.2f}  "
                f"canonical_error {found.canonical_error:.2f}  "
                f"shape_error {found.shape_error:.2f}  D {found.d:.2f}  "
                f"variance {found.variance_ratio:.3f}"
            )

    return KeepBest()


# ---------------------------------------------------------------------------------- judging


def judge(network: Network, cases: Sequence[Case]) -> Measures:
    """Measure a network on all segments, speakers and filters together."""
    quantise = quantise_700c()
    return sum((sums for _, sums in _scores(network, cases, quantise)), Sums()).measures()


def _scores(
    network: Network, cases: Sequence[Case], quantise: Quantise
) -> Iterator[tuple[str, Sums]]:
    for case in cases:
        for name, vectors in case.shaped.items():
            yield name, score(network, vectors, case.reference, quantise)


def figures(
    network: Network, cases: Sequence[Case], classic: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What the card tells: the measures, shares closed, and the classic samples' mean D."""
    quantise = quantise_700c()
    total: dict[str, Sums] = {}
    for case in cases:
        models: dict[str, Equalise] = {NAME: network, "none": lambda vectors: vectors}
        for (model, _), sums in run_case(case, models, quantise).items():
            total[model] = total.get(model, Sums()) + sums
    found = {model: sums.measures() for model, sums in total.items()}
    own, none, oracle = found[NAME], found["none"], found["oracle"]
    told: dict[str, Any] = {
        "canonical_error_db2": round(own.canonical_error, 2),
        "shape_error_db2": round(own.shape_error, 2),
        "d_db2": round(own.d, 2),
        "canonical_closed": round(
            closed(none.canonical_error, own.canonical_error, oracle.canonical_error), 3
        ),
        "shape_closed": round(closed(none.shape_error, own.shape_error, oracle.shape_error), 3),
        "d_over_oracle": round(own.d / oracle.d, 3),
        "variance_ratio": round(own.variance_ratio, 3),
        "slope": round(own.slope, 3),
        "residual_db2": [round(r, 1) for r in own.residual],
    }
    if classic:
        distortions = [distortion(network(v), quantise) for v in classic.values()]
        told["classic_d_db2"] = round(float(np.mean(distortions)), 2)
    return told


def _describe(recordings: Sequence[data.Recording], sources: str) -> str:
    hours = sum(len(r.plain) for r in recordings) * FRAME_S / 3600
    voices = len({r.speaker.split("*")[0] for r in recordings})
    return f"{hours:.1f} h of {voices} speakers, some at other speeds; {sources}".rstrip("; ")


def _draw(
    network: Network, cases: Sequence[Case], history: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    measures = judge(network, cases)
    figure, (axis,) = pictures.panels("channel_eq: what is left of the shaping", 1)
    edges = RESIDUAL_EDGES_S
    axis.stairs(measures.residual, edges, color=pictures.COLOURS[0], linewidth=1.8)
    axis.set(
        xlabel="speech heard since a cold start [s]", ylabel="residual [dB$^2$]", ylim=(0, None)
    )
    return {
        "loss": pictures.loss_curves("channel_eq: training", history, "dB$^2$"),
        "convergence": figure,
    }
