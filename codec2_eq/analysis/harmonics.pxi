# SPDX-License-Identifier: LGPL-2.1-or-later
# Sinusoidal model of a frame: pitch refined on the spectrum, amplitudes, voicing.
# Source: codec2 sine.c (two_stage_pitch_refinement, estimate_amplitudes, est_voicing_mbe).
#
# From here on each frame is on its own: `power` is that of one frame, bin after bin; the spectrum
# is still one lane of rows, bin b at x[b * LANES].

from libc.stdlib cimport calloc, free

cdef enum:
    MAX_HARMONICS = LONGEST_PERIOD // 2   # none beyond half the sample rate; codec2 MAX_AMP is 160
    MAX_CANDIDATES = 11           # pitch periods tried in one stage
    COLUMNS = 12                  # of the tables: candidates, then idle ones
    N_START = BIN_MAX - BIN_MIN + 1

cdef float ONE_ON_R = <float>(1.0 / <float>(TWO_PI / N_FFT))      # bins per rad/sample
cdef float WO_MIN = <float>(TWO_PI / LONGEST_PERIOD)
cdef float WO_MAX = <float>(TWO_PI / SHORTEST_PERIOD)
cdef double VOICING_THRESHOLD_DB = 6.0                            # codec2 V_THRESH


cdef struct Candidates:
    # Pitches tried by one stage of the refinement, and the bins of their harmonics:
    # bin[m * COLUMNS + c] of harmonic m + 1 of candidate c. wo[n] is the pitch the stage began with.
    int n
    int n_harm
    float wo[MAX_CANDIDATES + 1]
    unsigned short *bin

# The pitch estimate has only N_START values, so all bins that refinement can ask for fit tables.
cdef float START_WO[N_START]
cdef Candidates COARSE[N_START]
cdef Candidates FINE[N_START][MAX_CANDIDATES + 1]


cdef int list_candidates(float wo, float reach, double step, Candidates *out) except -1:
    """Tabulate the stage that searches pitch periods within +-reach samples of wo's."""
    cdef float period = <float>(TWO_PI / wo - reach)
    cdef float last = <float>(TWO_PI / wo + reach)
    cdef float bin_step, bin_now
    cdef int c, m
    out.n = 0
    out.n_harm = <int>(PI / wo)
    while period <= last:
        out.wo[out.n] = <float>(TWO_PI / period)
        out.n += 1
        period = <float>(period + step)
    out.wo[out.n] = wo
    out.bin = <unsigned short *>calloc(COLUMNS * out.n_harm, sizeof(unsigned short))
    if out.bin == NULL:
        raise MemoryError
    for c in range(out.n):
        bin_step = out.wo[c] * ONE_ON_R
        bin_now = bin_step
        for m in range(out.n_harm):
            # accumulated in float32, as the reference does: a product would cross bin edges
            out.bin[m * COLUMNS + c] = <unsigned short><int>(bin_now + 0.5)
            bin_now += bin_step
    return 0


cdef int init_harmonics() except -1:
    cdef int i, c
    cdef float f0_hz
    for i in range(N_START):
        f0_hz = <float>((BIN_MIN + i) * SAMPLE_RATE / (N_FFT * DECIMATION))
        START_WO[i] = <float>(TWO_PI / <float>(SAMPLE_RATE / f0_hz))
        list_candidates(START_WO[i], 5, 1.0, &COARSE[i])
        for c in range(COARSE[i].n + 1):
            list_candidates(COARSE[i].wo[c], 1, 0.25, &FINE[i][c])
    return 0


cdef inline int strongest(const float *power, const Candidates *tried) noexcept nogil:
    """Candidate with the largest sum of harmonic powers; n (no change) if all are zero."""
    cdef float energy[COLUMNS]
    cdef const unsigned short *bin = tried.bin
    cdef float best = 0
    cdef int c, m, found = tried.n
    for c in range(COLUMNS):
        energy[c] = 0
    for m in range(tried.n_harm):
        for c in range(COLUMNS):          # independent chains of additions, side by side
            energy[c] += power[bin[c]]
        bin += COLUMNS
    for c in range(tried.n):
        if energy[c] > best:
            best = energy[c]
            found = c
    return found


