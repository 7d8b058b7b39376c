# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vector quantisation: m-best search, codebooks and their training."""

from codec2_eq.vq.codebooks import (
    SEARCHABLE_DB,
    check_codebook,
    load_codebook,
    load_codebooks,
    save_codebook,
)
from codec2_eq.vq.index_file import IndexWriter
from codec2_eq.vq.quantiser import (
    MEAN_TOLERANCE_DB,
    SURVIVORS,
    Quantiser,
    VqStatistics,
    zero_mean,
)

__all__ = [
    "IndexWriter",
    "MEAN_TOLERANCE_DB",
    "Quantiser",
    "SEARCHABLE_DB",
    "SURVIVORS",
    "VqStatistics",
    "check_codebook",
    "load_codebook",
    "load_codebooks",
    "save_codebook",
    "zero_mean",
]
