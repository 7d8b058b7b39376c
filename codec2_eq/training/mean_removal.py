# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network that learns to subtract a vector's mean: the smallest equaliser there is.

One Dense layer, K x K weights and K biases, sees random vectors to each of which a random
offset was added, and is to give back the vectors. The answer is known, the identity less 1/K,
so it shows the whole way from training to use with nothing left to doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq import pictures
from codec2_eq.equalisers.equaliser import models_dir
from codec2_eq.equalisers.keras_import import from_keras, import_keras
from codec2_eq.equalisers.network import Network
from codec2_eq.records import K, remove_mean
from codec2_eq.training import card
from codec2_eq.training.settings import MEAN_REMOVAL_EPOCHS, SEED

NAME = "mean_removal"

SHAPE_SD_DB = 12.0  # spread of a band of mean-removed speech; 11 in Codec 2's sample recordings
OFFSET_DB = (-20.0, 60.0)  # levels of frames of speech, from pauses to shouts, int16 scale

TRAIN_VECTORS = 4096
HELD_OUT_VECTORS = 4096
BATCH = 64

# The inputs are dB, tens of them, all of one sign: the steepest direction of the squared error
# is the offset, with a curvature of 2 E[offset^2], and a step beyond 2 / curvature diverges
# (Keras' usual 0.01 does at once). So the rate is set from the data, at 0.3 of that bound.
MEAN_SQUARE_OFFSET_DB2 = float(np.mean(OFFSET_DB)) ** 2 + (OFFSET_DB[1] - OFFSET_DB[0]) ** 2 / 12
LEARNING_RATE = 0.3 / MEAN_SQUARE_OFFSET_DB2
MOMENTUM = 0.9  # for the flattest direction, the biases, which has 1/30000 of that curvature

PICTURES = ("vectors", "loss", "errors", "speech")


@dataclass(frozen=True)
class Speech:
    """Rate-K vectors of speech, (n, K) float32 dB with their means, and their bands' centres."""

    vectors: np.ndarray
    freqs_hz: np.ndarray


