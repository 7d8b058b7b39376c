# SPDX-License-Identifier: LGPL-2.1-or-later
"""Equalisers: rate-K vectors in, shapes out; by name or from a file.

Every equaliser is causal and is defined by its stream; a whole file is the stream run once,
from a cold start. A stream gives the same bits for any division of the frames into blocks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.equalisers._recursions import front_equaliser, running_mean
from codec2_eq.equalisers.layers import State
from codec2_eq.equalisers.network import Network, load_network
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import FRAME_MS_CHOICES, MOST_DB, K, remove_mean

FRAME_MS_700C = 40  # frame interval of the 700C encoder, at which time constants are given
DEFAULT = "mean_removal"

# What the front equaliser takes undistorted speech to look like [dB], and its gain a frame;
# codec2 newamp1, empirical, origin unknown.
FRONT_IDEAL_DB = np.array([8, 10, 12] + [14] * 16 + [-20], np.float32)
FRONT_GAIN = np.float32(0.02)

# Mean of the 512 entries of the first 700C stage plus that of the second: what an average shape
# is for the quantiser. Generator: sum(book.mean(0) for book in libcodec2.codebook_700c()).
# A table, because opening libcodec2 would cost more time than all else at the start.
CODEBOOK_MEAN_DB = np.array(
    # fmt: off
    [
        7.6937,
        8.6581,
        10.1806,
        10.8578,
        9.7775,
        7.7603,
        5.4362,
        2.9445,
        1.0574,
        0.1166,
        -0.8310,
        -1.5471,
        -2.5255,
        -4.3444,
        -4.9244,
        -5.2792,
        -6.8080,
        -7.8129,
        -7.5985,
        -22.8119,
    ]
    # fmt: on
)

# The running mean: how much it trusts the codebook's mean at the start, and how fast it forgets.
CMN_PRIOR_S = 0.4
CMN_FORGET_S = 10.0
CMN_ACTIVE_DB = 20.0  # a frame counts if its level is within this of the running peak
CMN_PEAK_FALL_DB_PER_S = 0.5  # so that one shout does not silence a minute of quiet speech
CMN_SILENCE_DB = -15.0  # level of white noise of about one step of 16 bits rms: never speech


# -------------------------------------------------------------------------------- streams


class EqualiserStream:
    """An equaliser at work on one utterance; holds nothing but its memory."""

    def process(self, block: np.ndarray) -> np.ndarray:
        """Equalise the next frames.

        block : (n, K) dB, n from 0. Not modified. Returns a new (n, K) float32 array, dB.
        Raises Codec2EqError for another shape, or values that are not finite or no decibels.
        """
        rows = np.asarray(block)
        if rows.ndim != 2 or rows.shape[1] != K:
            raise Codec2EqError(f"vectors of shape {rows.shape}, expected (frames, {K})")
        if rows.dtype.kind not in "fiu":
            raise Codec2EqError(f"vectors of type {rows.dtype}, expected float32")
        rows = np.ascontiguousarray(rows, np.float32)
        sane = np.abs(rows) <= MOST_DB  # NaN is not
        if not sane.all():
            frame = int(np.argmin(sane.all(axis=1)))
            what = f"beyond {MOST_DB:,} dB" if np.isfinite(rows[frame]).all() else "not finite"
            raise Codec2EqError(f"vector {frame} holds values that are {what}; in dB, please")
        return self._next(rows)

    @property
    def curve_db(self) -> np.ndarray | None:
        """The curve (K,) dB that it takes off the next frame, None if it has no such thing."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """What it remembers, to save with ``np.savez`` and `restore`; empty without memory."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state` of the same equaliser: a station's microphone is known at once.

        Raises Codec2EqError if it is that of another.
        """
        own = self.state()
        if {n: v.shape for n, v in own.items()} != {n: np.shape(v) for n, v in state.items()}:
            held, wanted = (", ".join(names) or "nothing" for names in (state, own))
            raise Codec2EqError(
                f"state of {held}, expected {wanted}; save it from a stream of the same equaliser"
            )
        if not all(np.isfinite(value).all() for value in state.values()):
            raise Codec2EqError("state: holds values that are not finite; start afresh")
        self._remember({n: np.array(state[n], v.dtype) for n, v in own.items()})

    def _remember(self, state: dict[str, np.ndarray]) -> None:
        """Take over a state that is known to fit."""

    def _next(self, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class _Unchanged(EqualiserStream):
    def _next(self, rows: np.ndarray) -> np.ndarray:
        return rows.copy()


class _ArithmeticMean(EqualiserStream):
    def _next(self, rows: np.ndarray) -> np.ndarray:
        return remove_mean(rows)[1]


class _FrontEqualiser(EqualiserStream):
    """Codec 2's own; its output keeps the mean that it happens to have, as in libcodec2."""

    def __init__(self, frame_ms: int) -> None:
        frames = frame_ms / FRAME_MS_700C
        # exactly libcodec2's float at its own rate, the same time constant at others
        self._gain = FRONT_GAIN if frames == 1 else 1 - (1 - float(FRONT_GAIN)) ** frames
        self._eq = np.zeros(K, np.float32)

    @property
    def curve_db(self) -> np.ndarray:
        return self._eq.copy()

    def state(self) -> dict[str, np.ndarray]:
        return {"eq": self._eq.copy()}

    def _remember(self, state: dict[str, np.ndarray]) -> None:
        self._eq = state["eq"]

    def _next(self, rows: np.ndarray) -> np.ndarray:
        shapes = remove_mean(rows)[1]
        front_equaliser(shapes, self._eq, FRONT_IDEAL_DB, self._gain)
        return shapes


