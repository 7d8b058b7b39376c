# SPDX-License-Identifier: LGPL-2.1-or-later
"""Audio files and streams in blocks in the scale of int16, at their own rate or mono 8 kHz."""

from codec2_eq.audio.pcm import FULL_SCALE
from codec2_eq.audio.stream import (
    RAW_SUFFIXES,
    AudioStream,
    NativeStream,
    audio_duration,
    open_native,
    read_audio,
    stream_audio,
)
from codec2_eq.audio.writer import WavWriter

__all__ = [
    "FULL_SCALE",
    "RAW_SUFFIXES",
    "AudioStream",
    "NativeStream",
    "WavWriter",
    "audio_duration",
    "open_native",
    "read_audio",
    "stream_audio",
]
