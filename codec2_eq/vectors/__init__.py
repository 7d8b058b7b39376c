# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of vectors: .f32, .npy and .npz, read and written as streams."""

from codec2_eq.vectors.reader import VectorReader, read_vectors, stream_vectors
from codec2_eq.vectors.record import FORMATS, VectorRecord, vector_format
from codec2_eq.vectors.writer import VectorWriter

__all__ = [
    "FORMATS",
    "VectorReader",
    "VectorRecord",
    "VectorWriter",
    "read_vectors",
    "stream_vectors",
    "vector_format",
]
