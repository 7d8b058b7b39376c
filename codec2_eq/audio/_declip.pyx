# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clipped samples by linear prediction from both sides, run by run."""

from libc.math cimport fabs

import numpy as np

from codec2_eq.audio.levels import CLIP
from codec2_eq.audio.pcm import FULL_SCALE

cdef enum:
    ORDER = 16  # of the prediction

cdef double LOWEST = CLIP, HIGHEST = FULL_SCALE
cdef double NOISE = 1e-4  # white, of the power: a prediction that stays well conditioned
cdef double MOST = 2  # times the clipped sample: what 6 dB too loud has lost


def restore(float[::1] samples, Py_ssize_t start, *, Py_ssize_t back, Py_ssize_t ahead,
            Py_ssize_t longest):
    """Restore clipped runs from `start` on in place; return where what is settled ends.

    samples : int16 scale, `back` or more of them before `start`
    back, ahead : samples on either side of a run that it is predicted from, at least ORDER
    longest : run that is restored
    """
    cdef double[::1] room = np.empty(back + 4 * longest + ahead + ORDER + 1)
    cdef Py_ssize_t end, i = start, n = samples.shape[0]
    while i < n:
        end = i
        while end < n and clipped(samples[end]):
            end += 1
        # A clipped sample before it is of a longer run, whose start was handed on.
        if i < end <= i + longest and not clipped(samples[i - 1]):
            if end + ahead > n:
                return i
            # Floats beyond full scale are not clipped.
            if fabs(samples[i - 1]) < LOWEST and fabs(samples[end]) < LOWEST:
                predict(&samples[i], end - i, back, ahead, &room[0])
        i = end + 1
    return n


cdef inline bint clipped(float sample) noexcept nogil:
    return LOWEST <= fabs(sample) <= HIGHEST


cdef void predict(float* run, Py_ssize_t n, Py_ssize_t back, Py_ssize_t ahead,
                  double* room) noexcept nogil:
    """Replace a run by what leaves the least error of prediction, but no smaller than it was.

    The predictor is that of the samples around, under a parabolic window. The error is least where
    each sample and its neighbours, weighted by the predictor's autocorrelation, add up to 0.
    """
    cdef double[ORDER + 1] power, predictor
    cdef double[ORDER] scratch
    cdef double* sums = room
    cdef double* found = sums + n
    cdef double* weights = found + n
    cdef double* windowed = weights + n + ORDER + 1
    cdef Py_ssize_t i, k, length = back + n + ahead
    cdef double place
    for i in range(length):
        place = (2.0 * i + 1 - length) / length
        windowed[i] = run[i - back] * (1 - place * place)
    correlate(windowed, length, power)
    power[0] *= 1 + NOISE
    predictor[0] = -1
    solve(power, power + 1, predictor + 1, scratch, ORDER)
    correlate(predictor, ORDER + 1, weights)
    for i in range(n):
        weights[ORDER + 1 + i] = sums[i] = 0
        for k in range(1, ORDER + 1):
            if i - k < 0:
                sums[i] -= weights[k] * run[i - k]
            if i + k >= n:
                sums[i] -= weights[k] * run[i + k]
    solve(weights, sums, found, windowed, n)
    for i in range(n):
        run[i] = <float>(run[i] * max(1.0, min(MOST, found[i] / run[i])))


cdef void correlate(const double* x, Py_ssize_t n, double* lags) noexcept nogil:
    """Autocorrelation of (n,) at lags from 0 to ORDER."""
    cdef Py_ssize_t i, k
    for k in range(ORDER + 1):
        lags[k] = 0
        for i in range(k, n):
            lags[k] += x[i] * x[i - k]


cdef void solve(const double* lags, const double* right, double* found, double* first,
                Py_ssize_t n) noexcept nogil:
    """Solve the symmetric Toeplitz system of n lags by Levinson's recursion.

    first : room for n, the solution for (error, 0, …, 0) so far; reversed, for (0, …, 0, error)
    """
    cdef Py_ssize_t i, k
    cdef double error = lags[0], turn, left, low, high
    first[0] = 1
    found[0] = right[0] / error
    for k in range(1, n):
        turn = 0
        left = right[k]
        for i in range(k):
            turn -= lags[k - i] * first[i] / error
            left -= lags[k - i] * found[i]
        first[k] = 0
        for i in range(k // 2 + 1):
            low, high = first[i], first[k - i]
            first[i] = low + turn * high
            first[k - i] = high + turn * low
        error *= 1 - turn * turn
        found[k] = 0
        for i in range(k + 1):
            found[i] += left / error * first[k - i]
