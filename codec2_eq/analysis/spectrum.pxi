# SPDX-License-Identifier: LGPL-2.1-or-later
# Windowed short-time spectrum. Source: codec2 sine.c (make_analysis_window, dft_speech).

cdef enum:
    WINDOW_FIRST = 21       # of 320: a nominal window of 279 samples, centred
    WINDOW_LEN = 278        # samples of it that are used
    WINDOW_CENTRE = 160     # sample that becomes point 0 of the transform
    N_BINS = 342            # pitch refinement looks as far as bin 341

cdef float WINDOW[WINDOW_LEN]
cdef int WINDOW_POSITION[WINDOW_LEN]  # where the transform wants each windowed sample
cdef float WINDOW_SPECTRUM[N_FFT]     # real part, halves swapped: the centre is at 256


cdef void init_spectrum():
    cdef int i
    cdef float energy = 0
    cdef float scale
    for i in range(WINDOW_LEN):
        WINDOW[i] = <float>(0.5 - 0.5 * cosf(<float>(TWO_PI * i / WINDOW_LEN)))
        energy += WINDOW[i] * WINDOW[i]
    scale = <float>(1.0 / sqrtf(energy * N_FFT))
    for i in range(WINDOW_LEN):
        WINDOW[i] = WINDOW[i] * scale
    cdef float *x = <float *>calloc(2 * IM, sizeof(float))
    if x == NULL:
        raise MemoryError
    for i in range(WINDOW_LEN):
        WINDOW_POSITION[i] = digit_reverse((i + WINDOW_FIRST - WINDOW_CENTRE) & (N_FFT - 1))
        x[WINDOW_POSITION[i] * LANES] = WINDOW[i]
    fft_real(x)
    for i in range(N_FFT):
        WINDOW_SPECTRUM[i] = x[((i + N_FFT // 2) % N_FFT) * LANES]
    free(x)


cdef inline void window_row(const_row_t sample, row_t out, float w) noexcept nogil:
    cdef int l
    for l in range(LANES):
        out[l] = sample[l] * w


cdef inline void power_row(const float *x, float *power) noexcept nogil:
    cdef const_row_t re = x
    cdef const_row_t im = x + IM
    cdef row_t out = power
    cdef int l
    for l in range(LANES):
        out[l] = re[l] * re[l] + im[l] * im[l]


cdef void short_time_spectrum(const float *buffer, float *x, float *power) noexcept nogil:
    """Spectrum and power of one frame in every lane.

    buffer : FRAME rows, the analysis buffer Sn; x : 2 IM floats, out: 512 bins;
    power : N_BINS rows, out
    """
    cdef int i
    memset(x, 0, N_FFT * LANES * sizeof(float))
    for i in range(WINDOW_LEN):
        window_row(buffer + (i + WINDOW_FIRST) * LANES,
                   x + WINDOW_POSITION[i] * LANES, WINDOW[i])
    fft_real(x)
    for i in range(N_BINS):
        power_row(x + i * LANES, power + i * LANES)
