# SPDX-License-Identifier: LGPL-2.1-or-later
# Pitch by the non-linear method: square, notch, low pass, decimate, DFT, peak, sub-multiples.
# Source: D. Rowe, "Techniques for Harmonic Sinusoidal Coding", chapter 4; codec2 nlp.c.
#
# All but the last step is independent from frame to frame. The previous pitch only halves a
# threshold: `find_pitch_candidates` settles per frame what does not depend on it,
# `track_pitch` then walks through time.

from libc.string cimport memset

cdef enum:
    DECIMATION = 5                        # codec2 DEC
    N_TAPS = 48                           # codec2 NLP_NTAP
    N_DECIMATED = FRAME // DECIMATION     # 64 points of the pitch DFT that are not zero
    NEW_DECIMATED = HOP // DECIMATION     # 16 of them new in each hop
    BIN_MIN = 16                          # N_FFT * DECIMATION / codec2 P_MAX
    BIN_MAX = 128                         # N_FFT * DECIMATION / codec2 P_MIN
    N_PITCH_BINS = BIN_MAX + 1
    GROUP = 8                             # bins whose common maximum saves looking at each
    N_GROUPS = (BIN_MAX - BIN_MIN) // GROUP + 1
    MAX_MULTIPLES = 7                     # sub-multiples 2 .. BIN_MAX / BIN_MIN
    WARM_UP = 480                         # samples after which the notch has forgotten, or nearly
    BIN_START = BIN_MIN                   # 50 Hz: codec2's initial prev_f0

cdef double NOTCH_POLE = 0.95             # codec2 COEFF
cdef double THRESHOLD = 0.3               # codec2 CNLP

cdef float FIR[N_TAPS]
cdef float PITCH_WINDOW[N_DECIMATED]


cdef struct PitchCandidates:
    unsigned char peak                        # bin of the global maximum
    unsigned char verdict[MAX_MULTIPLES]      # NEVER, ALWAYS, or IF_NEAR the previous pitch
    unsigned char bin[MAX_MULTIPLES]
    unsigned char above[MAX_MULTIPLES]        # IF_NEAR: above < previous bin < below
    unsigned char below[MAX_MULTIPLES]

cdef enum:
    NEVER = 0
    ALWAYS = 1
    IF_NEAR = 2


def low_pass_taps():
    """Hamming-windowed sinc, 600 Hz, unity gain at 0 Hz, kept to 8 digits as codec2 tabulates it."""
    import math

    cut_off = 600.0 / 8000.0
    taps = []
    for n in range(N_TAPS):
        t = n - (N_TAPS - 1) / 2.0
        ideal = math.sin(2 * math.pi * cut_off * t) / (math.pi * t)
        taps.append(ideal * (0.54 - 0.46 * math.cos(2 * math.pi * n / (N_TAPS - 1))))
    return [float(f"{tap / math.fsum(taps):.7e}") for tap in taps]


cdef void init_pitch():
    cdef int i
    for i, tap in enumerate(low_pass_taps()):
        FIR[i] = tap
    for i in range(N_DECIMATED):
        PITCH_WINDOW[i] = <float>(0.5 - 0.5 * cosf(<float>(2 * PI * i / (N_DECIMATED - 1))))


cdef struct Notch:
    float x          # previous input (squared sample)
    float y          # previous output


cdef inline float notch_step(Notch *memory, float sample) noexcept nogil:
    """Square and notch out 0 Hz; the pole's product is taken in double, as the reference does."""
    cdef float squared = sample * sample
    cdef float y = squared - memory.x
    y = <float>(<double>y + NOTCH_POLE * <double>memory.y)
    memory.x = squared
    memory.y = y
    return y


cdef void notch_lanes(const_row_t x, row_t out, Py_ssize_t n_rows, row_t mem_x, row_t mem_y) noexcept nogil:
    """Square and notch rows of all lanes; out gets the notch's output + 1."""
    cdef Py_ssize_t n
    cdef int l
    cdef float squared, y
    for n in range(n_rows):
        for l in range(LANES):
            squared = x[n * LANES + l] * x[n * LANES + l]
            y = squared - mem_x[l]
            y = <float>(<double>y + NOTCH_POLE * <double>mem_y[l])
            mem_x[l] = squared
            mem_y[l] = y
            out[n * LANES + l] = <float>(y + 1.0)