class _RunningMean(EqualiserStream):
    """Mean of the active frames so far, starting as CMN_PRIOR_S of the codebook's mean."""

    def __init__(self, frame_ms: int) -> None:
        frame_s = frame_ms / 1000
        self._keep = math.exp(-frame_s / CMN_FORGET_S)
        self._peak_fall_db = CMN_PEAK_FALL_DB_PER_S * frame_s
        self._curve = np.zeros(K)
        self._weight_and_peak = np.array([CMN_PRIOR_S / frame_s, -np.inf])

    @property
    def curve_db(self) -> np.ndarray:
        return self._curve.astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        # a peak of minus infinity, before the first frame, is no number to save
        weight_and_peak = np.maximum(self._weight_and_peak, CMN_SILENCE_DB)
        return {"curve": self._curve.copy(), "weight_and_peak": weight_and_peak}

    def _remember(self, state: dict[str, np.ndarray]) -> None:
        self._curve, self._weight_and_peak = state["curve"], state["weight_and_peak"]

    def _next(self, rows: np.ndarray) -> np.ndarray:
        mean_db, shapes = remove_mean(rows)
        running_mean(
            shapes,
            mean_db,
            CODEBOOK_MEAN_DB,
            self._curve,
            self._weight_and_peak,
            keep=self._keep,
            peak_fall_db=self._peak_fall_db,
            active_db=CMN_ACTIVE_DB,
            silence_db=CMN_SILENCE_DB,
        )
        return shapes


class _NetworkStream(EqualiserStream):
    """A network with its memory.

    A network with memory knows one frame interval only. Where frames come more often, they
    are dealt out in turn to as many memories, each of which then sees the interval that the
    network was trained on.
    """

    def __init__(self, network: Network, phases: int) -> None:
        self._network = network
        self._states: list[State] = [network.initial_state() for _ in range(phases)]
        self._phase = 0  # whose turn the next frame is

    @property
    def curve_db(self) -> np.ndarray | None:
        """That of the frame before; a layer with such a curve calls it so in its state."""
        latest = self._states[self._phase - 1]
        return next((v.copy() for n, v in latest.items() if n.endswith(".curve")), None)

    def state(self) -> dict[str, np.ndarray]:
        # told from whose turn it is on, so that a phase is nothing to save
        turns = self._states[self._phase :] + self._states[: self._phase]
        return {f"{i}.{n}": v.copy() for i, state in enumerate(turns) for n, v in state.items()}

    def _remember(self, state: dict[str, np.ndarray]) -> None:
        for i, own in enumerate(self._states):
            self._states[i] = {name: state[f"{i}.{name}"] for name in own}
        self._phase = 0

    def _next(self, rows: np.ndarray) -> np.ndarray:
        phases = len(self._states)
        out = np.empty((len(rows), K), np.float32)
        for i in range(min(phases, len(rows))):
            phase = (self._phase + i) % phases
            own = np.ascontiguousarray(rows[i::phases])
            out[i::phases], self._states[phase] = self._network.forward(own, self._states[phase])
        if not np.isfinite(out).all():
            raise Codec2EqError(
                f"{self._network.name}: gives values that are not finite; train the network again, "
                "or choose another"
            )
        self._phase = (self._phase + len(rows)) % phases
        return out


# ----------------------------------------------------------------------------- equalisers


