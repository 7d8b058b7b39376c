# SPDX-License-Identifier: LGPL-2.1-or-later
"""The analysis, compiled for x86-64-v3 (AVX2), without fused multiply-add."""

include "stages.pxi"
