# SPDX-License-Identifier: LGPL-2.1-or-later
"""From rate-K frames to the filter's gain after each: what to remove, and when.

While nobody speaks nothing moves: neither the curve, which would chase the noise, nor the level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audiofilter._level_control import LevelControl
from codec2_eq.audiofilter.response import gain_points
from codec2_eq.equalisers.equaliser import Equaliser
from codec2_eq.equalisers.state_file import FILTER_PREFIX
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import K, RateK

MOST_DB = 25.0
"""Most that is removed or added at a band."""

TARGET_DB = 37.5
LEVEL_TOLERANCE_DB = 6.5
"""Level of loud vowels, as `LevelControl` measures it, at which 700C works best behind the filter,
and how far from it speech is left as it is [dB]: 31 to 44 dB, 3.7 dB less on average over speech.
Louder speech reaches Codec 2's top energy step, quieter speech its lowest ones."""

LEVEL_RISE_DB_PER_S = 6.0
LEVEL_MEMORY_S = 5.0
LEVEL_NEW_VOICE_DB = 8.0
"""dB/s, s and dB of `LevelControl`."""

ACTIVE_DB = 20.0
"""Speech is within this of the loudest of late."""

ABOVE_NOISE_DB = 8.0
"""Speech is this much above the quietest frame of late: steady noise and hum are not."""

SILENCE_DB = 0.0
"""Mean of a frame of noise of a few quantisation steps; see `LevelControl`."""

PEAK_FALL_DB = 0.02
"""Fall of the maximum per frame while something sounds: a shout is forgotten in a minute."""

NOISE_SPAN = 32
"""Frames (1.3 s); the quietest is taken over one to two of them."""

LEVEL_STATE = FILTER_PREFIX + "level"
"""Name of the level within a state."""

FRAMES_ALONE = 50
GROUP = 4
"""Frames that the equaliser hears one by one (2 s), and how many at a time after that."""

LONGEST_PAUSE = 10
"""Frames of a pause that an equaliser hears, 0.4 s, as in its training; the rest is cut."""


class CurveFollower:
    """Follows the curve of an equaliser's stream, and the level, over one recording.

    equaliser : one whose stream has a curve;  level : "keep" or "auto"
    curve_db : (K,) dB, the curve being removed: the stream's, less its mean, within MOST_DB

    Raises Codec2EqError for an equaliser without a curve, or another level.
    """

    def __init__(self, equaliser: Equaliser, level: str) -> None:
        if level not in ("keep", "auto"):
            raise Codec2EqError(f"level {level!r}", "no such mode", "choose keep or auto")
        self._stream = equaliser.stream()
        if self._stream.curve_db is None:
            raise Codec2EqError(
                equaliser.name,
                "removes no curve that a filter could remove instead",
                "choose channel_eq, cmn or 700c",
            )
        self._control = LevelControl(
            TARGET_DB,
            tolerance_db=LEVEL_TOLERANCE_DB,
            rise_db_per_s=LEVEL_RISE_DB_PER_S,
            memory_s=LEVEL_MEMORY_S,
            new_voice_db=LEVEL_NEW_VOICE_DB,
        )
        self._auto = level == "auto"
        self._activity = _Activity()
        self._n_pause = 0
        self._n_heard = 0
        self._waiting: list[NDArray[np.float32]] = []
        self.curve_db = self._bounded_curve()

    def _hear(self, vector: NDArray[np.float32]) -> bool:
        """Give a frame (1, K) to the equaliser, later in groups; return whether it heard them.

        A group costs little more than a frame, and a curve that is known moves slowly.
        """
        self._n_heard += 1
        self._waiting.append(vector)
        if self._n_heard > FRAMES_ALONE and len(self._waiting) < GROUP:
            return False
        self._catch_up()
        return True

    def _catch_up(self) -> None:
        if self._waiting:
            self._stream.process(np.concatenate(self._waiting))
            self._waiting.clear()

    def gain_points(self) -> NDArray[np.float32]:
        """Return the gain that the filter is to have now, (N_POINTS,) dB."""
        level_db = self._control.gain_db if self._auto else 0.0
        return gain_points(self.curve_db[None], np.array([level_db]))[0]

    def process(self, frames: RateK) -> NDArray[np.float32]:
        """Hear the next frames of 40 ms; return the gains after each, (n, N_POINTS) dB."""
        curves = np.empty((len(frames), K), np.float32)
        for i, level_db in enumerate(frames.mean_db.tolist()):
            active = self._activity.hears_speech(level_db)
            self._n_pause = 0 if active else self._n_pause + 1
            heard = self._n_pause <= LONGEST_PAUSE and self._hear(frames.vectors[i : i + 1])
            if active and heard:
                self.curve_db = self._bounded_curve()
            curves[i] = self.curve_db
        levels_db = self._control.process(frames.mean_db, frames.voiced)
        return gain_points(curves, levels_db if self._auto else np.zeros(len(frames)))

    def _bounded_curve(self) -> NDArray[np.float32]:
        curve_db = np.asarray(self._stream.curve_db)
        return np.clip(curve_db - curve_db.mean(), -MOST_DB, MOST_DB)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what is known of the station: the equaliser's state, and the level's."""
        self._catch_up()
        return self._stream.state() | {LEVEL_STATE: self._control.state}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a `state`, or from that of the equaliser alone.

        Raises Codec2EqError if it is of another equaliser or damaged.
        """
        own = dict(state)
        level = own.pop(LEVEL_STATE, None)
        if level is not None:
            if np.shape(level) != self._control.state.shape or not np.isfinite(level).all():
                raise Codec2EqError("state", f"its {LEVEL_STATE} is damaged", "start afresh")
            self._control.state = level
        self._stream.restore(own)
        self.curve_db = self._bounded_curve()


class _Activity:
    """Detects speech frames by their level alone."""

    def __init__(self) -> None:
        self._peak_db = -np.inf
        self._quietest_before_db = self._quietest_db = np.inf
        self._n_in_span = 0

    def hears_speech(self, mean_db: float) -> bool:
        """Whether the next frame, of this level, is speech."""
        self._quietest_db = min(self._quietest_db, mean_db)
        noise_db = min(self._quietest_before_db, self._quietest_db)
        self._n_in_span += 1
        if self._n_in_span == NOISE_SPAN:
            self._quietest_before_db, self._quietest_db = self._quietest_db, np.inf
            self._n_in_span = 0
        if mean_db <= max(noise_db + ABOVE_NOISE_DB, SILENCE_DB):
            return False
        self._peak_db = max(self._peak_db - PEAK_FALL_DB, mean_db)
        return mean_db > self._peak_db - ACTIVE_DB
