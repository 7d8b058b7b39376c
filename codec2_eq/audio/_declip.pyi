# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
from numpy.typing import NDArray

def restore(
    samples: NDArray[np.float32], start: int, *, back: int, ahead: int, longest: int
) -> int: ...
