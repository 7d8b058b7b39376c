# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a file of vectors holds of its frames, and in which formats."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, is_pipe, is_stdout

FORMATS = ("f32", "npy", "npz")

READ_FORMATS = (*FORMATS, "mlfeat")
"""Those that are read: the records of c2enc are written by `extract` alone."""

COLUMNS = {"vectors": "<f4", "mean_db": "<f4", "f0_hz": "<f4", "voiced": "|b1"}
"""Arrays of one row a frame in .npz, and their types."""


@dataclass(frozen=True, eq=False)
class VectorRecord:
    """Consecutive vectors as a file holds them; what it does not hold is None.

    vectors : (n, K) float32, dB
    mean_db : (n,) float32, dB; f0_hz : (n,) float32, Hz; voiced : (n,) bool
    """

    vectors: NDArray[np.float32]
    mean_db: NDArray[np.float32] | None = None
    f0_hz: NDArray[np.float32] | None = None
    voiced: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.vectors)


def vector_format(path: PathLike, format: str | None = None) -> str:
    """Return the format of a vector file: that of its suffix, else as asked for, f32 on a pipe.

    "mlfeat" is taken as asked for whatever the suffix, since what c2enc writes is often named .f32.

    Raises Codec2EqError on an unknown format or suffix.
    """
    if format not in (None, *READ_FORMATS):
        raise Codec2EqError(f"format {format!r}", f"expected one of {', '.join(READ_FORMATS)}")
    if format == "mlfeat":
        return format
    suffix = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    if suffix in READ_FORMATS:
        return suffix
    if format is not None:
        return format
    if os.fspath(path) == "-" or is_pipe(path) or is_stdout(path):
        return "f32"
    raise Codec2EqError(
        os.fspath(path),
        f"suffix '.{suffix}' names no vector format"
        if suffix
        else "has no suffix to name a format",
        "use .f32, .npy or .npz, or pass --format",
    )
