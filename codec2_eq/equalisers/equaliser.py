# SPDX-License-Identifier: LGPL-2.1-or-later
"""Equalisers by name or from a file: rate-K vectors in, shapes out.

Every equaliser is causal and is defined by its stream; a whole file is the stream run once, from a
cold start. A stream gives the same bits for any division of the frames into blocks. With two
passes the stream hears the whole recording first and starts again from what it learnt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import FRAME_MS, FRAME_MS_CHOICES, STAGE_SHAPE, K
from codec2_eq.equalisers.classic import CLASSIC, CODEC2S_OWN, start_classic
from codec2_eq.equalisers.hearing import HEARINGS, Hearing, Knowledge, start_knowing
from codec2_eq.equalisers.network import Network, NetworkStream, load_network
from codec2_eq.equalisers.stream import EqualiserStream, Floats, State
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import picture_html

__all__ = [
    "Equaliser",
    "EqualiserStream",
    "ModelFacts",
    "available_models",
    "check_passes",
    "equaliser_at",
    "load_equaliser",
    "load_trained",
    "model_names",
    "models_dir",
]


@dataclass(frozen=True, eq=False)
class Equaliser:
    """A named way of equalising; any number of utterances, each from a cold start.

    `load_equaliser` makes one. It pickles, so that it can be sent to other processes.

    Attributes
    ----------
    name : str
        That of the method or of the network.
    sha256 : str
        Hash of a network's layers and weights; empty for the classic ones.
    frame_ms : int
        Time between the frames it is given, ms.

    Examples
    --------
    >>> vectors = ce.extract_file("samples/espeak_male_1.wav").vectors
    >>> equaliser = ce.load_equaliser("mean")
    >>> bool(abs(equaliser(vectors).mean(axis=1)).max() < 1e-4)
    True
    """

    name: str
    sha256: str
    frame_ms: int
    _start: Callable[[], EqualiserStream]

    def __call__(self, vectors: NDArray[Any], *, passes: int = 1) -> Floats:
        """Equalise one whole utterance.

        Parameters
        ----------
        vectors : ndarray of shape (n, K)
            Vectors in dB, mean included, as `extract` gives them.
        passes : {1, 2}
            2 hears all vectors first and starts from what they taught; see docs/models.md.

        Returns
        -------
        ndarray of float32, shape (n, K)
            Equalised vectors, dB.

        Raises
        ------
        Codec2EqError
            As `EqualiserStream.process` does, and for another number of passes.
        """
        knowing = self.after(vectors) if check_passes(passes) == 2 else self
        return knowing.stream().process(vectors)

    def after(self, vectors: NDArray[Any]) -> Equaliser:
        """Return the same equaliser, whose streams start from what some speech taught it.

        Parameters
        ----------
        vectors : ndarray of shape (n, K)
            Vectors in dB, of this recording or of others of the same speaker and microphone.
        """
        if not self.stateful or not len(vectors):
            return self
        return self.knowing(self.learn(vectors))

    def learn(self, vectors: NDArray[Any]) -> Knowledge:
        """Return what some speech teaches an equaliser with memory; see `after`."""
        hearing = Hearing(self._start)
        for _ in range(HEARINGS):
            hearing.hear(vectors)
        hearing.settle(vectors)
        return hearing.learnt()

    def knowing(self, known: Knowledge) -> Equaliser:
        """Return the same equaliser, whose streams start from what was learnt."""
        return replace(self, _start=functools.partial(start_knowing, self._start, known))

    def stream(self, state: State | None = None) -> EqualiserStream:
        """Start on an utterance that comes in blocks.

        Parameters
        ----------
        state : mapping of str to ndarray, optional
            Another stream's `state` to start from; by default the start is cold.
        """
        stream = self._start()
        if state is not None:
            stream.restore(state)
        return stream

    def __repr__(self) -> str:
        weights = f", weights {self.sha256[:12]}" if self.sha256 else ""
        return f"<Equaliser {self.name}{weights}, every {self.frame_ms} ms>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: facts, and what becomes of some shapes in a picture."""
        from html import escape

        facts = {
            "frames": f"every {self.frame_ms} ms",
            "memory": "yes" if self.stateful else "none",
            "weights": self.sha256[:12] or "none",
        }
        rows = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in facts.items())
        before = _tilted_shapes()
        picture = picture_html(np.concatenate([before, self(before)]))
        return (
            f"<b>{escape(self.name)}</b><table>{rows}</table>{picture}<br>"
            f"{len(before)} codebook entries behind a tilt: before, after"
        )

    @property
    def stateful(self) -> bool:
        """Whether a frame's output depends on the frames before it."""
        return bool(self._start().state())

    @property
    def does_nothing(self) -> bool:
        """Whether it is `none`, which leaves the vectors as they are."""
        return self.name == "none" and not self.sha256

    @property
    def codec2s_own(self) -> bool:
        """Whether it is one that libcodec2 has itself: `none` and `700c`."""
        return self.name in CODEC2S_OWN and not self.sha256


