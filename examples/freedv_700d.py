#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Put a 700C stream on the air as FreeDV 700D, and take it off again.

    codec2-eq encode speech.wav -o speech.c2
    python examples/freedv_700d.py transmit speech.c2 radio.wav
    python examples/freedv_700d.py receive radio.wav received.c2
    codec2-eq decode received.c2 -o received.wav

libcodec2's own modem does the work, through the library that pycodec2 carries: its FreeDV API takes
codec frames as raw data. A receiver needs some modem frames to find the signal, so the
transmission begins with a second of silence, and what is received begins somewhere within it.
"""

from __future__ import annotations

import ctypes
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codec2_eq.codec2.library import library
from codec2_eq.stream700c.frames import BYTES_PER_FRAME, HEADER, header_length

MODE_700D = 7
LEAD_IN_S = 1.0
TAIL_S = 0.5
"""What the receiver still holds when the last sample has come in."""


class Modem:
    """libcodec2's modem of FreeDV 700D."""

    def __init__(self) -> None:
        self._library = library()
        for name, result, *arguments in _FUNCTIONS:
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._modem = self._library.freedv_open(MODE_700D)
        if not self._modem:
            raise RuntimeError("this libcodec2 has no FreeDV 700D")
        self.rate_hz = self._library.freedv_get_modem_sample_rate(self._modem)
        bits = self._library.freedv_get_bits_per_modem_frame(self._modem)
        codec_bits = self._library.freedv_get_bits_per_codec_frame(self._modem)
        self.frames_at_once = bits // codec_bits
        self._raw_bytes = (bits + 7) // 8

    def __enter__(self) -> Modem:
        return self

    def __exit__(self, *exception: object) -> None:
        self._library.freedv_close(self._modem)

    def transmit(self, frames: bytes) -> Iterator[np.ndarray]:
        """Modem samples, int16, of codec frames, filled up with empty ones."""
        size = BYTES_PER_FRAME * self.frames_at_once
        samples = np.empty(self._library.freedv_get_n_tx_modem_samples(self._modem), np.int16)
        raw = ctypes.create_string_buffer(self._raw_bytes)
        for start in range(0, len(frames), size):
            group = frames[start : start + size].ljust(size, b"\0")
            self._library.freedv_rawdata_from_codec_frames(self._modem, raw, group)
            self._library.freedv_rawdatatx(self._modem, samples.ctypes.data, raw)
            yield samples.copy()

    def receive(self, samples: np.ndarray) -> Iterator[bytes]:
        """Codec frames of modem samples, from where the modem is in step on."""
        raw = ctypes.create_string_buffer(self._raw_bytes)
        size = BYTES_PER_FRAME * self.frames_at_once
        frames = ctypes.create_string_buffer(size + 1)  # libcodec2 clears a byte behind the frames
        position = 0
        while position + (needed := self._library.freedv_nin(self._modem)) <= len(samples):
            block = np.ascontiguousarray(samples[position : position + needed], np.int16)
            position += needed
            if self._library.freedv_rawdatarx(self._modem, raw, block.ctypes.data):
                self._library.freedv_codec_frames_from_rawdata(self._modem, frames, raw)
                yield frames.raw[:size]


_MODEM = ctypes.c_void_p
_FUNCTIONS = (
    ("freedv_open", _MODEM, ctypes.c_int),
    ("freedv_close", None, _MODEM),
    ("freedv_get_modem_sample_rate", ctypes.c_int, _MODEM),
    ("freedv_get_bits_per_modem_frame", ctypes.c_int, _MODEM),
    ("freedv_get_bits_per_codec_frame", ctypes.c_int, _MODEM),
    ("freedv_get_n_tx_modem_samples", ctypes.c_int, _MODEM),
    ("freedv_nin", ctypes.c_int, _MODEM),
    ("freedv_rawdata_from_codec_frames", None, _MODEM, ctypes.c_char_p, ctypes.c_char_p),
    ("freedv_codec_frames_from_rawdata", None, _MODEM, ctypes.c_char_p, ctypes.c_char_p),
    ("freedv_rawdatatx", None, _MODEM, ctypes.c_void_p, ctypes.c_char_p),
    ("freedv_rawdatarx", ctypes.c_int, _MODEM, ctypes.c_char_p, ctypes.c_void_p),
)


def transmit(stream: str, radio: str) -> None:
    """Modulate a .c2 file to a WAV of modem samples."""
    data = Path(stream).read_bytes()
    frames = data[header_length(data, required=True, name=stream) :]
    with Modem() as modem, wave.open(radio, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(modem.rate_hz)
        silence = bytes(BYTES_PER_FRAME) * round(LEAD_IN_S / 0.04)
        for samples in modem.transmit(silence + frames):
            out.writeframes(samples.astype("<i2").tobytes())
        out.writeframes(bytes(2 * round(TAIL_S * modem.rate_hz)))


def receive(radio: str, stream: str) -> None:
    """Demodulate a WAV of modem samples to a .c2 file."""
    with wave.open(radio, "rb") as recording:
        samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2")
    with Modem() as modem, open(stream, "wb") as out:
        out.write(HEADER)
        for frames in modem.receive(samples):
            out.write(frames)


if __name__ == "__main__":
    actions = {"transmit": transmit, "receive": receive}
    if len(sys.argv) != 4 or sys.argv[1] not in actions:
        sys.exit("usage: freedv_700d.py transmit IN.c2 OUT.wav | receive IN.wav OUT.c2")
    actions[sys.argv[1]](*sys.argv[2:])
