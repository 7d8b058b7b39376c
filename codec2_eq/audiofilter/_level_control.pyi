from typing import Any

import numpy as np
from numpy.typing import NDArray

class LevelControl:
    gain_db: float
    state: NDArray[Any]
    def __init__(
        self,
        target_db: float,
        *,
        tolerance_db: float,
        rise_db_per_s: float,
        memory_s: float = ...,
        new_voice_db: float = ...,
        step: int = ...,
    ) -> None: ...
    def process(
        self, energy_db: NDArray[np.floating], voiced: NDArray[np.bool_]
    ) -> NDArray[np.float64]: ...
