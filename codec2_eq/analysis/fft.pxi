# SPDX-License-Identifier: LGPL-2.1-or-later
# The 512-point FFT of LANES real frames at once, bit-equal to the reference's.
#
# The reference transforms by decimation in time with radices 4, 4, 4, 4, 2 (outermost first).
# Float32 sums depend on their order, and the voicing decision on their last bits, so the same
# butterflies run here in the same order. What is left out is exact: products with zero, and
# output bins that nobody reads.
#
# A buffer holds the real rows of all points, then the imaginary rows, in the order in which
# decimation in time leaves them: point n goes to position digit_reverse(n).

cdef enum:
    IM = N_FFT * LANES + LANES      # floats from a real row to its imaginary row; one row of padding
                              # keeps the two planes out of the same cache sets

cdef float TW_RE[N_FFT]
cdef float TW_IM[N_FFT]


cdef void init_twiddles() noexcept:
    # libm's cosf of a phase rounded to float: 13 of these 1024 values are an ulp from the
    # correctly rounded ones, and cos(pi/2) is -4.4e-8.
    cdef int i
    cdef double phase
    for i in range(N_FFT):
        phase = -2.0 * TRUE_PI * i / N_FFT
        TW_RE[i] = cosf(<float>phase)
        TW_IM[i] = sinf(<float>phase)


cdef inline int digit_reverse(int n) noexcept nogil:
    """Position of input n (0..511) for radices 4, 4, 4, 4, 2."""
    return (n & 3) * 128 + ((n >> 2) & 3) * 32 + ((n >> 4) & 3) * 8 + ((n >> 6) & 3) * 2 + (n >> 8)


cdef inline void butterfly4(
    row_t r0, row_t i0, row_t r1, row_t i1, row_t r2, row_t i2, row_t r3, row_t i3, int k1,
) noexcept nogil:
    """Radix-4 butterfly in place; twiddles k1, 2 k1, 3 k1."""
    cdef float c1 = TW_RE[k1], s1 = TW_IM[k1]
    cdef float c2 = TW_RE[2 * k1], s2 = TW_IM[2 * k1]
    cdef float c3 = TW_RE[3 * k1], s3 = TW_IM[3 * k1]
    cdef float ar, ai, br, bi, cr, ci, dr, di, sum_r, sum_i, diff_r, diff_i
    cdef int l
    for l in range(LANES):
        ar = r1[l] * c1 - i1[l] * s1
        ai = r1[l] * s1 + i1[l] * c1
        br = r2[l] * c2 - i2[l] * s2
        bi = r2[l] * s2 + i2[l] * c2
        cr = r3[l] * c3 - i3[l] * s3
        ci = r3[l] * s3 + i3[l] * c3
        dr = r0[l] - br
        di = i0[l] - bi
        br = r0[l] + br
        bi = i0[l] + bi
        sum_r = ar + cr
        sum_i = ai + ci
        diff_r = ar - cr
        diff_i = ai - ci
        r0[l] = br + sum_r
        i0[l] = bi + sum_i
        r1[l] = dr + diff_i
        i1[l] = di - diff_r
        r2[l] = br - sum_r
        i2[l] = bi - sum_i
        r3[l] = dr - diff_i
        i3[l] = di + diff_r


cdef inline void butterfly4_at(float *x, int position, int m, int k1) noexcept nogil:
    """Radix-4 butterfly of positions position + (0, 1, 2, 3) m."""
    cdef float *p = x + position * LANES
    cdef int step = m * LANES
    butterfly4(p, p + IM, p + step, p + step + IM, p + 2 * step, p + 2 * step + IM,
               p + 3 * step, p + 3 * step + IM, k1)


cdef inline void butterfly_real8(row_t re, row_t im) noexcept nogil:
    """First two stages (radix 2, then 4) of 8 neighbouring real points; 8 complex points out."""
    cdef float c1 = TW_RE[64], s1 = TW_IM[64]
    cdef float c2 = TW_RE[128], s2 = TW_IM[128]
    cdef float c3 = TW_RE[192], s3 = TW_IM[192]
    cdef float sum0, sum1, sum2, sum3, diff0, diff1, diff2, diff3
    cdef float ar, ai, br, bi, cr, ci, dr, di
    cdef int l
    for l in range(LANES):
        sum0 = re[l] + re[LANES + l]
        diff0 = re[l] - re[LANES + l]
        sum1 = re[2 * LANES + l] + re[3 * LANES + l]
        diff1 = re[2 * LANES + l] - re[3 * LANES + l]
        sum2 = re[4 * LANES + l] + re[5 * LANES + l]
        diff2 = re[4 * LANES + l] - re[5 * LANES + l]
        sum3 = re[6 * LANES + l] + re[7 * LANES + l]
        diff3 = re[6 * LANES + l] - re[7 * LANES + l]
        # the twiddles of the even points are one and their imaginary parts zero
        ar = sum0 + sum2
        br = sum1 + sum3
        cr = sum0 - sum2
        dr = sum1 - sum3
        re[l] = ar + br
        im[l] = 0
        re[2 * LANES + l] = cr
        im[2 * LANES + l] = -dr
        re[4 * LANES + l] = ar - br
        im[4 * LANES + l] = 0
        re[6 * LANES + l] = cr
        im[6 * LANES + l] = dr
        ar = diff1 * c1
        ai = diff1 * s1
        br = diff2 * c2
        bi = diff2 * s2
        cr = diff3 * c3
        ci = diff3 * s3
        dr = diff0 - br
        di = 0 - bi
        br = diff0 + br
        re[LANES + l] = br + (ar + cr)
        im[LANES + l] = bi + (ai + ci)
        re[3 * LANES + l] = dr + (ai - ci)
        im[3 * LANES + l] = di - (ar - cr)
        re[5 * LANES + l] = br - (ar + cr)
        im[5 * LANES + l] = bi - (ai + ci)
        re[7 * LANES + l] = dr - (ai - ci)
        im[7 * LANES + l] = di + (ar - cr)


cdef inline void scale_row(const_row_t row, row_t out, float factor) noexcept nogil:
    cdef int l
    for l in range(LANES):
        out[l] = row[l] * factor


cdef inline void power_row(const_row_t re, const_row_t im, row_t out) noexcept nogil:
    cdef int l
    for l in range(LANES):
        out[l] = re[l] * re[l] + im[l] * im[l]


cdef void fft_real(float *x) noexcept nogil:
    """Transform real rows (already in digit-reversed order) in place to bins in natural order.

    x : 2 IM floats; the imaginary rows need not be set.
    """
    cdef int quarter, block, k
    for quarter in range(0, N_FFT, 128):       # a quarter at a time stays in the first-level cache
        for block in range(quarter, quarter + 128, 8):
            butterfly_real8(x + block * LANES, x + block * LANES + IM)
        for block in range(quarter, quarter + 128, 32):
            for k in range(8):
                butterfly4_at(x, block + k, 8, 16 * k)
        for k in range(32):
            butterfly4_at(x, quarter + k, 32, 4 * k)
    for k in range(128):
        butterfly4_at(x, k, 128, k)
