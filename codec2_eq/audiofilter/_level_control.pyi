from typing import Any

import numpy as np
from numpy.typing import NDArray

TARGET_DB: float

class LevelControl:
    gain_db: float
    state: NDArray[Any]
    def __init__(
        self,
        target_db: float = ...,
        *,
        memory_s: float = ...,
        rise_db_per_s: float = ...,
        enough: float = ...,
        tolerance_db: float = ...,
        new_voice_db: float = ...,
        weight_db: float = ...,
        first_above_noise_db: float = ...,
        far_above_noise_db: float = ...,
        follow: float = ...,
    ) -> None: ...
    def process(
        self, energy_db: NDArray[np.floating], voiced: NDArray[np.bool_]
    ) -> NDArray[np.float64]: ...
