# SPDX-License-Identifier: LGPL-2.1-or-later
# Rate L to rate K: harmonic amplitudes resampled to mel-spaced bands, in dB.
# Source: codec2 newamp1.c (mel_sample_freqs_kHz, resample_const_rate_f, interp_para).

cdef extern from "<math.h>" nogil:
    float exp10f(float)

cdef double F_LOW_HZ = 200.0
cdef double F_HIGH_HZ = 3700.0
cdef double DYNAMIC_RANGE_DB = 50.0       # bands further below the peak are raised to it
cdef float BAND_KHZ[BANDS]


cdef float to_mel(double f_hz) noexcept:
    """Whole mels: the band edges are 199.8 and 3701.06 Hz for it."""
    return <float>(<int>(2595.0 * log10f(<float>(1.0 + f_hz / 700.0)) + 0.5))


cdef void init_rate_k() noexcept:
    cdef int k
    cdef float mel = to_mel(F_LOW_HZ)
    cdef float step = (to_mel(F_HIGH_HZ) - mel) / (BANDS - 1)
    for k in range(BANDS):
        BAND_KHZ[k] = <float>(0.7 * (exp10f(<float>(mel / 2595.0)) - 1.0))
        mel += step


cdef inline void to_db(const float *amp, int n_harm, float *amp_db) noexcept nogil:
    """Amplitudes 1..n_harm in dB (from index 0), at most 50 dB below their peak."""
    cdef float peak = -100
    cdef float floor_db
    cdef int m
    for m in range(n_harm):
        amp_db[m] = <float>(20.0 * log10f(<float>(amp[m + 1] + 1e-16)))
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
