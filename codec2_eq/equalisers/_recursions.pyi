# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
from numpy.typing import NDArray

def front_equaliser(
    shapes: NDArray[np.float32],
    eq: NDArray[np.float32],
    ideal: NDArray[np.float32],
    gain: float | np.float32,
) -> None: ...
def running_mean(
    shapes: NDArray[np.float32],
    mean_db: NDArray[np.float32],
    target: NDArray[np.float64],
    curve: NDArray[np.float64],
    scalars: NDArray[np.float64],
    *,
    keep: float,
    peak_fall_db: float,
    active_db: float,
    silence_db: float,
) -> None: ...
