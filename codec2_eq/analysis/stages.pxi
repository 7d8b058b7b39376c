# SPDX-License-Identifier: LGPL-2.1-or-later
# One compilation unit for each instruction set: the stages in the order of the data's way.

include "types.pxi"
include "fft.pxi"
include "pitch.pxi"
include "spectrum.pxi"
include "harmonics.pxi"
include "ratek.pxi"
include "frames.pxi"
