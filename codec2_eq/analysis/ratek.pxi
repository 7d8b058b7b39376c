# SPDX-License-Identifier: LGPL-2.1-or-later
# Rate L to rate K: harmonic amplitudes resampled to mel-spaced bands, in dB.
# And back, as the decoder does.
# Source: codec2 newamp1.c (mel_sample_freqs_kHz, resample_const_rate_f, resample_rate_L, interp_para).

import numpy as np

cdef extern from *:
    """
    /* Centres of the bands [kHz]: equal steps from 283 to 2072 mel, 199.8 to 3701.06 Hz (codec2
     * rounds the edges to whole mels), by exp10f of glibc. Constants, since libraries differ in
     * the last bit of exp10f and some have none. Nine digits tell floats apart. */
    static const float BAND_KHZ[20] = {
        0.199816406f, 0.278223902f, 0.363463581f, 0.456130773f, 0.556872904f,
        0.666393161f, 0.785456896f, 0.914895415f, 1.05561280f, 1.20859206f,
        1.37490141f, 1.55570281f, 1.75225854f, 1.96594167f, 2.19824457f,
        2.45078945f, 2.72534037f, 3.02381516f, 3.34829855f, 3.70105624f,
    };
    """
    const float BAND_KHZ[BANDS]

cdef extern from *:
    """
    /* glibc's exp10f is what the reference uses; it is not the correctly rounded value, and other
     * libraries have none. */
    #ifdef __GLIBC__
    extern float exp10f(float x);
    #define POWER_OF_10 exp10f
    #else
    #define POWER_OF_10(x) ((float)exp(2.302585092994045684 * (x)))
    #endif
    """
    float power_of_10 "POWER_OF_10"(float x) nogil

cdef enum:
    N_ENDED = BANDS + 2                   # the bands, and 0 dB at 0 and 4 kHz

cdef double DYNAMIC_RANGE_DB = 50.0       # bands further below the peak are raised to it


cdef inline void to_db(const float *amp, int n_harm, float *amp_db) noexcept nogil:
    """Amplitudes 1..n_harm in dB (from index 0)."""
    cdef int m
    for m in range(n_harm):
        amp_db[m] = <float>(20.0 * log10f(<float>(amp[m + 1] + 1e-16)))


cdef inline void raise_to_floor(float *amp_db, int n_harm) noexcept nogil:
    """Raise harmonics to 50 dB below their peak."""
    cdef float peak = -100
    cdef float floor_db
    cdef int m
    for m in range(n_harm):
        if amp_db[m] > peak:
            peak = amp_db[m]
    floor_db = <float>(peak - DYNAMIC_RANGE_DB)
    for m in range(n_harm):
        if amp_db[m] < floor_db:
            amp_db[m] = floor_db


cdef inline void resample_to_rate_k(
    const float *amp_db, float wo, int n_harm, float *vector
) noexcept nogil:
    """Parabolas through three neighbouring harmonics each, read at the bands' centres."""
    cdef float x[MAX_HARMONICS]
    cdef float x1, x2, x3, y2, slope12, slope23, a, b, f
    cdef int m, k, i = 0
    for m in range(n_harm):
        x[m] = <float>(<float>((m + 1) * wo) * 4.0 / TRUE_PI)
    for k in range(BANDS):
        f = BAND_KHZ[k]
        while x[i + 1] < f and i < n_harm - 3:
            i += 1
        x1 = x[i]
        x2 = x[i + 1]
        x3 = x[i + 2]
        y2 = amp_db[i + 1]
        slope12 = (y2 - amp_db[i]) / (x2 - x1)
        slope23 = (amp_db[i + 2] - y2) / (x3 - x2)
        a = (slope23 - slope12) / (x3 - x1)
        b = (slope23 * (x2 - x1) + slope12 * (x3 - x2)) / (x3 - x1)
        vector[k] = a * (f - x2) * (f - x2) + b * (f - x2) + y2


cdef inline float mean_of_bands(const float *vector) noexcept nogil:
    cdef float mean = 0
    cdef int k
    for k in range(BANDS):
        mean += vector[k]
    return mean / BANDS