def _tilted_shapes() -> Floats:
    """Shapes of speech as a bright microphone gives them, to show what an equaliser does."""
    from codec2_eq.codec2.library import codebook_700c

    first, second = (stage[:: STAGE_SHAPE[0] // 64] for stage in codebook_700c())
    return first + second[::-1] + np.linspace(-15, 15, K, dtype=np.float32)


def check_passes(passes: int) -> int:
    """Return a number of passes, or raise Codec2EqError if it is neither 1 nor 2."""
    if passes not in (1, 2):
        raise Codec2EqError(f"passes {passes}", "1 or 2", "a third pass gains nothing")
    return passes


def load_equaliser(name_or_path: str | Path, *, frame_ms: int = FRAME_MS) -> Equaliser:
    """Find an equaliser by its name, or read the ``.npz`` or ``.keras`` network at a path.

    A ``.keras`` file is converted at first use, which needs TensorFlow; see
    `codec2_eq.equalisers.keras_import`. A network's output is left as the network gives it.

    Parameters
    ----------
    name_or_path : str or path
        A name from `available_models`, or a file.
    frame_ms : {10, 20, 40}
        Time between the frames it will be given, ms; time constants follow it.

    Raises
    ------
    Codec2EqError
        For an unknown name (the known ones are listed), a file that is no network, a layer that
        cannot be run, or a network that does not map K values to K.

    Examples
    --------
    >>> ce.load_equaliser("channel_eq").name
    'channel_eq'
    >>> ce.load_equaliser("chanel_eq")
    Traceback (most recent call last):
    codec2_eq.errors.Codec2EqError: ...
    """
    if frame_ms not in FRAME_MS_CHOICES:
        raise Codec2EqError(f"frame interval {frame_ms} ms", "", "choose 10, 20 or 40")
    name = str(name_or_path)
    if name in CLASSIC:
        return Equaliser(name, "", frame_ms, functools.partial(start_classic, name, frame_ms))
    network = load_trained(name)
    if {network.inputs, network.outputs} - {K, None}:  # None: any number, so that it is kept
        raise Codec2EqError(
            name,
            f"maps {network.inputs} values to {network.outputs}",
            f"an equaliser maps {K} to {K}",
        )
    phases = _phases(network, name, frame_ms)
    start = functools.partial(NetworkStream, network, phases)
    return Equaliser(network.name, network.sha256, frame_ms, start)


def equaliser_at(frame_ms: int, model: Equaliser | str | Path) -> Equaliser:
    """Return an equaliser of frames `frame_ms` apart: the one given, or that of a name or path.

    Raises Codec2EqError as `load_equaliser` does, and for one that was loaded for other frames.
    """
    if not isinstance(model, Equaliser):
        return load_equaliser(model, frame_ms=frame_ms)
    if model.frame_ms != frame_ms:
        raise Codec2EqError(
            model.name,
            f"was loaded for frames {model.frame_ms} ms apart, {frame_ms} ms expected",
            f"load it with frame_ms={frame_ms}",
        )
    return model


def _phases(network: Network, name: str, frame_ms: int) -> int:
    if not network.stateful:
        return 1
    phases, rest = divmod(network.frame_ms, frame_ms)
    if rest or not phases:
        raise Codec2EqError(
            name,
            f"has a memory and was trained on frames {network.frame_ms} ms apart, not {frame_ms}",
            f"use --frame-ms {network.frame_ms}",
        )
    return phases


def load_trained(name_or_path: str | Path) -> Network:
    """Find a trained network by its name, or read it from a ``.npz`` or ``.keras`` file.

    Raises Codec2EqError as `load_equaliser` does.
    """
    name = str(name_or_path)
    if (shipped := models_dir() / f"{name}.npz").is_file():
        return load_network(shipped)
    if name.endswith(".npz"):
        return load_network(name)
    if name.endswith(".keras") or (Path(name) / "saved_model.pb").is_file():
        from codec2_eq.equalisers.keras_import import load_keras

        return load_keras(name)
    if name.endswith((".h5", ".hdf5")):
        from codec2_eq.equalisers.keras_import import old_format

        raise old_format(name)
    raise Codec2EqError(
        "",
        f"no equaliser {name!r}",
        f"there are {', '.join(model_names())}, or give the path of a .keras or .npz file",
    )


# ----------------------------------------------------------------------- available models


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model, known before it is used; texts are empty where unknown."""

    name: str
    does: str
    data: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


def models_dir() -> Path:
    """Return the folder of the trained networks: ``models`` in a wheel, beside the package in a
    clone.
    """
    package = Path(__file__).parents[1]
    places = [package / "models", package.parent / "models"]
    return next((place for place in places if place.is_dir()), places[0])


def clone_dir() -> Path | None:
    """Return the folder of the sources that the package runs from, None if it is installed."""
    folder = Path(__file__).parents[2]
    return folder if (folder / "setup.cfg").is_file() else None


def model_names() -> list[str]:
    """Names that `load_equaliser` knows."""
    return [*CLASSIC, *sorted(path.stem for path in models_dir().glob("*.npz"))]


def available_models() -> list[ModelFacts]:
    """List the models: the classic ones, then the trained ones with the facts on their cards.

    Returns
    -------
    list of ModelFacts
        Each has `name`, `does`, `data`, `figures` and `sha256`; texts are empty where unknown.

    Examples
    --------
    >>> [model.name for model in ce.available_models()]
    ['none', 'mean', '700c', 'cmn', 'eq1', 'eq2', 'channel_eq', 'mean_removal']
    """
    classic = [ModelFacts(name, does) for name, (_, does) in CLASSIC.items()]
    return classic + [_facts(path) for path in sorted(models_dir().glob("*.npz"))]


def _facts(path: Path) -> ModelFacts:
    network = load_network(path)
    card: dict[str, Any] = network.card
    return ModelFacts(
        name=path.stem,
        does=str(card.get("does", "")),
        data=str(card.get("data", "")),
        figures=dict(card.get("figures", {})),
        sha256=network.sha256,
    )
