#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Any mode of Codec 2 through pycodec2, its microphone equalised first.

    python examples/pycodec2_equalised.py speech.wav heard.wav 1300

`AudioEqualiser` stands where a band pass and an automatic gain would: it takes the curve of
microphone and voice off and brings the level to where Codec 2 does best.
"""

from __future__ import annotations

import sys

import numpy as np
import pycodec2
import soundfile as sf

import codec2_eq as ce
from codec2_eq.audio import read_audio

RATE_HZ = 8000
BLOCK = 160


def through_codec2(samples: np.ndarray, mode: int) -> np.ndarray:
    """Speech (n,) int16 at 8 kHz through the equaliser, Codec 2 and back."""
    codec = pycodec2.Codec2(mode)
    equaliser = ce.AudioEqualiser("channel_eq", RATE_HZ)
    size = codec.samples_per_frame()
    held = np.empty(0, np.int16)
    heard = [held]
    blocks = [samples[i : i + BLOCK] for i in range(0, len(samples), BLOCK)]  # as they arrive
    for equalised in [*map(equaliser.process, blocks), equaliser.flush()]:
        held = np.concatenate((held, equalised))
        while len(held) >= size:
            heard.append(codec.decode(codec.encode(held[:size])))
            held = held[size:]
    return np.concatenate(heard)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: pycodec2_equalised.py IN.wav OUT.wav MODE (3200 2400 1600 1400 1300 700)")
    speech = read_audio(sys.argv[1])
    pcm = np.clip(np.rint(speech), -32768, 32767).astype(np.int16)
    sf.write(sys.argv[2], through_codec2(pcm, int(sys.argv[3])), RATE_HZ)
