# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audible error of a 700C stream: the decoder's spectrum every 10 ms, against unshaped speech.

The decoder draws straight lines, in dB, between the vectors of 40 ms frames. `heard_error` compares
what lies on them, energy included and before the post filter, with the vectors of the unshaped
recording at 10 ms. A constant curve (a microphone's) and a constant gain do not count: each band's
mean difference over the passage is subtracted. Intelligibility follows this measure more closely
than any at 40 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec2_eq.bench.measures import speech_activity
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.codec2.library import BYTES_PER_FRAME, codebook_700c
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.stream700c.frames import FRAME_MS, header_length, unpack_frames
from codec2_eq.stream700c.level import energy_levels_db
from codec2_eq.vq.quantiser import Quantiser

HEARD_MS = 10
STEPS = FRAME_MS // HEARD_MS  # the decoder's, from one knot to the next
FIRST_KNOT = STEPS - 1  # 10 ms frames 3, 7, 11, … are sent
LONGEST_DELAY = 6
"""Longest delay of any mode of Codec 2, look-ahead and a frame [frames of 10 ms]."""

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Heard:
    """Mean square errors per band, dB^2: `total` is the sum of its level part and its shape part.

    level : of the frames' means;  shape : of what is left;  frames : active 10 ms frames measured
    """

    level: float
    shape: float
    frames: int

    @property
    def total(self) -> float:
        """H."""
        return self.level + self.shape

    def __add__(self, other: Heard) -> Heard:
        """The error over the frames of both passages, each with its own constant differences."""
        frames = self.frames + other.frames
        share = self.frames / frames
        return Heard(
            level=share * self.level + (1 - share) * other.level,
            shape=share * self.shape + (1 - share) * other.shape,
            frames=frames,
        )


def heard_error(bits: bytes, reference_10ms: Floats, *, from_s: float = 0.0) -> Heard:
    """Measure what a stock decoder makes of a 700C stream of one passage.

    bits : the stream, with or without header
    reference_10ms : (n, 20) rate-K vectors of the unshaped passage at 10 ms, mean included, dB
    from_s : seconds of active speech to leave out at the start, while an equaliser learns
    Raises Codec2EqError if no active speech is left, or the stream is not of that passage.
    """
    lines = decoder_lines(stream_knots(bits))
    reference = np.asarray(reference_10ms)
    if not 0 <= len(reference) - FIRST_KNOT - len(lines) < 2 * STEPS:
        raise Codec2EqError(
            f"stream that ends at {(FIRST_KNOT + len(lines)) * HEARD_MS} ms",
            f"its reference has {len(reference) * HEARD_MS} ms",
            "give the passage that was encoded",
        )
    active = speech_activity(reference.mean(axis=1))
    return spectral_error(
        lines,
        reference[FIRST_KNOT:][: len(lines)],
        active[FIRST_KNOT:][: len(lines)],
        from_s=from_s,
    )


def decoded_error(
    speech: NDArray[np.int16], reference_10ms: Floats, *, from_s: float = 0.0
) -> Heard:
    """As `heard_error`, for speech (n,) at 8 kHz decoded from any mode, post filter included.

    The smallest error over all delays up to LONGEST_DELAY counts.
    """
    heard = extract(speech, RATE_HZ, frame_ms=HEARD_MS).vectors
    reference = np.asarray(reference_10ms)
    active = speech_activity(reference.mean(axis=1))
    found = []
    for delay in range(LONGEST_DELAY + 1):
        n = min(len(heard) - delay, len(reference))
        part = heard[delay : delay + n], reference[:n], active[:n]
        found.append(spectral_error(*part, from_s=from_s))
    return min(found, key=lambda error: error.total)


def stream_knots(bits: bytes) -> NDArray[np.float32]:
    """Vectors that a 700C stream sends, shape and energy, one every 40 ms: (n, 20) dB."""
    frames = bits[header_length(bits, required=False, name="stream") :]
    if len(frames) % BYTES_PER_FRAME:
        raise Codec2EqError("stream", f"{len(frames)} bytes, not whole frames", "give all of it")
    indexes, energies, _ = unpack_frames(frames)
    return Quantiser(codebook_700c()).lookup(indexes) + energy_levels_db()[energies, None]


def decoder_lines(knots: Floats) -> NDArray[np.float32]:
    """The decoder's vectors every 10 ms, from the first of (n, K) knots to the last.

    Returns (4 n - 3, K) dB; the first faces 10 ms frame 3. What the decoder plays before its first
    knot, a line from 0 dB, is left out.
    Source: Codec 2, newamp1_interpolate.
    """
    if not len(knots):
        return np.zeros(knots.shape, np.float32)
    share = (np.arange(STEPS) / np.float32(STEPS)).astype(np.float32)[:, None]
    lines = (1 - share) * knots[:-1, None] + share * knots[1:, None]
    return np.concatenate([lines.reshape(-1, knots.shape[1]), knots[-1:]])


def spectral_error(
    heard: Floats, reference: Floats, active: NDArray[np.bool_], *, from_s: float = 0.0
) -> Heard:
    """Mean square error of active frames, less each band's mean difference.

    heard, reference : (n, K) vectors at 10 ms, mean included, dB;  active : (n,)
    from_s : seconds of active speech to leave out at the start
    Raises Codec2EqError if no active frame is left.
    """
    measured = np.flatnonzero(active)[round(from_s * 1000 / HEARD_MS) :]
    if not len(measured):
        raise Codec2EqError(
            "", f"no active speech after the first {from_s:g} s of it", "give a longer passage"
        )
    error = np.asarray(heard, np.float64)[measured] - reference[measured]
    error -= error.mean(axis=0)
    level = error.mean(axis=1)
    return Heard(
        level=float(np.square(level).mean()),
        shape=float(np.square(error - level[:, None]).mean()),
        frames=len(measured),
    )
