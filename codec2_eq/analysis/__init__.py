# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled analysis, in the variant that suits the processor.

The variants are one source compiled for several instruction sets and give the same bits.
``CODEC2_EQ_ISA=baseline`` in the environment holds the package to the portable one.
"""

from __future__ import annotations

import importlib
import os
import types

VARIANTS = ("x86_64_v3", "baseline")
"""Names of the compiled variants, best first."""

_CPU_FLAGS = {"x86_64_v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}, "baseline": set()}


def _processor_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpuinfo:
            for line in cpuinfo:
                if line.startswith("flags"):
                    return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()