cdef void square_and_notch(
    const float *x, float *out, Py_ssize_t n_rows, int n_lanes, Py_ssize_t last_rows, Notch *memory
) noexcept nogil:
    """Notch consecutive segments, one a lane, as if they were one long signal.

    The recursion is a chain of dependent operations: run all segments side by side from a guess
    of their starting memory (the end of the previous lane, itself run in from zero memory over
    the last WARM_UP samples: the pole forgets), then verify each guess against the end of the
    previous lane and run a segment again where it differs, until it meets the same state.

    x, out : n_rows rows; lanes 0..n_lanes-1 are used, the last one has last_rows valid rows.
    """
    cdef float mem_x[LANES]
    cdef float mem_y[LANES]
    cdef float start_y[LANES]
    cdef Notch true_memory
    cdef Py_ssize_t n, warm_up = min(n_rows, <Py_ssize_t>WARM_UP)
    cdef int l
    memset(mem_x, 0, sizeof(mem_x))
    memset(mem_y, 0, sizeof(mem_y))
    if n_lanes > 1:
        notch_lanes(x + (n_rows - warm_up) * LANES, out, warm_up, mem_x, mem_y)
    for l in range(LANES - 1, 0, -1):
        mem_x[l] = mem_x[l - 1]
        mem_y[l] = mem_y[l - 1]
        start_y[l] = mem_y[l]
    mem_x[0] = memory.x
    mem_y[0] = memory.y
    if n_lanes == 1:                 # a live pipe: no need to run the idle lanes
        for n in range(last_rows):
            out[n * LANES] = <float>(notch_step(memory, x[n * LANES]) + 1.0)
        return
    notch_lanes(x, out, n_rows, mem_x, mem_y)
    for l in range(1, n_lanes):
        true_memory.x = x[(n_rows - 1) * LANES + l - 1] * x[(n_rows - 1) * LANES + l - 1]
        true_memory.y = mem_y[l - 1]
        if true_memory.y != start_y[l]:
            repair_lane(x, out, n_rows, l, start_y[l], &true_memory, mem_y)
    if last_rows == n_rows:
        memory.x = mem_x[n_lanes - 1]
        memory.y = mem_y[n_lanes - 1]
    else:                            # the last lane is partly idle: its memory is inside
        memory.x = mem_x[n_lanes - 2]
        memory.y = mem_y[n_lanes - 2]
        for n in range(last_rows):
            notch_step(memory, x[n * LANES + n_lanes - 1])


cdef void repair_lane(
    const float *x, float *out, Py_ssize_t n_rows, int lane, float wrong_y, Notch *memory, float *mem_y
) noexcept nogil:
    """Run one lane again from its true memory until it meets the run from the wrong one."""
    cdef Notch wrong
    cdef Py_ssize_t n
    wrong.x = memory.x
    wrong.y = wrong_y
    for n in range(n_rows):
        out[n * LANES + lane] = <float>(notch_step(memory, x[n * LANES + lane]) + 1.0)
        notch_step(&wrong, x[n * LANES + lane])
        if wrong.y == memory.y:
            return
    mem_y[lane] = memory.y


cdef void low_pass_hop(const float *notched, float *decimated) noexcept nogil:
    """One hop of the 600 Hz low pass at every fifth sample.

    notched : row of the hop's first sample, with 47 older rows before it
    decimated : NEW_DECIMATED rows, out
    """
    cdef int i, j, v = 0
    cdef const float *x
    cdef float *out
    cdef vec_t acc0, acc1, acc2, acc3        # four outputs at once: each is a chain of additions
    while v < LANES:
        for i in range(0, NEW_DECIMATED, 4):
            x = notched + (i * DECIMATION - (N_TAPS - 1)) * LANES + v
            acc0 = acc1 = acc2 = acc3 = VEC_ZERO
            for j in range(N_TAPS):
                acc0 = acc0 + (<const vec_t *>x)[0] * FIR[j]
                acc1 = acc1 + (<const vec_t *>(x + DECIMATION * LANES))[0] * FIR[j]
                acc2 = acc2 + (<const vec_t *>(x + 2 * DECIMATION * LANES))[0] * FIR[j]
                acc3 = acc3 + (<const vec_t *>(x + 3 * DECIMATION * LANES))[0] * FIR[j]
                x += LANES
            out = decimated + i * LANES + v
            (<vec_t *>out)[0] = acc0
            (<vec_t *>(out + LANES))[0] = acc1
            (<vec_t *>(out + 2 * LANES))[0] = acc2
            (<vec_t *>(out + 3 * LANES))[0] = acc3
        v += VEC


