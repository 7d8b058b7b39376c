# SPDX-License-Identifier: LGPL-2.1-or-later
"""The 6-bit pitch code of 700C, compiled because only libm's log10f rounds as libcodec2 does."""

from libc.math cimport floorf, log10f
from libc.stdint cimport uint8_t

import numpy as np

from codec2_eq.codec2 cimport LONGEST_PERIOD, SHORTEST_PERIOD, TWO_PI

cdef int LEVELS = 64            # 6 bits; codec2 newamp1
cdef float WO_MIN = <float>(TWO_PI / LONGEST_PERIOD)
cdef float WO_MAX = <float>(TWO_PI / SHORTEST_PERIOD)


def encode_pitch(const float[::1] wo, voiced):
    """Return the pitch code of each frame, (n,) uint8: 0 if unvoiced, else 1..63.

    wo : (n,) rad/sample;  voiced : (n,) bool
    Source: Codec 2, encode_log_Wo: the logarithmic scale from a period of 160 samples to one of
    20, rounded; a voiced frame that gets 0 takes 1, as 0 says unvoiced.
    """
    cdef Py_ssize_t n = wo.shape[0], i
    cdef const uint8_t[::1] is_voiced = np.ascontiguousarray(voiced, dtype=np.uint8)
    codes = np.zeros(n, dtype=np.uint8)
    cdef uint8_t[::1] out = codes
    cdef float low = log10f(WO_MIN), span = log10f(WO_MAX) - log10f(WO_MIN), norm
    cdef int code
    with nogil:
        for i in range(n):
            if not is_voiced[i]:
                continue
            norm = (log10f(wo[i]) - low) / span
            code = <int>floorf(<float>(<double>(LEVELS * norm) + 0.5))
            out[i] = min(max(code, 1), LEVELS - 1)
    return codes
