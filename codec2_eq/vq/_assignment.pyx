# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sums over the vectors that share an entry, compiled for `codec2_eq.vq.train`."""

from libc.stdint cimport int64_t


def add_assigned(const float[:, ::1] targets, const int64_t[::1] chosen,
                 const float[:, ::1] entries, const double[::1] limits, double[:, ::1] sums,
                 int64_t[::1] counts, double[::1] errors, int64_t[::1] outliers):
    """Add a block of vectors to running sums.

    targets : (n, n_bands);  chosen : (n,) rows of entries (size, n_bands)
    limits : squared errors beyond which a vector is counted in `outliers`, of the same length
    sums : (size, n_bands);  counts, errors : (size,), vectors and squared errors
    Raises IndexError, and adds nothing, if `chosen` names a row that `entries` does not have, and
    ValueError if the arrays do not fit each other.
    """
    cdef Py_ssize_t n = targets.shape[0], n_bands = targets.shape[1], size = entries.shape[0], i, k
    cdef int64_t entry
    cdef double error, difference
    if (chosen.shape[0] != n or entries.shape[1] != n_bands or sums.shape[0] != size
            or sums.shape[1] != n_bands or counts.shape[0] != size or errors.shape[0] != size
            or outliers.shape[0] != limits.shape[0]):
        raise ValueError("arrays of vectors, entries and sums do not fit each other")
    for i in range(n):
        if not 0 <= chosen[i] < size:
            raise IndexError(f"vector {i} is assigned to entry {chosen[i]} of {size}")
    with nogil:
        for i in range(n):
            entry = chosen[i]
            error = 0
            for k in range(n_bands):
                difference = targets[i, k] - entries[entry, k]
                error += difference * difference
                sums[entry, k] += targets[i, k]
            counts[entry] += 1
            errors[entry] += error
            for k in range(limits.shape[0]):
                outliers[k] += error > limits[k]
