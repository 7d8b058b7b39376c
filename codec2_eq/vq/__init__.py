# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vector quantisation: m-best search, codebooks and their training.

Names are imported when first used; the defaults stand here, because they must cost no import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codec2_eq.vq.codebooks import (
        SEARCHABLE_DB,
        check_codebook,
        load_codebook,
        load_codebooks,
        save_codebook,
    )
    from codec2_eq.vq.index_file import IndexWriter
    from codec2_eq.vq.quantiser import MEAN_TOLERANCE_DB, Quantiser, VqStatistics, zero_mean

SURVIVORS = 5
"""Sums kept from stage to stage in a search; codec2 NEWAMP1_VQ_MBEST_DEPTH."""

ITERATIONS = 20
"""Passes over all vectors in the training of a stage."""

TRAINING_SURVIVORS = 1
"""Survivors of the search whose residuals a stage is trained on; 1 takes the nearest entries."""

SEED = 0
"""Start of the random numbers of a training."""

_HOME = {
    "codebooks": (
        "SEARCHABLE_DB",
        "check_codebook",
        "load_codebook",
        "load_codebooks",
        "save_codebook",
    ),
    "index_file": ("IndexWriter",),
    "quantiser": ("MEAN_TOLERANCE_DB", "Quantiser", "VqStatistics", "zero_mean"),
}

__all__ = [
    "ITERATIONS",
    "IndexWriter",
    "MEAN_TOLERANCE_DB",
    "Quantiser",
    "SEARCHABLE_DB",
    "SEED",
    "SURVIVORS",
    "TRAINING_SURVIVORS",
    "VqStatistics",
    "check_codebook",
    "load_codebook",
    "load_codebooks",
    "save_codebook",
    "zero_mean",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"codec2_eq.vq.{module}"), name)
    raise AttributeError(f"module 'codec2_eq.vq' has no attribute {name!r}")