cdef inline void butterfly4_spread(row_t re, row_t im, const_row_t p, int k) noexcept nogil:
    """Third stage of the pitch DFT: four real points, each standing for 8 equal complex ones."""
    cdef float c1 = TW_RE[16 * k], s1 = TW_IM[16 * k]
    cdef float c2 = TW_RE[32 * k], s2 = TW_IM[32 * k]
    cdef float c3 = TW_RE[48 * k], s3 = TW_IM[48 * k]
    cdef float ar, ai, br, bi, cr, ci, dr
    cdef int l
    for l in range(LANES):
        ar = p[l + 16 * LANES] * c1
        ai = p[l + 16 * LANES] * s1
        br = p[l + 32 * LANES] * c2
        bi = p[l + 32 * LANES] * s2
        cr = p[l + 48 * LANES] * c3
        ci = p[l + 48 * LANES] * s3
        dr = p[l] - br
        br = p[l] + br
        re[l] = br + (ar + cr)
        im[l] = bi + (ai + ci)
        re[l + 8 * LANES] = dr + (ai - ci)
        im[l + 8 * LANES] = -bi - (ar - cr)
        re[l + 16 * LANES] = br - (ar + cr)
        im[l + 16 * LANES] = bi - (ai + ci)
        re[l + 24 * LANES] = dr - (ai - ci)
        im[l + 24 * LANES] = -bi + (ar - cr)


cdef inline void last_stage_power(
    const_row_t re, const_row_t im, row_t power, int k
) noexcept nogil:
    """Power of bin k (0..127): the first output of the last radix-4 stage only."""
    cdef float c1 = TW_RE[k], s1 = TW_IM[k]
    cdef float c2 = TW_RE[2 * k], s2 = TW_IM[2 * k]
    cdef float c3 = TW_RE[3 * k], s3 = TW_IM[3 * k]
    cdef float ar, ai, br, bi, cr, ci, out_r, out_i
    cdef int l
    for l in range(LANES):
        ar = re[l + 128 * LANES] * c1 - im[l + 128 * LANES] * s1
        ai = re[l + 128 * LANES] * s1 + im[l + 128 * LANES] * c1
        br = re[l + 256 * LANES] * c2 - im[l + 256 * LANES] * s2
        bi = re[l + 256 * LANES] * s2 + im[l + 256 * LANES] * c2
        cr = re[l + 384 * LANES] * c3 - im[l + 384 * LANES] * s3
        ci = re[l + 384 * LANES] * s3 + im[l + 384 * LANES] * c3
        out_r = (re[l] + br) + (ar + cr)
        out_i = (im[l] + bi) + (ai + ci)
        power[l] = out_r * out_r + out_i * out_i


cdef void pitch_power(const float *decimated, float *x, float *power) noexcept nogil:
    """Power of bins 15..128 of the 512-point DFT of 64 windowed real points.

    decimated : 64 rows, oldest first; x : scratch of 2 IM floats; power : N_PITCH_BINS rows, out
    """
    cdef float windowed[N_DECIMATED * LANES]
    cdef float *out
    cdef int i, k, quarter, block
    for i in range(N_DECIMATED):
        scale_row(decimated + i * LANES, windowed + i * LANES, PITCH_WINDOW[i])
    for quarter in range(4):
        for block in range(4):
            out = x + (quarter * 128 + block * 32) * LANES
            for k in range(8):
                butterfly4_spread(out + k * LANES, out + k * LANES + IM,
                                  windowed + (quarter + 4 * block) * LANES, k)
        for k in range(32):
            butterfly4_at(x, quarter * 128 + k, 32, 4 * k)
    for k in range(BIN_MIN - 1, BIN_MAX):
        last_stage_power(x + k * LANES, x + k * LANES + IM, power + k * LANES, k)
    butterfly4_at(x, 0, 128, 0)
    power_row(x + BIN_MAX * LANES, x + BIN_MAX * LANES + IM, power + BIN_MAX * LANES)


