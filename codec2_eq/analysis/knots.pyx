# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames 20 or 40 ms apart whose straight lines come closest to all 10 ms frames.

The 700C decoder interpolates linearly between the frames it receives. The knots u of those lines
that minimise sum_r w_r |(1 - a_r) u_k + a_r u_(k+1) - v_r|^2 over the 10 ms frames v_r solve a
tridiagonal system, the same for all bands. Once the frames of the look-ahead are there, a knot is
solved as if the input ended with them, and the interval after it is eliminated with the weights
that its frames have by then.
"""

import numpy as np

from codec2_eq.codec2 cimport K as BANDS, LOWEST_ENERGY_DB
from libc.math cimport pow
from libc.string cimport memcpy, memmove, memset

cdef enum:
    MAX_PENDING = 32         # knots

cdef double FULL_WEIGHT_DB = 15.0 # frames down to this below the reference count in full
cdef double LEAST_WEIGHT = 0.1    # pauses, which must stay solvable
cdef double RANGE_DB = 36.0       # below the reference: what 700C's lowest step is to normal speech
# The reference is the level that 5 % of the frames so far exceed, from a histogram.
cdef enum:
    LOUD_SHARE = 20          # one frame of so many is above the reference
    BINS_A_DB = 2
    BINS_FROM_DB = -50
    N_BINS = 256 * BINS_A_DB # to louder than any sound
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
    look_ahead : knots that a knot waits for, from 1 to `MAX_LOOK_AHEAD`. The influence of later
        frames falls by a factor of 0.27 a knot.
    any_level : frames of pauses, which would drag their neighbours down, are raised to RANGE_DB below
        the reference, for an encoder that brings all speech to one level, rather than to 10 dB
    """

    cdef readonly int step, look_ahead
    cdef readonly bint any_level
    cdef Knot oldest                 # the next to come out, from the frames up to its own
    cdef bint begun                  # whether it is there
    cdef float[:, ::1] frames        # after those in it, as they come
    cdef double[::1] levels_db
    cdef Py_ssize_t n_frames
    cdef int counts[N_BINS]          # frames by their level
    cdef int n_counted, n_above      # all of them; those above the reference's bin
    cdef int reference

    def __cinit__(self, int step, int look_ahead, *, bint any_level=False):
        if step < 1:
            raise ValueError(f"step {step}: expected at least 1 frame")
        if not 1 <= look_ahead <= MAX_LOOK_AHEAD:
            raise ValueError(f"look_ahead {look_ahead}: expected 1 to {MAX_LOOK_AHEAD} knots")
        self.step = step
        self.look_ahead = look_ahead
        self.any_level = any_level
        self.frames = np.empty((step * (look_ahead + 1), BANDS), np.float32)
        self.levels_db = np.empty(step * (look_ahead + 1))
        self._start()

    cdef void _start(self) noexcept:
        self.begun = False
        self.n_frames = 0
        memset(self.counts, 0, sizeof(self.counts))
        self.n_counted = self.n_above = self.reference = 0

    def process(self, const float[:, ::1] vectors not None, const float[::1] mean_db not None):
        """Take the next 10 ms frames.

        vectors : (n, 20) float32, dB, and mean_db : (n,) float32, their means; n >= 0
        Returns (m, 20) float32, dB: the knots that are settled by now.
        """
        cdef Py_ssize_t i, n = vectors.shape[0]
        if vectors.shape[1] != BANDS or mean_db.shape[0] != n:
            raise ValueError(f"{n} vectors of {vectors.shape[1]}, {mean_db.shape[0]} means")
        cdef Py_ssize_t n_knots = (self.n_frames + n) // self.step + self.begun - self.look_ahead
        knots = np.empty((max(n_knots, 0), BANDS), np.float32)
        cdef float[:, ::1] out = knots
        cdef Py_ssize_t n_out = 0
        for i in range(n):
            memcpy(&self.frames[self.n_frames, 0], &vectors[i, 0], BANDS * sizeof(float))
            self.levels_db[self.n_frames] = mean_db[i]
            self.n_frames += 1
            self._count(mean_db[i])
            if self.n_frames == self.step * (self.look_ahead + (not self.begun)):
                self._solve(&out[n_out, 0], 1)
                n_out += 1
        return knots

    def flush(self):
        """Return the knots still to come, (m, 20), at the end of the input; then start afresh.

        Frames after the last knot lie on no line and are dropped.
        """
        cdef Py_ssize_t n = self.n_frames // self.step + self.begun
        knots = np.empty((n, BANDS), np.float32)
        cdef float[:, ::1] out = knots
        if n:
            self._solve(&out[0, 0], n)
        self._start()
        return knots

    cdef double _reference_db(self) noexcept nogil:
        return BINS_FROM_DB + (self.reference + 0.5) / BINS_A_DB

    cdef double _lift(self, double level_db) noexcept nogil:
        """How much a frame is raised."""
        cdef double lowest_db = LOWEST_ENERGY_DB
        if self.any_level:
            lowest_db = max(self._reference_db() - RANGE_DB, <double>BINS_FROM_DB)
        return max(lowest_db - level_db, 0.0)

    cdef double _weight(self, double level_db) noexcept nogil:
        """Weight of a frame by its level."""
        cdef double below_db = level_db + FULL_WEIGHT_DB - self._reference_db()
        if below_db >= 0.0:
            return 1.0
        return max(pow(10.0, below_db / 20.0), LEAST_WEIGHT)

    cdef void _count(self, double level_db) noexcept nogil:
        """Add a frame to the histogram; move the reference to where it belongs."""
        cdef double place = (level_db - BINS_FROM_DB) * BINS_A_DB
        cdef int i, bin = <int>min(max(place, 0.0), <double>(N_BINS - 1))
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

    cdef void _extend(self, Knot *left, Knot *right, Py_ssize_t first) noexcept nogil:
        """Add the interval that begins with a frame: finish the knot before it, begin the next.

        left : NULL before the first knot, which stands for the frames before it, too
        """
        cdef double level_db, lift_db, weight, share, to_left, to_right, value, ratio = 0.0
        cdef Py_ssize_t i
        cdef int k
        memset(right, 0, sizeof(Knot))
        for i in range(self.step):
            level_db = self.levels_db[first + i]
            lift_db = self._lift(level_db)
            weight = self._weight(level_db + lift_db)
            share = <double>(i + 1) / self.step if left != NULL else 1.0
            to_left = weight * (1.0 - share)
            to_right = weight * share
            right.diagonal += to_right * share
            if left != NULL:
                left.diagonal += to_left * (1.0 - share)
                left.coupling += to_left * share
            for k in range(BANDS):
                value = self.frames[first + i, k] + lift_db
                right.right[k] += to_right * value
                if left != NULL:
                    left.right[k] += to_left * value
        if left != NULL:
            ratio = left.coupling / left.diagonal
            right.diagonal -= ratio * left.coupling
            for k in range(BANDS):
                right.right[k] -= ratio * left.right[k]

    cdef void _solve(self, float *out, Py_ssize_t n) noexcept nogil:
        """Put out the n oldest knots, solved back from the newest; keep what is before the next."""
        cdef Knot knots[MAX_PENDING + 1]
        cdef double u[BANDS]
        cdef Py_ssize_t i, first = 0, last = 0
        cdef int k
        if self.begun:
            knots[0] = self.oldest
        else:
            self._extend(NULL, &knots[0], 0)
            first = self.step
        while first + (last + 1) * self.step <= self.n_frames:
            self._extend(&knots[last], &knots[last + 1], first + last * self.step)
            last += 1
            if last == 1:
                self.oldest = knots[1]
        memset(u, 0, sizeof(u))
        for i in range(last, -1, -1):
            for k in range(BANDS):
                u[k] = (knots[i].right[k] - knots[i].coupling * u[k]) / knots[i].diagonal
                if i < n:
                    out[i * BANDS + k] = <float>u[k]
        self.begun = True
        first += self.step
        self.n_frames = max(self.n_frames - first, 0)
        memmove(&self.frames[0, 0], &self.frames[first, 0], self.n_frames * BANDS * sizeof(float))
        memmove(&self.levels_db[0], &self.levels_db[first], self.n_frames * sizeof(double))
