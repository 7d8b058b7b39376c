# SPDX-License-Identifier: LGPL-2.1-or-later
# Windowed short-time spectrum. Source: codec2 sine.c (make_analysis_window, dft_speech).

cdef enum:
    WINDOW_FIRST = 21       # of 320: a nominal window of 279 samples, centred
    WINDOW_LEN = 278        # samples of it that are used
    WINDOW_CENTRE = 160     # sample that becomes point 0 of the transform
    N_BINS = 342            # pitch refinement looks as far as bin 341
    POWER_STRIDE = 352

cdef float WINDOW[WINDOW_LEN]
cdef int WINDOW_POSITION[WINDOW_LEN]  # where the transform wants each windowed sample
cdef float WINDOW_SPECTRUM[N_FFT]     # real part, halves swapped: the centre is at 256
cdef float WINDOW_TRANSFORM[2 * N_FFT]  # as the transform gave it, real and imaginary parts in turn


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
        WINDOW_TRANSFORM[2 * i] = x[i * LANES]
        WINDOW_TRANSFORM[2 * i + 1] = x[i * LANES + IM]
    free(x)


cdef void short_time_spectrum(const float *buffer, float *x, float *rows, float *power) noexcept nogil:
    """Spectrum and power of one frame in every lane.

    buffer : FRAME rows, the analysis buffer Sn; x : 2 IM floats, out: 512 bins
    rows : scratch of N_BINS rows
    power : LANES times POWER_STRIDE floats, out: N_BINS bins of each lane, contiguous from here
        on, since what follows reads different bins in each frame
    """
    cdef int i, l
    memset(x, 0, N_FFT * LANES * sizeof(float))
    for i in range(WINDOW_LEN):
        scale_row(buffer + (i + WINDOW_FIRST) * LANES, x + WINDOW_POSITION[i] * LANES, WINDOW[i])
    fft_real(x)
    for i in range(N_BINS):
        power_row(x + i * LANES, x + i * LANES + IM, rows + i * LANES)
    for l in range(LANES):
        for i in range(N_BINS):
            power[l * POWER_STRIDE + i] = rows[i * LANES + l]
