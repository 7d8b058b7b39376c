# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
from numpy.typing import NDArray

def affine(
    rows: NDArray[np.float32], kernel: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]: ...
