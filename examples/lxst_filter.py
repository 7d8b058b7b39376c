# SPDX-License-Identifier: LGPL-2.1-or-later
"""The equaliser as a filter of LXST, the voice layer of Reticulum.

    from lxst_filter import Equaliser
    LineSource(codec=Codec2(mode=Codec2.CODEC2_700C), filters=[BandPass(250, 8500), Equaliser()])

LXST calls `handle_frame(frame, samplerate)` of each filter, in order, with float samples of full
scale 1, (n, channels) or (n,), and goes on with what comes back, which must have the same shape. So
the first frames are led in by `latency_s` of silence, and the rest follow that much later. It
replaces LXST's automatic gain: `level="auto"` brings speech to where Codec 2 does best.
"""

from __future__ import annotations

import math

import numpy as np

import codec2_eq as ce


class Equaliser:
    """Takes microphone and voice off what Codec 2 is to hear; derive from LXST.Filters.Filter."""

    def __init__(self, model: str = "channel_eq", level: str = "auto") -> None:
        self._model = model
        self._level = level
        self._equaliser: ce.AudioEqualiser | None = None
        self._ready = np.empty((0, 1), np.float32)

    def handle_frame(self, frame: np.ndarray, samplerate: float) -> np.ndarray:
        """Return the next samples, as many and of the shape of the frame."""
        if not len(frame):
            return frame
        block = np.asarray(frame, np.float32).reshape(len(frame), -1)
        equaliser = self._for(samplerate, block.shape[1])
        out = equaliser.process(block)
        self._ready = np.concatenate((self._ready, out.reshape(-1, block.shape[1])))
        given, self._ready = np.split(self._ready, [len(block)])
        return given.reshape(frame.shape).astype(frame.dtype)

    def _for(self, rate: float, channels: int) -> ce.AudioEqualiser:
        """Start afresh where rate or channels change."""
        now = self._equaliser
        if now is None or (now.rate, now.channels) != (rate, channels):
            now = ce.AudioEqualiser(self._model, rate, level=self._level, channels=channels)
            self._equaliser = now
            self._ready = np.zeros((math.ceil(now.latency_s * rate), channels), np.float32)
        return now