cdef inline float refine_pitch(const float *power, int pitch_bin) noexcept nogil:
    """Wo that fits the harmonics best, searched in steps of 1, then 0.25 samples of period."""
    cdef int start = pitch_bin - BIN_MIN
    cdef const Candidates *fine = &FINE[start][strongest(power, &COARSE[start])]
    cdef float wo = fine.wo[strongest(power, fine)]
    if wo < WO_MIN:
        wo = WO_MIN
    elif wo > WO_MAX:
        wo = WO_MAX
    return wo


cdef inline int count_harmonics(float wo) noexcept nogil:
    """Harmonics below 4 kHz, without one that comes within 5 % of it."""
    cdef int n_harm = <int><float>(PI / wo)
    if <float>(wo * n_harm) >= 0.95 * PI:
        n_harm -= 1
    return n_harm


cdef inline void estimate_amplitudes(
    const float *power, float wo, int n_harm, float *amp
) noexcept nogil:
    """Root of the power in each harmonic's band; amp[1..n_harm], out."""
    cdef int m, b
    cdef int edge = <int>(0.5 * wo * ONE_ON_R + 0.5)
    cdef int next_edge
    cdef float band
    for m in range(1, n_harm + 1):
        next_edge = <int>((m + 0.5) * wo * ONE_ON_R + 0.5)
        band = 0
        for b in range(edge, next_edge):
            band += power[b]
        amp[m] = sqrtf(band)
        edge = next_edge


cdef inline float error_of_voiced_fit(const float *x, float wo, int n_harm) noexcept nogil:
    """Squared error of the first 1 kHz against harmonics with the window's own spectrum.

    x : one lane of a spectrum (real rows, imaginary rows IM further on)
    """
    cdef float error = <float>1e-4
    cdef float am_r, am_i, den, w, er, ei
    cdef const float *window
    cdef int l, b, b_lo, b_hi
    for l in range(1, n_harm // 4 + 1):
        b_lo = <int>ceilf(<float>((l - 0.5) * wo * N_FFT / TWO_PI))
        b_hi = <int>ceilf(<float>((l + 0.5) * wo * N_FFT / TWO_PI))
        window = WINDOW_SPECTRUM + <int>(N_FFT // 2 - <float>(<float>(l * wo) * N_FFT) / TWO_PI + 0.5)
        am_r = 0
        am_i = 0
        den = 0
        for b in range(b_lo, b_hi):
            w = window[b]
            am_r += x[b * LANES] * w
            am_i += x[b * LANES + IM] * w
            den += w * w
        am_r = am_r / den
        am_i = am_i / den
        for b in range(b_lo, b_hi):
            w = window[b]
            er = x[b * LANES] - am_r * w
            ei = x[b * LANES + IM] - am_i * w
            error += er * er
            error += ei * ei
    return error


cdef inline bint is_voiced(const float *x, float wo, int n_harm, const float *amp) noexcept nogil:
    """Multi-band excitation voicing, then a correction by the balance of low and high bands."""
    cdef float signal = <float>1e-4
    cdef float e_low = <float>1e-4
    cdef float e_high = <float>1e-4
    cdef float snr_db, ratio_db
    cdef int l
    cdef bint voiced
    for l in range(1, n_harm // 4 + 1):
        signal += amp[l] * amp[l]
    snr_db = <float>(10.0 * log10f(signal / error_of_voiced_fit(x, wo, n_harm)))
    voiced = snr_db > VOICING_THRESHOLD_DB
    for l in range(1, n_harm // 2 + 1):
        e_low += amp[l] * amp[l]
    for l in range(n_harm // 2, n_harm + 1):      # the band at 2 kHz counts on both sides
        e_high += amp[l] * amp[l]
    ratio_db = <float>(10.0 * log10f(e_low / e_high))
    if not voiced and ratio_db > 10.0:
        voiced = True
    if voiced:
        if ratio_db < -10.0:
            voiced = False
        elif ratio_db < -4.0 and wo <= <float>(60.0 * TWO_PI / SAMPLE_RATE):
            voiced = False
    return voiced
