# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of ``c2enc 700C --mlfeat``, read as vectors with their energies.

A record describes 40 ms: the mean in dB, the 20 values of the shape, the 20 of the quantised shape,
and 160 amplitudes. Records of older versions have no amplitudes. Files do not state which they
hold, so it is inferred from the values where a second short record would have its quantised shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import MAX_AMP, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_bytes

SHORT_FLOATS = 1 + K + K
"""Mean, shape, quantised shape."""

RECORD_FLOATS = SHORT_FLOATS + MAX_AMP
"""With amplitudes; codec2 codec2_encode_700c."""

_LEAST_SPREAD_DB = 0.5
"""Any quantised shape has more, but amplitudes of silence in its place do not."""

_MOST_MEAN = 0.1
"""Of a quantised shape's mean, in parts of its spread: it has none, amplitudes have."""


def read_records(
    handle: IO[bytes], name: str, block_rows: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield means (n,) dB and vectors (n, K) dB, mean included, of up to block_rows records.

    The shapes are those that the encoder quantised: equalised ones if it ran with ``--eq``.
    Raises Codec2EqError if the file cannot be read or ends within a record.
    """
    head = read_bytes(handle, name, 4 * RECORD_FLOATS)
    n_floats = _record_floats(head)
    data = head + read_bytes(handle, name, -len(head) % (4 * n_floats))
    while data:
        left_over = len(data) % (4 * n_floats)
        if left_over:
            raise Codec2EqError(
                name,
                f"ends {left_over} bytes into a record of {n_floats} float32",
                "is it cut, or of another format?",
            )
        records = np.frombuffer(data, "<f4").reshape(-1, n_floats).astype(np.float32)
        means = records[:, 0].copy()
        with np.errstate(over="ignore", invalid="ignore"):  # the caller reports what is not finite
            yield means, records[:, 1 : 1 + K] + means[:, None]
        data = read_bytes(handle, name, 4 * n_floats * block_rows)


def _record_floats(head: bytes) -> int:
    """Return the floats of a record by the first bytes of a file."""
    if len(head) < 4 * RECORD_FLOATS:
        return SHORT_FLOATS
    floats = np.frombuffer(head, "<f4").astype(np.float64)
    second = floats[SHORT_FLOATS:][1 + K : SHORT_FLOATS]
    with np.errstate(over="ignore", invalid="ignore"):
        spread, mean = second.std(), second.mean()
        short = spread > _LEAST_SPREAD_DB and abs(mean) < _MOST_MEAN * spread
    return SHORT_FLOATS if short else RECORD_FLOATS
