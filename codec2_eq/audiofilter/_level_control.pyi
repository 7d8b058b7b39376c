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
        memory_s: float = ...,
        rise_db_per_s: float = ...,
        rise_at_once: bool = ...,
        enough: float = ...,
        tolerance_db: float = ...,
        new_voice_db: float = ...,
        above_noise_db: float = ...,
        far_above_noise_db: float = ...,
        step: int = ...,
        guess: bool = ...,
    ) -> None: ...
    def process(
        self, energy_db: NDArray[np.floating], voiced: NDArray[np.bool_]
    ) -> NDArray[np.float64]: ...
