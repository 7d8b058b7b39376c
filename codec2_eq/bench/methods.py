# SPDX-License-Identifier: LGPL-2.1-or-later
"""Methods that the bench compares: equalisers by name, and baselines that only it has."""

from __future__ import annotations

from functools import partial

from codec2_eq.bench.kalman import KalmanMean
from codec2_eq.bench.measures import Equalise
from codec2_eq.equalisers.equaliser import load_equaliser

TWO_PASSES = ":2"
BASELINES = {"kalman-cmn": KalmanMean.from_codebook}


def load_method(name: str) -> Equalise:
    """Whole-file call of an equaliser, by name or path, or of a baseline.

    "NAME:2" gives it two passes over each segment.
    Raises Codec2EqError for a name that is neither.
    """
    if name in BASELINES:
        return BASELINES[name]()
    if name.endswith(TWO_PASSES):
        return partial(load_equaliser(name.removesuffix(TWO_PASSES)), passes=2)
    return load_equaliser(name)
