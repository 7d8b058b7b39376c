# SPDX-License-Identifier: LGPL-2.1-or-later
# Rate L to rate K: harmonic amplitudes resampled to mel-spaced bands, in dB.
# Source: codec2 newamp1.c (mel_sample_freqs_kHz, resample_const_rate_f, interp_para).

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

cdef double DYNAMIC_RANGE_DB = 50.0       # bands further below the peak are raised to it


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
