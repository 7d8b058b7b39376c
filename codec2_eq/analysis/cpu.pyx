# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the processor can do, asked at import to choose among the compiled variants."""

cdef extern from *:
    """
    static int has_x86_64_v3(void) {
    #if defined(__x86_64__) && defined(__GNUC__)
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
    #else
        return 0;
    #endif
    }
    static int has_x86_64_v4(void) {
    #if defined(__x86_64__) && defined(__GNUC__)
        return has_x86_64_v3() && __builtin_cpu_supports("avx512f")
            && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    #else
        return 0;
    #endif
    }
    """
    bint has_x86_64_v3()
    bint has_x86_64_v4()


def supports(str variant):
    """Return whether a variant of the analysis runs here."""
    if variant == "x86_64_v4":
        return has_x86_64_v4()
    return variant == "baseline" or (variant == "x86_64_v3" and has_x86_64_v3())
