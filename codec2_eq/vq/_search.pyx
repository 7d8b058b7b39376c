# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled search behind `codec2_eq.vq.quantiser.Quantiser`; see search.h for what it guarantees."""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

import numpy as np

cdef extern from "search.h":
    int GROUP
    cdef struct stage:
        const float *grouped
        const float *plain
        int32_t n_groups
    cdef struct survivor:
        float error
        int32_t entry
        int32_t parent
    void codec2_eq_mbest(const float *x, int64_t n, int k, const stage *stages, int n_stages,
                         int survivors, int32_t *indexes, float *work, survivor *list_,
                         int32_t *paths, int wide) nogil

FILLER = np.float32(1e18)
"""Band value of the entries that fill up a last group: its square is over any error allowed."""

LINE_BYTES = 64
"""Of a cache line: vectors of 16 floats that cross them take twice as long to load."""

MOST_ROOM = 1 << 26
"""Values of all survivors together: 256 MB."""


def group_entries(codebook):
    """Lay out a codebook for the search.

    codebook : (size, k) float32
    Returns (groups, k, GROUP) float32, C-contiguous, at the beginning of a cache line.
    """
    size, k = codebook.shape
    n_groups = -(-size // GROUP)
    padded = np.full((n_groups * GROUP, k), FILLER, dtype=np.float32)
    padded[:size] = codebook
    cdef float[::1] room = np.empty(padded.size + GROUP, dtype=np.float32)
    first = -<size_t>&room[0] % LINE_BYTES // sizeof(float)
    grouped = np.asarray(room[first : first + padded.size]).reshape(n_groups, k, GROUP)
    grouped[...] = padded.reshape(n_groups, GROUP, k).transpose(0, 2, 1)
    return grouped


def search(const float[:, ::1] vectors, codebooks, grouped, int survivors, *, bint wide=True):
    """Return the m-best indexes, (n, n_stages) int32; the GIL is released meanwhile.

    vectors : (n, k);  codebooks : (size, k) arrays, float32 and C-contiguous
    grouped : `group_entries` of each;  survivors : at least 1
    wide : use the widest vectors that the processor has; the result is the same
    """
    cdef int n_stages = len(codebooks), k = vectors.shape[1], s
    cdef int64_t n = vectors.shape[0]
    cdef size_t room = <size_t>(survivors if survivors > 0 else 0)
    if not 1 <= room <= MOST_ROOM // max(k, n_stages, 1):
        raise ValueError(f"{survivors} survivors of {k} bands and {n_stages} stages")
    indexes = np.zeros((n, n_stages), dtype=np.int32)
    if n == 0:
        return indexes
    cdef int32_t[:, ::1] out = indexes
    cdef const float[:, ::1] plain_view
    cdef const float[:, :, ::1] grouped_view
    cdef float[::1] work = np.empty(2 * room * k, dtype=np.float32)
    cdef int32_t[::1] paths = np.zeros(2 * room * n_stages, dtype=np.int32)
    cdef stage *stages = <stage *>malloc(n_stages * sizeof(stage))
    cdef survivor *best = <survivor *>malloc(room * sizeof(survivor))
    try:
        if stages == NULL or best == NULL:
            raise MemoryError
        for s in range(n_stages):
            plain_view = codebooks[s]
            grouped_view = grouped[s]
            stages[s].plain = &plain_view[0, 0]
            stages[s].grouped = &grouped_view[0, 0, 0]
            stages[s].n_groups = <int32_t>grouped_view.shape[0]
        with nogil:
            codec2_eq_mbest(&vectors[0, 0], n, k, stages, n_stages, survivors, &out[0, 0],
                            &work[0], best, &paths[0], wide)
    finally:
        free(stages)
        free(best)
    return indexes
