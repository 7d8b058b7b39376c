# SPDX-License-Identifier: LGPL-2.1-or-later
"""Samples as bytes: every encoding of WAV read, three of them written.

Integers of up to 16 bits are read as int16. All others become float32 in the scale of int16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.errors import Codec2EqError

FULL_SCALE = 32768.0
"""What a sample of 1.0 in a float file becomes: full scale of int16, which Codec 2 works in."""

WRITTEN = {"s16": ("int", 2), "s24": ("int", 3), "f32": ("float", 4)}
"""Encodings that can be written, by the name that `encode` takes: encoding and bytes a sample."""

Decoder = Callable[[memoryview], NDArray[Any]]


def decoder(encoding: str, width: int) -> Decoder:
    """Return the function that turns bytes into samples, int16 or float32 in its scale.

    encoding : "int", "float", "alaw", "ulaw", or "int24" for 24 bits in 4 bytes, down to "int17"
    width : bytes of a sample
    """
    if encoding in ("alaw", "ulaw"):
        table = _alaw_table() if encoding == "alaw" else _ulaw_table()
        return lambda data: table[np.frombuffer(data, np.uint8)]
    if encoding.startswith("int") and encoding != "int":
        return _NarrowInt(int(encoding[3:]))
    return {
        ("int", 1): _decode_u8,
        ("int", 2): lambda data: np.frombuffer(data, "<i2"),
        ("int", 3): _decode_s24,
        ("int", 4): lambda data: to_scale(np.frombuffer(data, "<i4"), 2.0**-16),
        ("float", 4): lambda data: to_scale(np.frombuffer(data, "<f4"), FULL_SCALE),
        ("float", 8): lambda data: to_scale(np.frombuffer(data, "<f8"), FULL_SCALE),
    }[encoding, width]


def encode(samples: NDArray[Any], sample_format: str) -> bytes:
    """Return samples in the scale of int16 as bytes; integers are rounded and clipped.

    sample_format : "s16", "s24" or "f32"
    """
    if sample_format == "s16" and samples.dtype == np.int16:
        return samples.astype("<i2").tobytes()
    if sample_format == "f32":
        return (np.asarray(samples, "<f4") / np.float32(FULL_SCALE)).astype("<f4").tobytes()
    if sample_format == "s16":
        return to_s16(samples).astype("<i2").tobytes()
    return to_s24(samples).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()


def to_s16(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Return samples in the scale of int16 as int16, rounded and clipped."""
    return np.rint(samples).clip(-32768, 32767).astype(np.int16)


def to_s24(samples: NDArray[Any]) -> NDArray[np.int32]:
    """Return samples in the scale of int16 as integers of 24 bits, rounded and clipped."""
    scaled = np.rint(np.asarray(samples, np.float64) * 256)
    return scaled.clip(-(2**23), 2**23 - 1).astype(np.int32)


def to_scale(samples: NDArray[Any], factor: float) -> NDArray[np.float32]:
    """Return samples times a power of two, in float32; what overflows becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return samples.astype(np.float32) * np.float32(factor)


def _decode_u8(data: memoryview) -> NDArray[np.int16]:
    return (np.frombuffer(data, np.uint8).astype(np.int16) - 128) * np.int16(256)


def _decode_s24(data: memoryview) -> NDArray[np.float32]:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return to_scale(wide.view("<i4")[:, 0], 2.0**-16)


class _NarrowInt:
    """17 to 24 bits in 4 bytes: at the low end, as ALSA writes them, unless the samples differ.

    A header does not say at which end. At the low end the bits above repeat the sign, or are zero
    throughout. Samples beyond that are at the high end, which is decided once, by the first block
    that is not silent.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._high: bool | None = None

    def __call__(self, data: memoryview) -> NDArray[np.float32]:
        samples = np.frombuffer(data, "<i4")
        low, high = (int(samples.min()), int(samples.max())) if len(samples) else (0, 0)
        top = 1 << self._bits - 1
        beyond = not (-top <= low and high < top) and not (low >= 0 and high < 2 * top)
        if self._high is None and (low or high):
            self._high = beyond
        elif beyond and not self._high:
            raise Codec2EqError(
                "",
                f"its samples of {self._bits} bits in 4 bytes begin at the low end and go on "
                "beyond it",
                "convert it to plain 24 or 16 bits first",
            )
        return to_scale(samples if self._high else samples << 32 - self._bits, 2.0**-16)


def _ulaw_table() -> NDArray[np.int16]:
    """Return the 256 values of ITU-T G.711 mu-law in the scale of int16."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int16), (code & 15).astype(np.int16)
    magnitude = ((2 * mantissa + 33) << exponent) - 33  # 14 bits
    return (np.where(code & 0x80, -magnitude, magnitude) * 4).astype(np.int16)


def _alaw_table() -> NDArray[np.int16]:
    """Return the 256 values of ITU-T G.711 A-law in the scale of int16."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int16), (code & 15).astype(np.int16)
    linear = 2 * mantissa + 1  # the first segment has no leading one
    magnitude = np.where(exponent == 0, linear, (linear + 32) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) * 8).astype(np.int16)  # of 13 bits
