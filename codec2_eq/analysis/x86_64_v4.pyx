# SPDX-License-Identifier: LGPL-2.1-or-later
"""The analysis, compiled for x86-64-v4 (AVX-512), without fused multiply-add."""

include "stages.pxi"
