# SPDX-License-Identifier: LGPL-2.1-or-later
"""The training loop of `channel_eq`: loss, batches, and what a training depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.bench.cases import Case
from codec2_eq.codec2 import K
from codec2_eq.equalisers.keras_import import import_keras
from codec2_eq.equalisers.network import Network
from codec2_eq.training.data import Recording
from codec2_eq.training.judging import NAME, judge
from codec2_eq.training.sampler import Sampler
from codec2_eq.training.settings import Settings


@dataclass(frozen=True)
class Watch:
    """How progress is shown: `report` takes lines, `step` the steps done and the most there can be.

    tensorboard : folder for TensorBoard logs, with the measures after each epoch
    """

    report: Callable[[str], None] = lambda line: None
    step: Callable[[int, int], None] = lambda done, most: None
    tensorboard: Path | None = None


@dataclass
class Trained:
    """The best model, its layer for use without Keras, and the measures after each epoch."""

    model: Any
    layer: Any
    history: dict[str, list[float]]


def fit(
    recordings: Sequence[Recording],
    cases: Sequence[Case],
    seed: int,
    settings: Settings,
    checkpoint: Path,
    watch: Watch,
) -> Trained:
    """Train; keep the epoch that errs least on the cases.

    checkpoint : written after each epoch, and resumed from if it is there
    Raises Codec2EqError if the training diverges, or the checkpoint belongs to another one.
    """
    keras = import_keras()
    from codec2_eq.equalisers import keras_cell
    from codec2_eq.training import callbacks

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
    keeper = callbacks.KeepBest(
        lambda: judge(Network(NAME, [cell.exported()]), cases),
        epochs=settings.epochs,
        patience=settings.patience,
        checkpoint=checkpoint,
        basis=_basis(recordings, cases, seed, settings),
        report=watch.report,
    )
    batches = _batches(keras, Sampler(recordings, settings.draws), seed, settings)
    batches.epoch = first = keeper.resume(model)
    model.fit(
        batches,
        epochs=settings.epochs,
        initial_epoch=first,
        verbose=0,
        shuffle=False,
        callbacks=[
            keeper,
            keras.callbacks.TerminateOnNaN(),
            callbacks.CountSteps(settings.steps, settings.epochs, watch.step),
            *callbacks.tensorboard(watch.tensorboard),
        ],
    )
    published = keras_cell.model(settings.hidden, still_db=settings.still_db)
    published.set_weights(keeper.best)
    estimator = published.get_layer(NAME).cell
    estimator.scale_trims(settings.trim_gain)
    return Trained(published, estimator.exported(), keeper.history)


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


def _batches(keras: Any, sampler: Sampler, seed: int, settings: Settings) -> Any:
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
    recordings: Sequence[Recording],
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
