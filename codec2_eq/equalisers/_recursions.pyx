# SPDX-License-Identifier: LGPL-2.1-or-later
"""The equalisers' recursions over frames, where each frame needs the one before.

They work in place on shapes and state; ``equalise`` owns both and checks them.
"""


def front_equaliser(float[:, ::1] shapes, float[::1] eq, const float[::1] ideal, float gain):
    """Codec 2's front equaliser: subtract the slow excess of each band over the ideal.

    shapes : (n, K) float32 dB, replaced by the equalised ones.
    eq : (K,) float32 dB, the estimate, carried from call to call; starts at 0.
    ideal : (K,) float32 dB. gain : share of the new frame in the estimate.
    As libcodec2 rounds: a float32 product for the new frame, double for the old estimate
    and the sum, float32 on assignment.
    Source: Codec 2 700C (newamp1).
    """
    cdef Py_ssize_t i, k
    cdef double keep = 1.0 - <double>gain
    cdef float update
    with nogil:
        for i in range(shapes.shape[0]):
            for k in range(shapes.shape[1]):
                update = gain * (shapes[i, k] - ideal[k])
                eq[k] = <float>(keep * <double>eq[k] + <double>update)
                if eq[k] < 0.0:
                    eq[k] = 0.0
                shapes[i, k] = shapes[i, k] - eq[k]


def running_mean(float[:, ::1] shapes, const float[::1] mean_db, const double[::1] target,
                 double[::1] curve, double[::1] scalars, double keep, double peak_fall_db,
                 double active_db, double silence_db):
    """Running spectral mean of the active frames, drawn towards a target.

    shapes : (n, K) float32 dB, replaced by shape - curve, its mean removed again.
    mean_db : (n,) float32, the frames' levels. target : (K,) dB, what the mean should be.
    curve : (K,) dB, the estimate, and scalars : [weight in frames, peak level in dB], both
    carried from call to call.
    A frame is active above the peak - active_db and above silence_db; the peak falls by
    peak_fall_db a frame. keep : share of the old weight kept at each active frame.
    """
    cdef Py_ssize_t i, k, n_bands = shapes.shape[1]
    cdef double weight = scalars[0], peak = scalars[1], level, mean
    with nogil:
        for i in range(shapes.shape[0]):
            level = mean_db[i]
            peak = peak - peak_fall_db
            if level > peak:
                peak = level
            if level > peak - active_db and level > silence_db:
                weight = keep * weight + 1.0
                for k in range(n_bands):
                    curve[k] += (shapes[i, k] - target[k] - curve[k]) / weight
            mean = 0.0
            for k in range(n_bands):
                mean += shapes[i, k] - curve[k]
            mean = mean / n_bands
            for k in range(n_bands):
                shapes[i, k] = <float>(shapes[i, k] - curve[k] - mean)
    scalars[0] = weight
    scalars[1] = peak
