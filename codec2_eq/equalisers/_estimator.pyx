# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled recursion of `codec2_eq.equalisers.estimator`; see estimator.h for its promises."""

import numpy as np

from libc.stdint cimport int64_t

cdef extern from "estimator.h":
    int GROUP
    cdef struct product:
        const float *kernel
        const float *bias
        int inputs
        int columns
    cdef struct estimator:
        product products[3]
        const float *reference
        const float *start
        int n_bands, columns
        float leak, unit_db, level_floor, least_weight, surprise_rate, peak_fall_db
        float level_range_db, silence_db, reach_db, still_db
    cdef struct work:
        float *curve
        float *weight
        float *surprise
        float *last
        float *peak
        float *shape
        float *seen
        float *hidden1
        float *hidden2
        float *given
        float *lack
        float *trust
        float *trim
        float *out
    void codec2_eq_estimate(const estimator *e, work *w, const float *vectors, float *out,
                            int64_t n, int wide) nogil


def _filled(array):
    """Fill up the last axis with zeros to whole groups."""
    array = np.asarray(array, np.float32)
    *rows, width = array.shape
    wide = np.zeros((*rows, (width + GROUP - 1) // GROUP * GROUP), np.float32)
    wide[..., :width] = array
    return wide


cdef class Estimator:
    """The weights of one recursive estimator, laid out for the step.

    reference, start : (n_bands,);  kernels, biases : three each;  settings : floats by name
    """

    cdef estimator _estimator
    cdef list _kept

    def __init__(self, reference, start, kernels, biases, *, float leak, float unit_db,
                 float level_floor, float least_weight, float surprise_rate, float peak_fall_db,
                 float level_range_db, float silence_db, float reach_db, float still_db):
        cdef const float[::1] row
        cdef const float[:, ::1] table
        cdef estimator *e = &self._estimator
        self._kept = [_filled(reference), _filled(start)]
        row = self._kept[0]
        e.reference = &row[0]
        e.n_bands, e.columns = len(reference), <int>row.shape[0]
        row = self._kept[1]
        e.start = &row[0]
        for i in range(3):
            table, row = _filled(kernels[i]), _filled(biases[i])
            self._kept += [table, row]
            e.products[i].kernel, e.products[i].bias = &table[0, 0], &row[0]
            e.products[i].inputs = <int>table.shape[0]
            e.products[i].columns = <int>table.shape[1]
        e.leak, e.unit_db, e.level_floor = leak, unit_db, level_floor
        e.least_weight, e.surprise_rate, e.peak_fall_db = least_weight, surprise_rate, peak_fall_db
        e.level_range_db, e.silence_db, e.reach_db = level_range_db, silence_db, reach_db
        e.still_db = still_db

    def run(self, const float[:, ::1] vectors, dict state, *, bint wide=True):
        """Equalise (n, n_bands) vectors in dB; return the shapes and the state after them.

        state : ``curve`` dB, ``weight`` in frames, ``surprise`` and, with a gate, ``last`` dB
            (n_bands,), and ``peak`` (1,) dB; not modified
        wide : use the widest vectors that the processor has; the result is the same
        """
        cdef estimator *e = &self._estimator
        cdef work w
        cdef int n_bands = e.n_bands, padded = e.columns
        cdef int64_t n = vectors.shape[0]
        if vectors.shape[1] != n_bands:
            raise ValueError(f"vectors of {vectors.shape[1]} bands, expected {n_bands}")
        # bands: 4 of state, shape, seen (and 3 more), lack, trust, trim, out
        cdef float[:, ::1] bands = np.zeros((10, padded + GROUP), np.float32)
        cdef float[::1] hidden1 = np.empty(e.products[0].columns, np.float32)
        cdef float[::1] hidden2 = np.empty(e.products[1].columns, np.float32)
        cdef float[::1] given = np.empty(e.products[2].columns, np.float32)
        cdef float[::1] peak = np.array(state["peak"], np.float32)
        result = np.empty((n, n_bands), np.float32)
        cdef float[:, ::1] out = result
        held = np.asarray(bands)
        held[1] = 1
        names = [name for name in ("curve", "weight", "surprise", "last") if name in state]
        for i, name in enumerate(names):
            held[i, :n_bands] = state[name]
        w.curve, w.weight, w.surprise, w.last = (
            &bands[0, 0], &bands[1, 0], &bands[2, 0], &bands[3, 0]
        )
        w.peak, w.shape, w.seen, w.lack = &peak[0], &bands[4, 0], &bands[5, 0], &bands[6, 0]
        w.trust, w.trim, w.out = &bands[7, 0], &bands[8, 0], &bands[9, 0]
        w.hidden1, w.hidden2, w.given = &hidden1[0], &hidden2[0], &given[0]
        if n:
            with nogil:
                codec2_eq_estimate(e, &w, &vectors[0, 0], &out[0, 0], n, wide)
        after = {name: held[i, :n_bands].copy() for i, name in enumerate(names)}
        after["peak"] = np.asarray(peak)
        return result, after