def random_vectors(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw training data: vectors with a random offset, and the same without.

    Returns two (n, K) float32 arrays, dB. The second has zero mean in every row.
    """
    shapes = rng.normal(0, SHAPE_SD_DB, (n, K))
    shapes -= shapes.mean(axis=1, keepdims=True)
    offsets = rng.uniform(*OFFSET_DB, (n, 1))
    return (shapes + offsets).astype(np.float32), shapes.astype(np.float32)


def sample_files() -> list[Path]:
    """The sample clips beside the models' folder: in a source tree, not in a wheel."""
    return sorted((models_dir().parent / "samples").glob("*.wav"))


def read_speech(paths: Iterable[str | Path]) -> Speech | None:
    """Read recordings as rate-K vectors, to evaluate the network on; None for no paths."""
    from codec2_eq.extraction import extract_file

    files = [extract_file(path) for path in paths]
    if not files:
        return None
    return Speech(np.concatenate([f.vectors for f in files]), files[0].freqs_hz)


def errors(network: Network, vectors: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Split the network's error into the offset that remains and the change of the shape.

    vectors, shapes : (n, K) dB. Returns the remaining offset (n,) and the change (n, K), dB.
    """
    error = network(vectors).astype(float) - shapes
    offset = error.mean(axis=1)
    return offset, error - offset[:, None]


def train(
    folder: Path,
    *,
    seed: int = SEED,
    epochs: int = MEAN_REMOVAL_EPOCHS,
    speech: Speech | None = None,
    command: str = "",
    force: bool = False,
    report: Callable[[str], None] = lambda line: None,
    step: Callable[[int, int], None] = lambda done, most: None,
) -> Network:
    """Train, judge on held-out vectors and on speech, and write model, card and pictures.

    folder : where ``mean_removal.*`` and ``mean_removal_*.png`` go. speech : what to judge on
    besides random vectors; never trained on. command : for the card. report : called with
    lines of progress, step : with the epochs done and their number. The same seed gives the same
    weights.
    Raises Codec2EqError if an output exists and `force` is false, or TensorFlow is missing.
    """
    drawn = [p for p in PICTURES if p != "speech" or speech is not None]
    images = {picture: folder / f"{NAME}_{picture}.png" for picture in drawn}
    outputs = [folder / f"{NAME}{suffix}" for suffix in (".keras", ".npz", ".json")]
    card.require_free([*outputs, *images.values()], force=force)
    keras = import_keras()
    rng = np.random.default_rng(seed)
    seen = random_vectors(TRAIN_VECTORS, rng)
    held_out = random_vectors(HELD_OUT_VECTORS, rng)
    model, history = _fit(keras, seen, held_out, seed, epochs, report, step)
    judged = {"random vectors": held_out}
    if speech is not None:
        judged["speech"] = (speech.vectors, remove_mean(speech.vectors)[1])
    network = from_keras(model, NAME)
    found = {name: errors(network, *pair) for name, pair in judged.items()}
    network.card.update(
        does="subtracts each vector's mean, as a trained layer",
        data=_describe_data(speech),
        command=command,
        seed=seed,
        figures=_figures(found),
    )
    for picture, figure in _draw(network, history, held_out, speech, found).items():
        pictures.save_picture(figure, images[picture], force=force)
    return card.publish(network, model, folder, force=force)


def _fit(
    keras: Any,
    seen: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    seed: int,
    epochs: int,
    report: Callable[[str], None],
    step: Callable[[int, int], None],
) -> tuple[Any, dict[str, list[float]]]:
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dense(K, name=NAME)
    model = keras.Sequential([keras.Input((K,), name="vectors"), layer], name=NAME)
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
        loss="mse",
        steps_per_execution=32,  # the steps are tiny: most of the time would go between them
    )

    def tell(epoch: int, logs: dict[str, float]) -> None:
        step(epoch + 1, epochs)
        # each of the first, where the figures fall fast, then every tenth
        if epoch < 10 or (epoch + 1) % 10 == 0 or epoch + 1 == epochs:
            report(
                f"epoch {epoch + 1:3}/{epochs}  loss {logs['loss']:.3e} dB^2  "
                f"held-out {logs['val_loss']:.3e} dB^2"
            )

    history = model.fit(
        *seen,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=held_out,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=tell)],
    )
    return model, history.history


def _rms(values: np.ndarray) -> float:
    return float(f"{np.sqrt(np.mean(np.square(values))):.1e}")


def _figures(found: dict[str, tuple[np.ndarray, ...]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, (offset, change) in found.items():
        key = name.replace(" ", "_")
        figures[f"{key}_offset_db_rms"] = _rms(offset)
        figures[f"{key}_shape_change_db_rms"] = _rms(change)
    return figures


def _describe_data(speech: Speech | None) -> str:
    text = (
        f"{TRAIN_VECTORS} random vectors, normal with {SHAPE_SD_DB:g} dB a band, mean removed, "
        f"offsets uniform in {OFFSET_DB[0]:g} to {OFFSET_DB[1]:g} dB; "
        f"judged on {HELD_OUT_VECTORS} others"
    )
    return text if speech is None else f"{text} and on {len(speech.vectors)} frames of speech"


def _draw(
    network: Network,
    history: dict[str, list[float]],
    held_out: tuple[np.ndarray, np.ndarray],
    speech: Speech | None,
    found: dict[str, tuple[np.ndarray, ...]],
) -> dict[str, Any]:
    vectors, shapes = held_out[0][:5], held_out[1][:5]
    bands = np.arange(1, K + 1)
    figures = {
        "vectors": pictures.before_and_after(
            "mean_removal: five held-out random vectors",
            bands,
            vectors,
            network(vectors),
            shapes,
            xlabel="band",
            xticks=(1, 5, 10, 15, 20),
        ),
        "loss": pictures.loss_curves(
            "mean_removal: mean squared error",
            {"training": history["loss"], "held-out": history["val_loss"]},
            "dB$^2$",
        ),
        "errors": pictures.error_histograms(
            "mean_removal: errors at the output",
            {
                "offset that remains": {k: 1e6 * v[0] for k, v in found.items()},
                "change of the shape": {k: 1e6 * v[1] for k, v in found.items()},
            },
            "µdB",
        ),
    }
    if speech is not None:
        chosen = speech.vectors[_spread_of_frames(speech.vectors)]
        figures["speech"] = pictures.before_and_after(
            "mean_removal: five frames of speech; trained on random numbers only",
            speech.freqs_hz / 1000,
            chosen,
            network(chosen),
            remove_mean(chosen)[1],
            xlabel="frequency [kHz]",
            xticks=(0, 1, 2, 3, 4),
        )
    return figures


def _spread_of_frames(vectors: np.ndarray) -> Sequence[int]:
    """Frames from quiet to loud, so that their lines do not overlap."""
    order = np.argsort(remove_mean(vectors)[0], kind="stable")
    return [int(order[int(share * (len(order) - 1))]) for share in (0.3, 0.5, 0.7, 0.85, 0.99)]
