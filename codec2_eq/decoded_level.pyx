# SPDX-License-Identifier: LGPL-2.1-or-later
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The power of a decoded 700C frame, compiled; `codec2_eq.level` has the tables it works with."""

from libc.math cimport exp2f, log10f
from libc.stdint cimport int32_t, uint8_t

import numpy as np

cdef enum:
    K = 20
    POINTS = K + 2  # the bands, between the fixed points at 0 and 4 kHz

cdef float OCTAVES_PER_DB = 0.33219280948873623  # log2(10) / 10, to power


cdef void post_filter(const float *shape, const float *emphasis_db, float gain,
                      float *out) noexcept nogil:
    """Raise formants and lower valleys, keeping the power of the pre-emphasised spectrum."""
    cdef float before = 0, after = 0, value, correction_db
    cdef int k
    for k in range(K):
        value = shape[k] + emphasis_db[k]
        out[k] = gain * value
        before += exp2f(OCTAVES_PER_DB * value)
        after += exp2f(OCTAVES_PER_DB * out[k])
    correction_db = 10 * log10f(after / before)
    for k in range(K):
        out[k] -= correction_db + emphasis_db[k]


def frame_levels(const float[:, ::1] shapes, const float[::1] means, const uint8_t[::1] codes,
                 const float[::1] emphasis_db, float gain, const int32_t[::1] n_harmonics,
                 const int32_t[:, ::1] first_points, const float[:, :, ::1] weights):
    """Return the power sums of the harmonics, (n,) float32 in dB.

    shapes : (n, 20) dB;  means : (n,) dB;  codes : (n,) rows of the tables
    emphasis_db : (20,) and gain of the post filter
    n_harmonics : (codes,);  first_points : (codes, most harmonics)
    weights : (codes, most harmonics, 3) of three points from the first on
    """
    cdef Py_ssize_t n = shapes.shape[0], i
    cdef int m, k, code
    cdef const float *w
    cdef const float *p
    cdef float points[POINTS]
    cdef float power
    levels = np.empty(n, dtype=np.float32)
    cdef float[::1] out = levels
    points[0] = points[POINTS - 1] = 0
    with nogil:
        for i in range(n):
            post_filter(&shapes[i, 0], &emphasis_db[0], gain, points + 1)
            for k in range(1, K + 1):
                points[k] += means[i]
            code = codes[i]
            power = 0
            for m in range(n_harmonics[code]):
                w = &weights[code, m, 0]
                p = points + first_points[code, m]
                power += exp2f(OCTAVES_PER_DB * (w[0] * p[0] + w[1] * p[1] + w[2] * p[2]))
            out[i] = 10 * log10f(power)
    return levels
