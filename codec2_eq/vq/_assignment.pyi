# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
from numpy.typing import NDArray

def add_assigned(
    targets: NDArray[np.float32],
    chosen: NDArray[np.int64],
    entries: NDArray[np.float32],
    limits: NDArray[np.float64],
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    errors: NDArray[np.float64],
    outliers: NDArray[np.int64],
) -> None: ...
