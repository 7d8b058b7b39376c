import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

def filter_shapes(shapes: Floats, emphasis_db: Floats, gain: float) -> Floats: ...
def frame_levels(
    filtered: Floats,
    means: Floats,
    codes: NDArray[np.uint8],
    n_harmonics: NDArray[np.int32],
    first_points: NDArray[np.int32],
    weights: Floats,
) -> Floats: ...
