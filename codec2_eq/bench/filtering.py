# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audio filter as a method of the bench: `NAME:filter`, or `NAME:2:filter` with two passes.

A suffix `:RATE` runs it at that rate, in stereo.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import to_s16
from codec2_eq.audiofilter.equaliser import AudioEqualiser
from codec2_eq.bench.methods import TWO_PASSES
from codec2_eq.codec2 import FRAME_MS, RATE_HZ
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.errors import Codec2EqError

BEHIND_FILTER = ":filter"

Pcm = NDArray[np.int16]
Filter = Callable[[Pcm], Pcm]
Start = Callable[[], AudioEqualiser]


def load_filter(name: str) -> Filter:
    """Return a function that filters a passage (n,) at 8 kHz from a cold start, without delay.

    name : an equaliser and BEHIND_FILTER; TWO_PASSES between them lets it hear the passage first.
        After a further colon, another rate in Hz: the passage is resampled to it, filtered as two
        equal channels, and one of them resampled back
    Raises Codec2EqError for a rate or an equaliser that the filter cannot take.
    """
    model, _, rate = name.partition(BEHIND_FILTER)
    rate = rate.removeprefix(":") or str(RATE_HZ)
    if not rate.isdecimal():
        raise Codec2EqError(
            f"method {name!r}", f"{rate!r} is not a rate", "such as NAME:filter:48000"
        )
    rate_hz = int(rate)
    equaliser = load_equaliser(model.removesuffix(TWO_PASSES), frame_ms=FRAME_MS)
    start = partial(AudioEqualiser, equaliser, rate_hz, channels=1 if rate_hz == RATE_HZ else 2)
    start()  # raises if it cannot take them
    return partial(_filtered, start, rate_hz, model.endswith(TWO_PASSES))


def _filtered(start: Start, rate_hz: int, twice: bool, passage: Pcm) -> Pcm:
    if rate_hz == RATE_HZ:
        return _run(start, twice, passage)
    import soxr

    raised = soxr.resample(passage.astype(np.float32), RATE_HZ, rate_hz)
    channel = to_s16(raised)
    out = _run(start, twice, np.stack([channel, channel], axis=1))[:, 0]
    back = to_s16(soxr.resample(out.astype(np.float32), rate_hz, RATE_HZ))[: len(passage)]
    return np.pad(back, (0, len(passage) - len(back)))


def _run(start: Start, twice: bool, samples: Pcm) -> NDArray[Any]:
    filtering = start()
    if twice:
        filtering.hear(samples)
        known = filtering.state()
        filtering = start()
        filtering.restore(known)
    return np.concatenate([filtering.process(samples), filtering.flush()])
