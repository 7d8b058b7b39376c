# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vectors for the tests, and a short way to write them to files."""

import numpy as np

from codec2_eq.records import K
from codec2_eq.vectors import VectorWriter


def frames(n_frames, seed=0):
    rng = np.random.default_rng(seed)
    return (30 + 20 * rng.standard_normal((n_frames, K))).astype(np.float32)


def write(path, *blocks, **options):
    with VectorWriter(path, **options) as writer:
        for block in blocks:
            if isinstance(block, np.ndarray):
                writer.write(block)
            else:
                writer.write(block.vectors, block)
    return writer
