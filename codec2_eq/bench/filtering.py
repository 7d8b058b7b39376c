# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audio filter as a method of the bench: `NAME:filter`, and `NAME:filter:RATE` in stereo."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audiofilter.equaliser import AudioEqualiser
from codec2_eq.codec2 import FRAME_MS, RATE_HZ
from codec2_eq.equalisers.equaliser import Equaliser, load_equaliser
from codec2_eq.errors import Codec2EqError

BEHIND_FILTER = ":filter"

Pcm = NDArray[np.int16]
Filter = Callable[[Pcm], Pcm]


def load_filter(name: str) -> Filter:
    """Return a function that filters a passage (n,) at 8 kHz from a cold start, without delay.

    name : an equaliser and BEHIND_FILTER, and then, after a colon, another rate in Hz: the passage
        is resampled to it, filtered as two equal channels, and one of them resampled back
    Raises Codec2EqError for a rate or an equaliser that the filter cannot take.
    """
    model, _, rate = name.partition(BEHIND_FILTER)
    rate = rate.removeprefix(":") or str(RATE_HZ)
    if not rate.isdecimal():
        raise Codec2EqError(f"method {name!r}", f"{rate!r} is no rate", "say NAME:filter:48000")
    rate_hz = int(rate)
    equaliser = load_equaliser(model, frame_ms=FRAME_MS)
    AudioEqualiser(equaliser, rate_hz)  # raises if it cannot take them
    return partial(_filtered, equaliser, rate_hz)


def _filtered(equaliser: Equaliser, rate_hz: int, passage: Pcm) -> Pcm:
    if rate_hz == RATE_HZ:
        return _run(AudioEqualiser(equaliser), passage)
    import soxr

    raised = soxr.resample(passage.astype(np.float32), RATE_HZ, rate_hz)
    channel = np.clip(np.rint(raised), -32768, 32767).astype(np.int16)
    both = np.stack([channel, channel], axis=1)
    out = _run(AudioEqualiser(equaliser, rate_hz, channels=2), both)[:, 0]
    back = np.rint(soxr.resample(out.astype(np.float32), rate_hz, RATE_HZ))[: len(passage)]
    padded = np.pad(back, (0, len(passage) - len(back)))
    return np.clip(padded, -32768, 32767).astype(np.int16)


def _run(filtering: AudioEqualiser, samples: Pcm) -> NDArray[Any]:
    return np.concatenate([filtering.process(samples), filtering.flush()])