@dataclass(frozen=True, eq=False)
class Equaliser:
    """A named way of equalising; any number of utterances, each from a cold start.

    name : that of the method or of the network. version : sha256 of a network's
    weights, empty for the classic ones. Pickles, so that it can be sent to other processes.
    """

    name: str
    version: str
    _start: Callable[[], EqualiserStream]

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Equalise one whole utterance: (n, K) dB to (n, K) float32 dB."""
        return self.stream().process(vectors)

    def stream(self) -> EqualiserStream:
        """Start on an utterance that comes in blocks."""
        return self._start()


_CLASSIC: dict[str, tuple[Callable[[int], EqualiserStream], str]] = {
    "none": (lambda frame_ms: _Unchanged(), "leaves the vectors as they are, mean included"),
    "mean": (lambda frame_ms: _ArithmeticMean(), "subtracts each vector's arithmetic mean"),
    "700c": (_FrontEqualiser, "Codec 2's adaptive front equaliser, as libcodec2 runs it"),
    "cmn": (_RunningMean, "subtracts the running spectral mean, towards the codebook's mean"),
}


def _start_classic(name: str, frame_ms: int) -> EqualiserStream:
    return _CLASSIC[name][0](frame_ms)


def load_equaliser(name_or_path: str | Path, *, frame_ms: int = FRAME_MS_700C) -> Equaliser:
    """Find an equaliser by its name, or read the ``.npz`` or ``.keras`` network at a path.

    frame_ms : interval between the frames it will be given; time constants follow it.
    A ``.keras`` file is converted at first use, which needs TensorFlow; see
    `codec2_eq.equalisers.keras_import`. A network's output is left as the network gives it.
    Raises Codec2EqError for an unknown name (and lists the names), a file that is no network,
    a layer that cannot be run, or a network that does not map K values to K.
    """
    if frame_ms not in FRAME_MS_CHOICES:
        raise Codec2EqError(f"frame interval {frame_ms} ms; choose 10, 20 or 40")
    name = str(name_or_path)
    if name in _CLASSIC:
        return Equaliser(name, "", functools.partial(_start_classic, name, frame_ms))
    network = _load(name)
    if {network.inputs, network.outputs} - {K, None}:  # None: any number, so that it is kept
        raise Codec2EqError(
            f"{name}: maps {network.inputs} values to {network.outputs}; "
            f"an equaliser maps {K} to {K}"
        )
    phases = _phases(network, name, frame_ms)
    start = functools.partial(_NetworkStream, network, phases)
    return Equaliser(network.name, network.sha256, start)


def _phases(network: Network, name: str, frame_ms: int) -> int:
    if not network.stateful:
        return 1
    phases, rest = divmod(network.frame_ms, frame_ms)
    if rest or not phases:
        raise Codec2EqError(
            f"{name}: has a memory and was trained on frames {network.frame_ms} ms apart, "
            f"not {frame_ms}; use --frame-ms {network.frame_ms}"
        )
    return phases


def _load(name: str) -> Network:
    if (shipped := models_dir() / f"{name}.npz").is_file():
        return load_network(shipped)
    if name.endswith(".npz"):
        return load_network(name)
    if name.endswith(".keras"):
        from codec2_eq.equalisers.keras_import import load_keras

        return load_keras(name)
    raise Codec2EqError(
        f"no equaliser {name!r}; there are {', '.join(model_names())}, "
        "or give the path of a .keras or .npz file"
    )


# ----------------------------------------------------------------------- models at hand


@dataclass(frozen=True)
class ModelFacts:
    """What there is to know of a model before using it; texts are empty where unknown."""

    name: str
    does: str
    data: str = ""
    figures: str = ""
    sha256: str = ""


def models_dir() -> Path:
    """Folder of the trained networks: in the package (wheel), or beside it (repository)."""
    package = Path(__file__).parent.parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def model_names() -> list[str]:
    """Names that `load_equaliser` knows."""
    return [*_CLASSIC, *sorted(path.stem for path in models_dir().glob("*.npz"))]


def available_models() -> list[ModelFacts]:
    """The models at hand: the classic ones, then the trained ones as their cards tell."""
    classic = [ModelFacts(name, does) for name, (_, does) in _CLASSIC.items()]
    return classic + [_facts(path) for path in sorted(models_dir().glob("*.npz"))]


def _facts(path: Path) -> ModelFacts:
    network = load_network(path)
    card: dict[str, Any] = network.card
    figures = card.get("figures", {})
    return ModelFacts(
        name=path.stem,
        does=str(card.get("does", "")),
        data=str(card.get("data", "")),
        figures=", ".join(f"{key} {value}" for key, value in figures.items()),
        sha256=network.sha256,
    )
