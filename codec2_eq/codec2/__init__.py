# SPDX-License-Identifier: LGPL-2.1-or-later
"""Codec 2's numbers, each with its source; `__init__.pxd` has those that compiled modules need."""

from __future__ import annotations

RATE_HZ = 8000
"""Sample rate of Codec 2 [Hz]; codec2 FS."""

K = 20
"""Bands of a rate-K vector; codec2 NEWAMP1_K."""

HOP_MS = 10
"""Time between two analysis frames [ms]; codec2 N_S."""

HOP = RATE_HZ * HOP_MS // 1000
"""Samples between two analysis frames."""

FRAME_MS = 40
"""Time between two frames of a 700C stream [ms]; codec2 codec2_encode_700c."""

FRAME_S = FRAME_MS / 1000

SAMPLES_PER_FRAME = RATE_HZ * FRAME_MS // 1000
"""Samples of a frame of a 700C stream."""

FRAME_MS_CHOICES = (10, 20, FRAME_MS)
"""Intervals at which vectors are put out [ms]."""

SHORTEST_PERIOD, LONGEST_PERIOD = 20, 160
"""Pitch periods [samples]; codec2 P_MIN_S, P_MAX_S."""

MAX_AMP = 160
"""Harmonics that codec2's records have room for; codec2 MAX_AMP."""

STAGE_SHAPE = (512, K)
"""Entries and bands of each of the two stages of the quantiser; codec2 newamp1vq_cb."""

LOWEST_ENERGY_DB = 10
"""Lowest step of the energy of a frame [dB]; codec2 newamp1_energy_cb."""

C2_MAGIC = b"\xc0\xde\xc2"
"""First bytes of a ``.c2`` file; codec2 c2file.h."""

# fmt: off
CODEBOOK_MEAN_DB = (
    7.6937, 8.6581, 10.1806, 10.8578, 9.7775, 7.7603, 5.4362, 2.9445, 1.0574, 0.1166,
    -0.8310, -1.5471, -2.5255, -4.3444, -4.9244, -5.2792, -6.8080, -7.8129, -7.5985, -22.8119,
)
# fmt: on
"""Mean of the 512 entries of the first stage plus that of the second [dB]: what an average shape is
for the quantiser. Generator: sum(book.mean(0) for book in libcodec2.codebook_700c()). A table,
because opening libcodec2 would take longer than everything else at the start."""
