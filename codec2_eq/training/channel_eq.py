# SPDX-License-Identifier: LGPL-2.1-or-later
"""Train the network that removes spectral shaping: the recursive estimator `channel_eq`.

It sees 12 s of shaped speech at a time, from a cold start, and is to give back canonical speech:
the speaker's own vectors less the curve that suits speaker and microphone best (`quality`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq import pictures
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.cases import Case, shape_recording
from codec2_eq.bench.measures import FRAME_S, Quantise, quantise_700c
from codec2_eq.bench.shaping import SHAPINGS, load_shaping
from codec2_eq.bench.speech import analyse, find_speech, load_speech
from codec2_eq.codec2 import K
from codec2_eq.equalisers.keras_import import import_keras
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import Codec2EqError, require_extra
from codec2_eq.files import require_writable
from codec2_eq.training import card, data
from codec2_eq.training.judging import NAME, PICTURES, draw, figures
from codec2_eq.training.loop import Watch, fit
from codec2_eq.training.settings import SEED, Draws, Settings

LEAST_FRAMES = 150  # of a recording that is trained on: half a segment
LEAST_ACTIVE = 80


def train(
    folder: Path,
    recordings: Sequence[data.Recording],
    cases: Sequence[Case],
    *,
    seed: int = SEED,
    settings: Settings | None = None,
    classic: Mapping[str, np.ndarray] | None = None,
    command: str = "",
    sources: str = "",
    watch: Watch | None = None,
    force: bool = False,
) -> Network:
    """Train, choose the epoch that errs least on unseen speakers through real filters, and publish.

    folder : where ``channel_eq.*`` go; a training that was stopped goes on from the checkpoint
    that it left there. recordings : to train on. cases : to validate on. classic : recordings
    that are only measured, vectors by name. sources : where the speech came from, for the card.
    Raises Codec2EqError if an output exists and `force` is false, or TensorFlow is missing.
    """
    settings = settings or Settings()
    watch = watch or Watch()
    _require_tensorboard(watch)
    _require_free(folder, force=force)
    usable = [
        r for r in recordings if len(r.plain) >= LEAST_FRAMES and r.active.sum() >= LEAST_ACTIVE
    ]
    if not usable or not cases:
        raise Codec2EqError(
            "",
            f"{len(usable)} recordings to train on and {len(cases)} to validate on",
            "fetch more speech with scripts/fetch_speech.py",
        )
    checkpoint = folder / f"{NAME}_seed{seed}.checkpoint"
    trained = fit(usable, cases, seed, settings, checkpoint, watch)
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
    for picture, figure in draw(network, cases, trained.history).items():
        pictures.save_picture(figure, _image(folder, picture), force=force)
    published = card.publish(network, trained.model, folder, force=force)
    checkpoint.unlink(missing_ok=True)
    return published


def _image(folder: Path, picture: str) -> Path:
    return folder / f"{NAME}_{picture}.png"


def _require_tensorboard(watch: Watch) -> None:
    if watch.tensorboard is not None:
        require_extra("--tensorboard", "tensorboard", "tensorboard")


def _require_free(folder: Path, *, force: bool) -> None:
    outputs = [folder / f"{NAME}{suffix}" for suffix in (".keras", ".npz", ".json")]
    card.require_free([*outputs, *(_image(folder, p) for p in PICTURES)], force=force)


def train_on_speech(
    folder: Path,
    speech: Path,
    cache: Path,
    *,
    settings: Settings | None = None,
    watch: Watch | None = None,
    force: bool = False,
    **options: Any,
) -> Network:
    """Train on what scripts/fetch_speech.py fetched into `speech`; see `train` for the options.

    cache : folder of the features, made at the first training with that speech.
    """
    _require_free(folder, force=force)  # all that can be known before minutes of analysis
    watch = watch or Watch()
    _require_tensorboard(watch)
    cached = cache / "channel_eq_features.npz"
    card.require_free([cached], force=True)
    require_writable(cached, force=True)
    settings = settings or Settings()
    sources = data.find_sources(speech, settings.draws)
    validate, heard = (find_speech([speech], use) for use in ("validate", "classic"))
    import_keras()
    quantise = quantise_700c()
    recordings = _features(sources, cached, quantise, settings.draws, watch.report)
    watch.report("shaping the validation speech")
    shapings = [load_shaping(name) for name in SHAPINGS]
    cases = [shape_recording(recording, shapings, quantise) for recording in load_speech(validate)]
    classic = {name: analyse(read_audio(paths[0])) for name, paths in heard.items()}
    return train(
        folder,
        recordings,
        cases,
        classic=classic,
        settings=settings,
        sources=sources.origins,
        watch=watch,
        force=force,
        **options,
    )


def _features(
    sources: data.Sources,
    cached: Path,
    quantise: Quantise,
    draws: Draws,
    report: Callable[[str], None],
) -> list[data.Recording]:
    """The features of the training speech, from the cache if it holds those of this speech."""
    if cached.is_file():
        recordings, made_from = data.load(cached)
        if made_from == sources.sha256:
            return recordings
        report(f"{cached} holds features of other speech, and is made again")
    report("analysing the training speech, some minutes")
    recordings = data.prepare(sources.speakers, quantise=quantise, draws=draws, progress=report)
    data.save(recordings, cached, sources.sha256)
    return recordings


def multiply_adds(hidden: tuple[int, int]) -> int:
    """Multiply-adds per frame of the three kernels; the recursion adds some tens per band."""
    widths = (K + 3, *hidden, 3 * K + 1)
    return sum(a * b for a, b in zip(widths, widths[1:], strict=False))


def _describe(recordings: Sequence[data.Recording], sources: str) -> str:
    hours = sum(len(r.plain) for r in recordings) * FRAME_S / 3600
    voices = len({r.speaker.split("*")[0] for r in recordings})
    return f"{hours:.1f} h of {voices} speakers, some at other speeds; {sources}".rstrip("; ")
