# SPDX-License-Identifier: LGPL-2.1-or-later
"""The equalisers without training: none, mean, Codec 2's own, and a running mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq import codec2
from codec2_eq.codec2 import FRAME_MS, K
from codec2_eq.equalisers._recursions import front_equaliser, running_mean
from codec2_eq.equalisers.eq1_eq2 import Eq1, Eq2
from codec2_eq.equalisers.stream import EqualiserStream, Floats
from codec2_eq.records import remove_mean

# What the front equaliser takes undistorted speech to look like [dB], and its gain a frame;
# codec2 newamp1, empirical, origin unknown.
FRONT_IDEAL_DB = np.array([8, 10, 12] + [14] * 16 + [-20], np.float32)
FRONT_GAIN = np.float32(0.02)

CODEBOOK_MEAN_DB = np.array(codec2.CODEBOOK_MEAN_DB)

# The running mean: how much it trusts the codebook's mean at the start, and how fast it forgets.
CMN_PRIOR_S = 0.4
CMN_FORGET_S = 10.0
CMN_ACTIVE_DB = 20.0  # a frame counts if its level is within this of the running peak
CMN_PEAK_FALL_DB_PER_S = 0.5  # so that one shout does not silence a minute of quiet speech
CMN_SILENCE_DB = -15.0  # level of white noise of about one step of 16 bits rms: never speech


class _Unchanged(EqualiserStream):
    def _next(self, rows: Floats) -> Floats:
        return rows.copy()


class _ArithmeticMean(EqualiserStream):
    def _next(self, rows: Floats) -> Floats:
        return remove_mean(rows)[1]


class _FrontEqualiser(EqualiserStream):
    """Codec 2's own; its output keeps the mean that it happens to have, as in libcodec2."""

    def __init__(self, frame_ms: int) -> None:
        frames = frame_ms / FRAME_MS
        # exactly libcodec2's float at its own rate, the same time constant at others
        self._gain = FRONT_GAIN if frames == 1 else 1 - (1 - float(FRONT_GAIN)) ** frames
        self._eq = np.zeros(K, np.float32)

    @property
    def curve_db(self) -> Floats:
        """As `EqualiserStream.curve_db`."""
        return self._eq.copy()

    def state(self) -> dict[str, NDArray[Any]]:
        """As `EqualiserStream.state`."""
        return {"eq": self._eq.copy()}

    def _remember(self, state: dict[str, NDArray[Any]]) -> None:
        self._eq = state["eq"]

    def _next(self, rows: Floats) -> Floats:
        shapes = remove_mean(rows)[1]
        front_equaliser(shapes, self._eq, FRONT_IDEAL_DB, self._gain)
        return shapes


class _RunningMean(EqualiserStream):
    """Mean of the active frames so far, starting as CMN_PRIOR_S of the codebook's mean."""

    aims_at_codebook = True

    def __init__(self, frame_ms: int) -> None:
        frame_s = frame_ms / 1000
        self._keep = math.exp(-frame_s / CMN_FORGET_S)
        self._peak_fall_db = CMN_PEAK_FALL_DB_PER_S * frame_s
        self._curve = np.zeros(K)
        self._weight_and_peak = np.array([CMN_PRIOR_S / frame_s, -np.inf])

    @property
    def curve_db(self) -> Floats:
        """As `EqualiserStream.curve_db`."""
        return self._curve.astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """As `EqualiserStream.state`."""
        # a peak of minus infinity, before the first frame, is no number to save
        weight_and_peak = np.maximum(self._weight_and_peak, CMN_SILENCE_DB)
        return {"curve": self._curve.copy(), "weight_and_peak": weight_and_peak}

    def _remember(self, state: dict[str, NDArray[Any]]) -> None:
        self._curve, self._weight_and_peak = state["curve"], state["weight_and_peak"]

    def _next(self, rows: Floats) -> Floats:
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


CLASSIC: dict[str, tuple[Callable[[int], EqualiserStream], str]] = {
    "none": (lambda frame_ms: _Unchanged(), "leaves the vectors as they are, mean included"),
    "mean": (lambda frame_ms: _ArithmeticMean(), "subtracts each vector's arithmetic mean"),
    "700c": (_FrontEqualiser, "Codec 2's adaptive front equaliser, as libcodec2 runs it"),
    "cmn": (_RunningMean, "subtracts the running spectral mean, towards the codebook's mean"),
    "eq1": (lambda frame_ms: Eq1(), "subtracts how far the mean so far lies above the codebook's"),
    "eq2": (Eq2, "subtracts the running mean of 700C's quantisation error"),
}
"""Names to what starts a stream at a frame interval [ms], and what it does in words."""

CODEC2S_OWN = ("none", "700c")
"""Those that libcodec2 has itself: what it sends with them is what we send."""


def start_classic(name: str, frame_ms: int) -> EqualiserStream:
    """Start a classic equaliser; a function with a name, so that it pickles."""
    return CLASSIC[name][0](frame_ms)
