# SPDX-License-Identifier: LGPL-2.1-or-later
"""One loudness for sounds that are compared: none wins by being louder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import FULL_SCALE, to_s16
from codec2_eq.codec2.library import SAMPLES_PER_FRAME

LEVEL_DBFS = -26.0
"""Active speech level, dB of full scale; that of ITU-T's tests."""


def active_level_dbfs(samples: NDArray[Any], active: NDArray[np.bool_]) -> float:
    """Level of the frames of 40 ms that hold speech; samples may be longer than the frames."""
    n_frames = min(len(active), len(samples) // SAMPLES_PER_FRAME)
    frames = samples[: n_frames * SAMPLES_PER_FRAME].reshape(n_frames, -1)[active[:n_frames]]
    power = np.mean(np.square(frames / FULL_SCALE)) if len(frames) else 0.0
    return float(10 * np.log10(power + 1e-12))


def at_one_level(
    samples: NDArray[Any], active: NDArray[np.bool_], level_dbfs: float = LEVEL_DBFS
) -> NDArray[np.int16]:
    """Return 8 kHz samples (int16 scale) brought to a level of active speech, and clipped."""
    gain = 10 ** ((level_dbfs - active_level_dbfs(samples, active)) / 20)
    return to_s16(samples * gain)
