# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done after each step and epoch of a training of `channel_eq`. Imports Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from codec2_eq.bench.measures import Measures
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output
from codec2_eq.training.data import NO_ARRAYS


class KeepBest(keras.callbacks.Callback):
    """Measure the averaged weights after each epoch, keep the best, and stop early.

    measure : measures the model's current weights
    epochs : at most. patience : epochs without improvement, after which training stops
    checkpoint : file written after each epoch, from which a stopped training resumes
    basis : sha256 of what the training depends on; a checkpoint with another is refused
    """

    def __init__(
        self,
        measure: Callable[[], Measures],
        *,
        epochs: int,
        patience: int,
        checkpoint: Path,
        basis: str,
        report: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.best: list[np.ndarray] = []
        self.history: dict[str, list[float]] = {
            "loss": [],
            "canonical_error": [],
            "shape_error": [],
        }
        self._measure, self._epochs, self._patience = measure, epochs, patience
        self._checkpoint, self._basis, self._report = checkpoint, basis, report

    def resume(self, model: Any) -> int:
        """Resume after the last whole epoch, with the same result; return the epochs done."""
        if not self._checkpoint.is_file():
            return 0
        model.optimizer.build(model.trainable_variables)
        try:
            with open(self._checkpoint, "rb") as file, np.load(file) as kept:
                if str(kept["basis"]) != self._basis:
                    raise ValueError("other settings or other speech")
                count = len(model.get_weights())
                model.set_weights([kept[f"now{i}"] for i in range(count)])
                self.best = [kept[f"best{i}"] for i in range(count)]
                self.history = {name: kept[name].tolist() for name in self.history}
                for i, variable in enumerate(model.optimizer.variables):
                    variable.assign(kept[f"optimizer{i}"])
        except NO_ARRAYS as error:
            raise Codec2EqError(
                str(self._checkpoint),
                f"not a checkpoint of this training ({error})",
                "remove it to start afresh",
            ) from error
        n_epochs = len(self.history["loss"])
        self._report(f"resuming after epoch {n_epochs}")
        return n_epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measure, keep the best weights, report; the measures join the logs."""
        logs = {} if logs is None else logs
        if not np.isfinite(logs["loss"]):
            raise Codec2EqError(
                "",
                f"training diverged in epoch {epoch + 1} (loss {logs['loss']})",
                "try another seed, or a smaller learning_rate in the Settings",
            )
        now = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        averaged = self.model.get_weights()
        found = self._measure()
        self.model.set_weights(now)
        logs.update(
            val_canonical_error=found.canonical_error,
            val_shape_error=found.shape_error,
            val_D=found.d,
        )
        for name, value in (
            ("loss", logs["loss"]),
            ("canonical_error", found.canonical_error),
            ("shape_error", found.shape_error),
        ):
            self.history[name].append(float(value))
        since_best = self._since_best()
        if since_best == 0:
            self.best = averaged
        if since_best >= self._patience:
            self.model.stop_training = True
        self._save(now)
        self._report(
            f"epoch {epoch + 1:3}/{self._epochs}  loss {logs['loss']:6.2f}  "
            f"canonical_error {found.canonical_error:.2f}  "
            f"shape_error {found.shape_error:.2f}  D {found.d:.2f}  "
            f"variance {found.variance_ratio:.3f}"
        )

    def _since_best(self) -> int:
        """Epochs since the best, the first of them if several are equal."""
        scores = np.add(self.history["canonical_error"], self.history["shape_error"])
        return len(scores) - 1 - int(scores.argmin())

    def _save(self, now: list[np.ndarray]) -> None:
        kept = {f"now{i}": w for i, w in enumerate(now)}
        kept |= {f"best{i}": w for i, w in enumerate(self.best)}
        for i, variable in enumerate(self.model.optimizer.variables):
            kept[f"optimizer{i}"] = keras.ops.convert_to_numpy(variable)
        with atomic_output(self._checkpoint, force=True) as stream:
            np.savez(stream, basis=np.array(self._basis), **kept, **self.history)  # type: ignore


class CountSteps(keras.callbacks.Callback):
    """Report after each step how many are done, and the most there will be."""

    def __init__(self, steps: int, epochs: int, step: Callable[[int, int], None]) -> None:
        super().__init__()
        self._steps, self._most, self._step = steps, steps * epochs, step
        self._done = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count from the first epoch, also in a training that is resumed."""
        self._done = epoch * self._steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report a step."""
        self._step(self._done + batch + 1, self._most)


def tensorboard(folder: Path | None) -> list[Any]:
    """Return the callback that writes TensorBoard logs after each epoch; none without a folder."""
    if folder is None:
        return []
    return [keras.callbacks.TensorBoard(log_dir=str(folder), write_graph=False)]
