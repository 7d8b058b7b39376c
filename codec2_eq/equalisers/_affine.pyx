# SPDX-License-Identifier: LGPL-2.1-or-later
"""Matrix product of a network layer, summed in one fixed order.

BLAS picks its kernel by the number of rows, so a frame alone and the same frame within a file
may differ in the last bit; a stream must not. Here every output is one chain of float32 sums
over the inputs, in order, whatever the number of rows, threads or the make of the processor
(build with ``-ffp-contract=off``).
"""
import numpy as np


def affine(const float[:, ::1] rows, const float[:, ::1] kernel, const float[::1] bias):
    """rows @ kernel + bias.

    rows : (n, inputs), kernel : (inputs, outputs), bias : (outputs,); float32, C order.
    Returns a new (n, outputs) float32 array. The shapes are the caller's to check.
    """
    cdef Py_ssize_t n = rows.shape[0], inputs = kernel.shape[0], outputs = kernel.shape[1]
    result = np.empty((n, outputs), np.float32)
    if n == 0 or outputs == 0:
        return result
    cdef float[:, ::1] out = result
    cdef const float* weight
    cdef float* y
    cdef float x
    cdef Py_ssize_t i, j, k
    with nogil:
        for i in range(n):
            y = &out[i, 0]
            for j in range(outputs):
                y[j] = 0.0
            for k in range(inputs):
                x = rows[i, k]
                weight = &kernel[k, 0]
                for j in range(outputs):
                    y[j] += x * weight[j]
            for j in range(outputs):
                y[j] += bias[j]
    return result
