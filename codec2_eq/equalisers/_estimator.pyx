# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recursion of the recursive estimator, frame after frame; ``network`` owns the weights.

A step is some 10,000 multiply-adds, far less work than the same in calls of NumPy. Sums run in
one fixed order in float32, as in ``affine``, so that a stream gives the bits of the whole file.
"""
from libc.math cimport expf, log1pf, logf, sqrtf
import numpy as np

# As in `keras_cell`, whose Keras cell this is held to.
DEF LEAK = 0.1  # slope of the hidden layers below zero
DEF UNIT_DB = 10  # the network's numbers are of this size
DEF LEVEL_FLOOR = -2  # least level under the peak that the network hears of, in its range


cdef void affine_row(const float* x, const float[:, ::1] kernel, const float[::1] bias,
                     float* out) noexcept nogil:
    cdef Py_ssize_t j, k, n_out = kernel.shape[1]
    cdef const float* weight
    cdef float value
    for j in range(n_out):
        out[j] = bias[j]
    for k in range(kernel.shape[0]):
        value = x[k]
        weight = &kernel[k, 0]
        for j in range(n_out):
            out[j] += value * weight[j]


cdef inline void leaky(float* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        x[j] = x[j] if x[j] > 0 else <float>LEAK * x[j]


cdef inline float within(float x, float most) noexcept nogil:
    return most if x > most else (-most if x < -most else x)


cdef inline float softplus(float x) noexcept nogil:
    return (x if x > 0 else 0) + log1pf(expf(-x if x > 0 else x))


def estimate(const float[:, ::1] vectors, float[:, ::1] out,
             float[::1] curve, float[::1] weight, float[::1] surprise, float[::1] peak,
             const float[::1] reference, const float[:, ::1] kernel1, const float[::1] bias1,
             const float[:, ::1] kernel2, const float[::1] bias2,
             const float[:, ::1] kernel3, const float[::1] bias3,
             const float[::1] start, float least_weight, float surprise_rate, float peak_fall_db,
             float level_range_db, float silence_db, float reach_db):
    """Equalise (n, K) vectors [dB] into `out`, the state in place.

    State: curve (K,) dB, its weight (K,) in frames, surprise (K,), peak (1,) dB. See `network`.
    """
    cdef Py_ssize_t i, k, n_bands = vectors.shape[1]
    cdef float mean, level, fresh, total, news, weights, shock, keep
    scratch = np.empty(n_bands + 3 + kernel1.shape[1] + kernel2.shape[1] + kernel3.shape[1],
                       np.float32)
    cdef float[::1] scratch_view = scratch
    cdef float* x = &scratch_view[0]
    cdef float* h1 = x + n_bands + 3
    cdef float* h2 = h1 + kernel1.shape[1]
    cdef float* o = h2 + kernel2.shape[1]
    with nogil:
        for i in range(vectors.shape[0]):
            mean = 0
            for k in range(n_bands):
                mean += vectors[i, k]
            mean = mean / n_bands
            peak[0] = peak[0] - peak_fall_db
            if mean > peak[0]:
                peak[0] = mean
            if peak[0] < silence_db:
                peak[0] = silence_db
            level = (mean - peak[0]) / level_range_db
            weights = 0
            shock = 0
            for k in range(n_bands):
                x[k] = within((vectors[i, k] - mean - curve[k]) / UNIT_DB - reference[k],
                              reach_db / UNIT_DB)
                weights += logf(weight[k])
                shock += surprise[k] * surprise[k]
            x[n_bands] = level if level > LEVEL_FLOOR else LEVEL_FLOOR
            x[n_bands + 1] = weights / n_bands / 2 - 1
            x[n_bands + 2] = 4 * sqrtf(shock / n_bands + <float>1e-6) - 1
            affine_row(x, kernel1, bias1, h1)
            leaky(h1, kernel1.shape[1])
            affine_row(h1, kernel2, bias2, h2)
            leaky(h2, kernel2.shape[1])
            affine_row(h2, kernel3, bias3, o)
            total = 0
            keep = 1 / (1 + expf(-o[3 * n_bands]))
            for k in range(n_bands):
                fresh = softplus(o[n_bands + k])
                news = within(x[k] + o[k], reach_db / UNIT_DB)
                surprise[k] += surprise_rate * (fresh / (1 + fresh)) * (news - surprise[k])
                weight[k] = keep * weight[k]
                if weight[k] < least_weight:
                    weight[k] = least_weight
                if weight[k] < fresh:
                    weight[k] = fresh
                weight[k] += fresh
                curve[k] += UNIT_DB * (fresh / weight[k]) * news
                curve[k] = start[k] + within(curve[k] - start[k], reach_db)
                out[i, k] = vectors[i, k] - mean - curve[k] - UNIT_DB * o[2 * n_bands + k]
                total += out[i, k]
            total = total / n_bands
            for k in range(n_bands):
                out[i, k] -= total
