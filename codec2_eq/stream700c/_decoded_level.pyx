# SPDX-License-Identifier: LGPL-2.1-or-later
"""The power of a decoded 700C frame, compiled; `codec2_eq.stream700c.level` has the tables it works with."""

from libc.math cimport exp2f, log10f
from libc.stdint cimport int32_t, uint8_t

import numpy as np

from codec2_eq.codec2 cimport K

cdef enum:
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


cdef float harmonics_power(const float *points, int n_harmonics, const int32_t *first_points,
                           const float *weights) noexcept nogil:
    cdef float power = 0
    cdef const float *w
    cdef const float *p
    cdef int m
    for m in range(n_harmonics):
        w = weights + 3 * m
        p = points + first_points[m]
        power += exp2f(OCTAVES_PER_DB * (w[0] * p[0] + w[1] * p[1] + w[2] * p[2]))
    return power


def filter_shapes(const float[:, ::1] shapes, const float[::1] emphasis_db, float gain):
    """Return the shapes after the post filter, (n, 20) float32 dB; see `frame_levels`."""
    filtered = np.empty((shapes.shape[0], K), dtype=np.float32)
    cdef float[:, ::1] out = filtered
    cdef Py_ssize_t i
    with nogil:
        for i in range(shapes.shape[0]):
            post_filter(&shapes[i, 0], &emphasis_db[0], gain, &out[i, 0])
    return filtered


def frame_levels(const float[:, ::1] filtered, const float[::1] means, const uint8_t[::1] codes,
                 const int32_t[::1] n_harmonics, const int32_t[:, ::1] first_points,
                 const float[:, :, ::1] weights):
    """Return the power sums of the harmonics, (n,) float32 in dB.

    filtered : (n, 20) dB, after the post filter;  means : (n,) dB
    codes : (n,) rows of the tables
    n_harmonics : (codes,);  first_points : (codes, most harmonics)
    weights : (codes, most harmonics, 3) of three points from the first on
    """
    cdef Py_ssize_t n = filtered.shape[0], i
    cdef int k
    cdef float points[POINTS]
    levels = np.empty(n, dtype=np.float32)
    cdef float[::1] out = levels
    points[0] = points[POINTS - 1] = 0
    with nogil:
        for i in range(n):
            for k in range(K):
                points[k + 1] = filtered[i, k] + means[i]
            out[i] = 10 * log10f(harmonics_power(points, n_harmonics[codes[i]],
                                                 &first_points[codes[i], 0],
                                                 &weights[codes[i], 0, 0]))
    return levels