cdef inline void keep_larger(row_t best, const_row_t row) noexcept nogil:
    cdef int l
    for l in range(LANES):
        best[l] = row[l] if row[l] > best[l] else best[l]


cdef void find_group_peaks(const float *power, float *peaks) noexcept nogil:
    """Maxima of groups of neighbouring bins, from BIN_MIN on; peaks : N_GROUPS rows, out."""
    cdef int b
    memset(peaks, 0, N_GROUPS * LANES * sizeof(float))
    for b in range(BIN_MIN, BIN_MAX + 1):
        keep_larger(peaks + (b - BIN_MIN) // GROUP * LANES, power + b * LANES)


cdef inline int first_peak(const float *p, const float *group_peak, float *peak) noexcept nogil:
    """Lowest bin of the global maximum, BIN_MIN in silence; its power in peak."""
    cdef int g, b, peak_group = 0
    peak[0] = 0
    for g in range(N_GROUPS):
        if group_peak[g * LANES] > peak[0]:
            peak[0] = group_peak[g * LANES]
            peak_group = g
    b = BIN_MIN + peak_group * GROUP
    if peak[0] > 0:
        while p[b * LANES] != peak[0]:
            b += 1
    return b


cdef inline bint may_exceed(const float *group_peak, int bin_lo, int bin_hi, float level) noexcept nogil:
    """Whether any group that overlaps the bins holds more than level."""
    cdef int g
    for g in range((bin_lo - BIN_MIN) // GROUP, (bin_hi - BIN_MIN) // GROUP + 1):
        if group_peak[g * LANES] > level:
            return True
    return False


cdef void find_pitch_candidates(
    const float *power, const float *group_peaks, int lane, PitchCandidates *found
) noexcept nogil:
    """Global peak, local maxima at its sub-multiples; codec2 post_process_sub_multiples."""
    cdef const float *p = power + lane
    cdef float peak
    cdef int peak_bin = first_peak(p, group_peaks + lane, &peak)
    cdef float high = <float>(THRESHOLD * peak)
    cdef float low = <float>(THRESHOLD * 0.5 * peak)
    cdef float local
    cdef int n, b, bin, bin_lo, bin_hi, local_bin
    found.peak = <unsigned char>peak_bin
    memset(found.verdict, NEVER, MAX_MULTIPLES)
    for n in range(MAX_MULTIPLES):
        bin = peak_bin // (n + 2)
        if bin < BIN_MIN:
            break
        bin_lo = max(<int>(0.8 * bin), <int>BIN_MIN)
        bin_hi = <int>(1.2 * bin)
        if not may_exceed(group_peaks + lane, bin_lo, bin_hi, low):
            continue
        local = 0
        local_bin = bin
        for b in range(bin_lo, bin_hi + 1):
            if p[b * LANES] > local:
                local = p[b * LANES]
                local_bin = b
        if local > low and local > p[(local_bin - 1) * LANES] and local > p[(local_bin + 1) * LANES]:
            found.verdict[n] = ALWAYS if local > high else IF_NEAR
            found.bin[n] = <unsigned char>local_bin
            found.above[n] = <unsigned char>bin_lo
            found.below[n] = <unsigned char>bin_hi


cdef inline int track_pitch(const PitchCandidates *found, int previous) noexcept nogil:
    """Bin of the pitch, given the previous frame's; the highest accepted multiple wins."""
    cdef int n
    for n in range(MAX_MULTIPLES - 1, -1, -1):
        if found.verdict[n] == ALWAYS:
            return found.bin[n]
        if found.verdict[n] == IF_NEAR and found.above[n] < previous < found.below[n]:
            return found.bin[n]
    return found.peak
