# SPDX-License-Identifier: LGPL-2.1-or-later
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FILLER: np.float32

def group_entries(codebook: NDArray[np.float32]) -> NDArray[np.float32]: ...
def search(
    vectors: NDArray[np.float32],
    codebooks: Sequence[NDArray[np.float32]],
    grouped: Sequence[NDArray[np.float32]],
    survivors: int,
    *,
    wide: bool = True,
) -> NDArray[np.int32]: ...
