# SPDX-License-Identifier: LGPL-2.1-or-later
"""Noise for the tests, and WAV files with headers that state anything."""

import struct

import numpy as np


def noise(n_samples, channels=1, seed=0):
    """Return int16 noise (n_samples, channels) over the whole range, without its very ends."""
    rng = np.random.default_rng(seed)
    return rng.integers(-32766, 32767, (n_samples, channels), dtype=np.int16)


def wav_bytes(
    samples,
    rate=8000,
    *,
    data_bytes=None,
    riff_bytes=None,
    tag=1,
    before=b"",
    after=b"",
    magic=b"RIFF",
):
    """Return a WAV file of integer or float samples (n, channels), sizes as told."""
    data = samples.tobytes()
    width = samples.dtype.itemsize
    channels = samples.shape[1]
    head = (
        b"WAVE"
        + before
        + b"fmt "
        + struct.pack(
            "<IHHIIHH",
            16,
            tag,
            channels,
            rate,
            rate * width * channels,
            width * channels,
            8 * width,
        )
    )
    data_bytes = len(data) if data_bytes is None else data_bytes
    if riff_bytes is None:
        riff_bytes = len(head) + 8 + len(data) + len(after)
    head = magic + struct.pack("<I", riff_bytes) + head + b"data" + struct.pack("<I", data_bytes)
    return head + data + after
