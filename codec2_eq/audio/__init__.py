# SPDX-License-Identifier: LGPL-2.1-or-later
"""Audio files and streams to mono 8 kHz blocks in the scale of int16."""

from codec2_eq.audio.stream import (
    RAW_SUFFIXES,
    AudioStream,
    audio_duration,
    read_audio,
    stream_audio,
)

__all__ = ["AudioStream", "RAW_SUFFIXES", "audio_duration", "read_audio", "stream_audio"]
