# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames 20 or 40 ms apart whose straight lines come closest to all 10 ms frames.

The 700C decoder interpolates linearly between the frames it receives. The knots u of those lines
that minimise sum_r w_r |(1 - a_r) u_k + a_r u_(k+1) - v_r|^2 over the 10 ms frames v_r solve a
tridiagonal system, the same for all bands. It is eliminated forwards as frames arrive; knot k is
solved backwards once the knots within the look-ahead are there, as if the input ended with them.
"""

import numpy as np

from codec2_eq.codec2 cimport K as BANDS, LOWEST_ENERGY_DB
from libc.math cimport pow
from libc.string cimport memset

cdef enum:
    MAX_PENDING = 32         # knots; a power of two

cdef double FULL_WEIGHT_DB = 15.0 # frames down to this below the reference count in full
cdef double LEAST_WEIGHT = 0.1    # pauses, which must stay solvable
cdef double RANGE_DB = 36.0       # below the reference: what 700C's lowest step is to normal speech
# The reference is the level that 5 % of the frames so far exceed, from a histogram that begins with
# a few frames at that level in normal speech.
cdef enum:
    LOUD_SHARE = 20          # one frame of so many is above the reference
    BINS_A_DB = 2
    BINS_FROM_DB = -50
    N_BINS = 256 * BINS_A_DB # to louder than any sound
    START_BIN = (46 - BINS_FROM_DB) * BINS_A_DB
    START_COUNT = 4          # frames
    MEMORY = 12_000          # frames [2 min], after which older ones count half

MAX_LOOK_AHEAD = MAX_PENDING - 1


cdef struct Knot:
    double diagonal          # after elimination of the knots before
    double coupling          # to the next knot
    double right[BANDS]      # right-hand side, after elimination


cdef class KnotFitter:
    """Stream of 10 ms frames to least-squares knots; holds nothing but its memory.

    step : 10 ms frames from knot to knot; the first knot is at frame step - 1 and stands for the
        frames before it, too
    look_ahead : knots that a knot waits for, at most `MAX_LOOK_AHEAD`. The influence of later
        frames falls by a factor of 0.27 a knot.
    any_level : frames of pauses, which would drag their neighbours down, are raised to RANGE_DB below
        the reference, for an encoder that brings all speech to one level, rather than to 10 dB
    """

    cdef readonly int step, look_ahead
    cdef readonly bint any_level
    cdef Knot knots[MAX_PENDING]     # a ring
    cdef Py_ssize_t n_begun          # knots whose frames are coming in, or have
    cdef Py_ssize_t n_out
    cdef int phase                   # frames since the last knot
    cdef int counts[N_BINS]          # frames by their level
    cdef int n_counted, n_above      # all of them; those above the reference's bin
    cdef int reference
    cdef double left_diagonal, coupling, next_diagonal
    cdef double left_right[BANDS]    # sums of the interval from the last knot to the next
    cdef double next_right[BANDS]

    def __cinit__(self, int step, int look_ahead, *, bint any_level=False):
        if step < 1:
            raise ValueError(f"step {step}: expected at least 1 frame")
        if not 0 <= look_ahead <= MAX_LOOK_AHEAD:
            raise ValueError(f"look_ahead {look_ahead}: expected 0 to {MAX_LOOK_AHEAD} knots")
        self.step = step
        self.look_ahead = look_ahead
        self.any_level = any_level
        self._start()

    cdef void _start(self) noexcept:
        self.n_begun = self.n_out = 0
        self.phase = 0
        memset(self.counts, 0, sizeof(self.counts))
        self.counts[START_BIN] = self.n_counted = START_COUNT
        self.n_above = 0
        self.reference = START_BIN
        self._clear_interval()

    cdef void _clear_interval(self) noexcept nogil:
        self.left_diagonal = self.coupling = self.next_diagonal = 0
        memset(self.left_right, 0, sizeof(self.left_right))
        memset(self.next_right, 0, sizeof(self.next_right))

    def process(self, const float[:, ::1] vectors not None, const float[::1] mean_db not None):
        """Take the next 10 ms frames.

        vectors : (n, 20) float32, dB, and mean_db : (n,) float32, their means; n >= 0
        Returns (m, 20) float32, dB: the knots that are settled by now.
        """
        cdef Py_ssize_t i, n = vectors.shape[0]
        if vectors.shape[1] != BANDS or mean_db.shape[0] != n:
            raise ValueError(f"{n} vectors of {vectors.shape[1]}, {mean_db.shape[0]} means")
        cdef Py_ssize_t n_whole = self.n_begun + (self.phase + n) // self.step
        knots = np.empty((max(n_whole - self.look_ahead - self.n_out, 0), BANDS), np.float32)
        cdef float[:, ::1] out = knots
        cdef Py_ssize_t n_out = 0
        for i in range(n):
            self._take(&vectors[i, 0], mean_db[i])
            if self.phase == 0 and self.n_begun - self.n_out > self.look_ahead:
                self._solve(&out[n_out, 0], 1)
                n_out += 1
        return knots

    def flush(self):
        """Return the knots still to come, (m, 20), at the end of the input; then start afresh.

        Frames after the last knot lie on no line and are dropped.
        """
        cdef Py_ssize_t n = self.n_begun - self.n_out
        knots = np.empty((n, BANDS), np.float32)
        cdef float[:, ::1] out = knots
        if n:
            self._solve(&out[0, 0], n)
        self._start()
        return knots

    cdef void _take(self, const float *vector, double level_db) noexcept nogil:
        """Add a frame to the sums of its interval; at a knot, eliminate the knot before."""
        cdef double lift_db = self._lift(level_db)
        cdef double weight = self._weight(level_db + lift_db)
        cdef double share, to_left, to_next, value
        cdef int k
        self.phase += 1
        share = <double>self.phase / self.step if self.n_begun else 1.0
        to_left = weight * (1.0 - share)
        to_next = weight * share
        self.left_diagonal += to_left * (1.0 - share)
        self.coupling += to_left * share
        self.next_diagonal += to_next * share
        for k in range(BANDS):
            value = vector[k] + lift_db
            self.left_right[k] += to_left * value
            self.next_right[k] += to_next * value
        if self.phase == self.step:
            self._end_interval()

    cdef double _reference_db(self) noexcept nogil:
        return BINS_FROM_DB + (self.reference + 0.5) / BINS_A_DB

    cdef double _lift(self, double level_db) noexcept nogil:
        """How much a frame is raised."""
        cdef double lowest_db = LOWEST_ENERGY_DB
        if self.any_level:
            lowest_db = max(self._reference_db() - RANGE_DB, <double>BINS_FROM_DB)
        return max(lowest_db - level_db, 0.0)

    cdef double _weight(self, double level_db) noexcept nogil:
        """Weight of a frame by its level, which joins the histogram."""
        cdef double below_db, weight
        cdef double bin = (level_db - BINS_FROM_DB) * BINS_A_DB
        self._count(<int>bin if bin < N_BINS else N_BINS - 1)
        below_db = level_db + FULL_WEIGHT_DB - self._reference_db()
        if below_db >= 0.0:
            return 1.0
        weight = pow(10.0, below_db / 20.0)
        return weight if weight > LEAST_WEIGHT else LEAST_WEIGHT

    cdef void _count(self, int bin) noexcept nogil:
        """Add a frame to the histogram; move the reference to where it belongs."""
        cdef int i
        self.counts[bin] += 1
        self.n_counted += 1
        self.n_above += bin > self.reference
        while self.n_above * LOUD_SHARE > self.n_counted:
            self.reference += 1
            self.n_above -= self.counts[self.reference]
        while (self.n_above + self.counts[self.reference]) * LOUD_SHARE <= self.n_counted:
            self.n_above += self.counts[self.reference]
            self.reference -= 1
        if self.n_counted >= MEMORY:
            self.n_counted = self.n_above = 0
            for i in range(N_BINS):
                self.counts[i] //= 2
                self.n_counted += self.counts[i]
                self.n_above += self.counts[i] if i > self.reference else 0

    cdef void _end_interval(self) noexcept nogil:
        cdef Knot *left = &self.knots[(self.n_begun - 1) & (MAX_PENDING - 1)]
        cdef Knot *right = &self.knots[self.n_begun & (MAX_PENDING - 1)]
        cdef double ratio = 0.0
        cdef int k
        if self.n_begun:
            left.diagonal += self.left_diagonal
            left.coupling = self.coupling
            ratio = self.coupling / left.diagonal
            for k in range(BANDS):
                left.right[k] += self.left_right[k]
                self.next_right[k] -= ratio * left.right[k]
        right.diagonal = self.next_diagonal - ratio * self.coupling
        for k in range(BANDS):
            right.right[k] = self.next_right[k]
        self.n_begun += 1
        self.phase = 0
        self._clear_interval()

    cdef void _solve(self, float *out, Py_ssize_t n) noexcept nogil:
        """Solve back from the newest knot; put out the n oldest of those not yet out."""
        cdef double u[BANDS]
        cdef double coupling = 0.0
        cdef Knot *knot
        cdef Py_ssize_t i = self.n_begun - 1
        cdef int k
        memset(u, 0, sizeof(u))
        while i >= self.n_out:
            knot = &self.knots[i & (MAX_PENDING - 1)]
            coupling = knot.coupling if i < self.n_begun - 1 else 0.0
            for k in range(BANDS):
                u[k] = (knot.right[k] - coupling * u[k]) / knot.diagonal
                if i < self.n_out + n:
                    out[(i - self.n_out) * BANDS + k] = <float>u[k]
            i -= 1
        self.n_out += n
