# SPDX-License-Identifier: LGPL-2.1-or-later
# What all stages share: lanes, pointer types, Codec 2's own constants.
#
# Every stage works on LANES frames at once. A "row" is one quantity of all lanes, contiguous in
# memory, so that the innermost loop of each stage runs over the lanes and vectorises, while the
# operations of each single frame keep the order that the reference has.

from codec2_eq.codec2 cimport HOP, K as BANDS, LONGEST_PERIOD, PI, SHORTEST_PERIOD, TWO_PI
from codec2_eq.codec2 cimport SAMPLES_PER_FRAME as FRAME  # of the analysis buffer Sn; codec2 m_pitch
from libc.math cimport ceilf, cosf, log10f, sinf, sqrtf

cdef extern from *:
    """
    typedef float *__restrict row_t;
    typedef const float *__restrict const_row_t;
    #if defined(__AVX512F__)
    #define VEC 16
    #elif defined(__AVX__)
    #define VEC 8
    #else
    #define VEC 4
    #endif
    typedef float vec_t __attribute__((vector_size(4 * VEC), aligned(4), may_alias));
    #define VEC_ZERO ((vec_t){0})
    """
    ctypedef float* row_t          # a row that no other pointer of the function overlaps
    ctypedef const float* const_row_t
    ctypedef float vec_t           # VEC neighbouring lanes in a register, where the compiler would
    vec_t VEC_ZERO                 # not keep them there by itself
    int VEC

cdef enum:
    LANES = 16          # frames at a time: a row is one cache line
    HISTORY = FRAME - HOP  # samples of the buffer that are older than the newest hop
    N_FFT = 512         # codec2 FFT_ENC, and PE_FFT_SIZE of the pitch estimator

cdef double TRUE_PI = 3.14159265358979323846
cdef double SAMPLE_RATE = 8000.0      # [Hz]
