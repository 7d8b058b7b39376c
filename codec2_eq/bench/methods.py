# SPDX-License-Identifier: LGPL-2.1-or-later
"""Methods that the bench compares: equalisers by name, and baselines that only it has."""

from __future__ import annotations

from codec2_eq.bench.kalman import KalmanMean
from codec2_eq.bench.measures import Equalise
from codec2_eq.equalisers.equaliser import load_equaliser

BASELINES = {"kalman-cmn": KalmanMean.from_codebook}


def load_method(name: str) -> Equalise:
    """Whole-file call of an equaliser, by name or path, or of a baseline.

    Raises Codec2EqError for a name that is neither.
    """
    return BASELINES[name]() if name in BASELINES else load_equaliser(name)
