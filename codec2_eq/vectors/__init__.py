# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of vectors: .f32, .npy and .npz, read and written as streams."""

from codec2_eq.vectors.reader import (
    FORMATS,
    VectorRecord,
    VectorWriter,
    read_record,
    read_vectors,
    stream_records,
    stream_vectors,
    vector_format,
)

__all__ = [
    "FORMATS",
    "VectorRecord",
    "VectorWriter",
    "read_record",
    "read_vectors",
    "stream_records",
    "stream_vectors",
    "vector_format",
]
