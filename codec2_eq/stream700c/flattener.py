# SPDX-License-Identifier: LGPL-2.1-or-later
"""Equalising before the floor of rate K.

Rate K raises every harmonic to 50 dB below the frame's loudest. Through a boomy microphone that
floor covers the treble, and no equaliser of vectors brings it back. So the curve that an equaliser
removes from the vector is removed from the harmonics, before they are floored.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import rate_k_less_curves
from codec2_eq.equalisers.stream import EqualiserStream
from codec2_eq.records import RateK, remove_mean


def flatten(frames: RateK, stream: EqualiserStream, step: int) -> RateK:
    """Equalise frames, means kept.

    frames : n of a multiple of `step`; those without `harmonics_db` are equalised as vectors, after
        their floor
    stream : of an equaliser of frames 40 ms apart
    step : frames to 40 ms: 1 or 4. What is taken off the last of them is taken off all.
    """
    picked = frames[step - 1 :: step]
    equalised = remove_mean(stream.process(picked.vectors))[1]
    taken = picked.vectors - picked.mean_db[:, None] - equalised
    if frames.harmonics_db is None:
        vectors = frames.vectors - np.repeat(taken, step, axis=0)
        mean_db = remove_mean(vectors)[0]
    else:
        vectors, mean_db = rate_k_less_curves(frames.harmonics_db, frames.wo, frames.n_harm, taken)
    return replace(frames, vectors=vectors, mean_db=mean_db, harmonics_db=None)


def equalise_before_floor(frames: RateK, stream: EqualiserStream) -> NDArray[np.float32]:
    """Return the shapes (n, K) of frames with `harmonics_db`, dB, equalised before their floor."""
    return remove_mean(flatten(frames, stream, 1).vectors)[1]
