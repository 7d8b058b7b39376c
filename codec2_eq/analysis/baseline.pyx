# SPDX-License-Identifier: LGPL-2.1-or-later
"""The analysis, compiled for any machine of the architecture."""

include "stages.pxi"
