from typing import Any

import numpy as np
from numpy.typing import NDArray

TARGET_DB: float

class LevelControl:
    gain_db: float
    def process(
        self, energy_db: NDArray[np.floating[Any]], voiced: NDArray[np.bool_]
    ) -> NDArray[np.float64]: ...
