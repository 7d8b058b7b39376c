import numpy as np
from numpy.typing import NDArray

def encode_pitch(wo: NDArray[np.float32], voiced: NDArray[np.bool_]) -> NDArray[np.uint8]: ...