cdef void subtract_curve(
    const float *harmonics_db, float wo, int n_harm, const float *curve_db, float *amp_db
) noexcept nogil:
    """Take off a curve, straight lines between the bands and constant beyond the outermost."""
    cdef float khz_per_harmonic = <float>(wo * 4.0 / TRUE_PI)
    cdef float khz, share
    cdef int m, k = 0
    for m in range(n_harm):
        khz = (m + 1) * khz_per_harmonic
        while k < BANDS - 2 and BAND_KHZ[k + 1] < khz:
            k += 1
        share = (khz - BAND_KHZ[k]) / (BAND_KHZ[k + 1] - BAND_KHZ[k])
        share = min(max(share, <float>0), <float>1)
        amp_db[m] = harmonics_db[m] - ((1 - share) * curve_db[k] + share * curve_db[k + 1])


def rate_k_less_curves(
    const float[:, ::1] harmonics_db, const float[::1] wo, const int[::1] n_harm,
    const float[:, ::1] curves_db,
):
    """Take curves off harmonics, then go on as the analysis does: floor, and rate K.

    harmonics_db : (n, MAX_HARMONICS) of `Analyser.process`;  wo, n_harm : (n,)
    curves_db : (m, 20) dB at the bands, each taken off n / m frames
    Returns vectors (n, 20) and mean_db (n,), float32 dB.
    """
    cdef Py_ssize_t n = harmonics_db.shape[0], i
    cdef Py_ssize_t step = n // max(curves_db.shape[0], 1)
    cdef float amp_db[MAX_HARMONICS]
    vectors = np.empty((n, BANDS), np.float32)
    mean_db = np.empty(n, np.float32)
    cdef float[:, ::1] vectors_view = vectors
    cdef float[::1] mean_view = mean_db
    with nogil:
        for i in range(n):
            subtract_curve(&harmonics_db[i, 0], wo[i], n_harm[i], &curves_db[i // step, 0], amp_db)
            raise_to_floor(amp_db, n_harm[i])
            resample_to_rate_k(amp_db, wo[i], n_harm[i], &vectors_view[i, 0])
            mean_view[i] = mean_of_bands(&vectors_view[i, 0])
    return vectors, mean_db


cdef void resample_to_rate_l(
    const float *ended_khz, const float *ended_db, float wo, int n_harm, float *amp
) noexcept nogil:
    """Parabolas through three neighbouring bands each, read at the harmonics."""
    cdef float x1, x2, x3, y2, slope12, slope23, a, b, f, amp_db
    cdef int m, i = 0
    for m in range(n_harm):
        f = <float>(<float>((m + 1) * wo) * 4.0 / TRUE_PI)
        while ended_khz[i + 1] < f and i < N_ENDED - 3:
            i += 1
        x1 = ended_khz[i]
        x2 = ended_khz[i + 1]
        x3 = ended_khz[i + 2]
        y2 = ended_db[i + 1]
        slope12 = (y2 - ended_db[i]) / (x2 - x1)
        slope23 = (ended_db[i + 2] - y2) / (x3 - x2)
        a = (slope23 - slope12) / (x3 - x1)
        b = (slope23 * (x2 - x1) + slope12 * (x3 - x2)) / (x3 - x1)
        amp_db = a * (f - x2) * (f - x2) + b * (f - x2) + y2
        amp[m] = power_of_10(<float>(amp_db / 20.0))


def harmonics_of_rate_k(
    const float[:, ::1] vectors, const float[:] wo, const int[:] n_harm
):
    """Amplitudes of harmonics whose rate-K vectors are given, as the decoder has them.

    vectors : (n, 20) float32 dB, mean included;  wo, n_harm : (n,)
    Returns (n, MAX_HARMONICS) float32, linear, 0 beyond n_harm.
    """
    cdef Py_ssize_t n = vectors.shape[0], i
    cdef int k
    cdef float ended_khz[N_ENDED]
    cdef float ended_db[N_ENDED]
    amplitudes = np.zeros((n, MAX_HARMONICS), np.float32)
    cdef float[:, ::1] view = amplitudes
    ended_khz[0] = 0
    ended_khz[N_ENDED - 1] = 4
    ended_db[0] = 0
    ended_db[N_ENDED - 1] = 0
    for k in range(BANDS):
        ended_khz[k + 1] = BAND_KHZ[k]
    with nogil:
        for i in range(n):
            for k in range(BANDS):
                ended_db[k + 1] = vectors[i, k]
            resample_to_rate_l(ended_khz, ended_db, wo[i], n_harm[i], &view[i, 0])
    return amplitudes
