# SPDX-License-Identifier: LGPL-2.1-or-later
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

class Estimator:
    def __init__(
        self,
        reference: Floats,
        start: Floats,
        kernels: Sequence[Floats],
        biases: Sequence[Floats],
        *,
        leak: float,
        unit_db: float,
        level_floor: float,
        least_weight: float,
        surprise_rate: float,
        peak_fall_db: float,
        level_range_db: float,
        silence_db: float,
        reach_db: float,
        still_db: float,
    ) -> None: ...
    def run(
        self, vectors: Floats, state: Mapping[str, Floats], *, wide: bool = True
    ) -> tuple[Floats, dict[str, Floats]]: ...
