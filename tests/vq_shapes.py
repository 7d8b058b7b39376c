# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vectors for the tests of the quantiser and its training."""

import numpy as np

from codec2_eq import vq

N_TRAIN = 4000


def shapes_of(rng: np.random.Generator, n: int, k: int = 20, scale: float = 8) -> np.ndarray:
    """Random vectors with neighbouring bands alike, of zero mean."""
    walk = np.cumsum(rng.normal(0, scale / 2, (n, k)), axis=1)
    return vq.zero_mean(walk.astype(np.float32))
