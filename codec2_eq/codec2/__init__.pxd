# SPDX-License-Identifier: LGPL-2.1-or-later
# The numbers of `codec2.py` that array sizes and loops of compiled modules need; a test holds the
# two to each other.

cdef enum:
    K = 20
    HOP = 80
    SAMPLES_PER_FRAME = 320
    FRAME_MS = 40
    SHORTEST_PERIOD = 20
    LONGEST_PERIOD = 160
    LOWEST_ENERGY_DB = 10

cdef extern from *:
    """
    #define CODEC2_PI 3.141592654
    #define CODEC2_TWO_PI 6.283185307
    """
    const double PI "CODEC2_PI"          # codec2 PI and TWO_PI: not pi to the last digit
    const double TWO_PI "CODEC2_TWO_PI"
