# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arrays of samples, as other libraries give them, to one channel in the scale of int16."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.levels import MOST_FULL_SCALES, Mixer
from codec2_eq.audio.pcm import FULL_SCALE
from codec2_eq.errors import Codec2EqError
from codec2_eq.messages import warn
from codec2_eq.records import plain_array

MOST_CHANNELS = 32
"""Axes up to this long may be channels, longer ones are time."""

LOUD_FULL_SCALES = 16
"""Float samples beyond this many times full scale are likely to be in another scale."""


class ArrayReader:
    """Stream of arrays to mono float32 in the scale of int16.

    channel : "mix" for the mean of all channels, or the number of one, from 1
    full_scale : value of a float sample at full scale

    The type alone decides the scale: int16 is taken as it is, uint8 as (x - 128) * 256, int32 by
    its own full scale of 2^31, floats by `full_scale`.
    Raises Codec2EqError for an impossible channel or scale.
    """

    def __init__(self, *, channel: int | str = "mix", full_scale: float = 1.0) -> None:
        if not 0 < full_scale < np.inf:
            raise Codec2EqError(f"full scale {full_scale}", "expected a positive number")
        number = None if channel == "mix" else str(channel)
        if number is not None and not re.fullmatch("0*[1-9][0-9]{0,8}", number):
            raise Codec2EqError(f"channel {number[:40]}", "expected 'mix' or a number from 1")
        self._channel = None if number is None else int(number)
        self._full_scale = full_scale
        self._layout: tuple[int, int] | None = None  # axis and number of channels
        self._mixer = Mixer()
        self._n_frames = 0
        self._warned = False

    def read(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Return the next samples (n,) of arrays (n,), (n, channels) or (channels, n), n >= 0.

        Raises Codec2EqError for other shapes and types, and samples that are not finite numbers.
        """
        if isinstance(samples, (str, os.PathLike)):
            raise Codec2EqError(
                samples, "is the name of a file, not samples", "read it with extract_file"
            )
        array = plain_array(samples, "samples")
        self._check_type(array.dtype)
        if not array.size and 0 < array.ndim < 3:
            return np.empty(0, np.float32)
        frames = self._as_frames(array)
        if self._channel is not None:
            if self._channel > frames.shape[1]:
                raise Codec2EqError(
                    f"samples of shape {array.shape}",
                    f"no channel {self._channel} among {frames.shape[1]}",
                )
            frames = frames[:, self._channel - 1 : self._channel]
        if frames.dtype.kind == "f" and frames.size:
            self._check_range(frames)
        self._n_frames += len(frames)
        return self._mixer.mix(self._scale(frames))

    def flush(self) -> None:
        """Warn at the end of the input if the channels have cancelled each other."""
        if self._mixer.cancels:
            warn(
                "the channels of the samples cancel each other, their mean is "
                f"{-self._mixer.loss_db:.0f} dB below them; pass channel=1"
            )

    def _check_type(self, dtype: np.dtype[Any]) -> None:
        if dtype.kind == "f" or (dtype.kind, dtype.itemsize) in (("i", 2), ("i", 4), ("u", 1)):
            return
        remedy = "convert them, say with .astype(np.int16)" if dtype.kind in "iu" else ""
        raise Codec2EqError(
            f"samples of type {dtype}", "expected int16, int32, uint8 or float", remedy
        )

    def _scale(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Bring samples to the scale of int16, as those of files are."""
        if frames.dtype.kind == "u":
            return (frames.astype(np.int16) - 128) * np.int16(256)
        if frames.dtype.kind == "f":
            return frames.astype(np.float32) * np.float32(FULL_SCALE / self._full_scale)
        return frames if frames.itemsize == 2 else frames.astype(np.float32) * np.float32(2**-16)

    def _as_frames(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return samples (n, channels)."""
        if array.ndim == 1:
            return array[:, None]
        if array.ndim != 2:
            raise Codec2EqError(f"samples of shape {array.shape}", "expected (n,) or (n, channels)")
        if self._layout is None:
            self._layout = _find_layout(array.shape)
        axis, n_channels = self._layout
        if array.shape[axis] != n_channels:
            raise Codec2EqError(
                f"samples of shape {array.shape}",
                f"expected {n_channels} channels along axis {axis}, as before",
            )
        return array if axis == 1 else array.T

    def _check_range(self, frames: NDArray[Any]) -> None:
        peak = max(float(frames.max()), -float(frames.min())) / self._full_scale
        if not peak <= MOST_FULL_SCALES:  # NaN is not
            sane = (np.abs(frames) <= MOST_FULL_SCALES * self._full_scale).all(axis=1)
            first = int(np.argmin(sane))
            what = f"over {MOST_FULL_SCALES:,} times full scale"
            finite = np.isfinite(frames[first]).all()
            raise Codec2EqError(
                f"sample {self._n_frames + first} is {what if finite else 'NaN or infinite'}",
                remedy="only finite samples in their scale can be processed",
            )
        if peak > LOUD_FULL_SCALES and not self._warned:
            self._warned = True
            warn(
                f"float samples reach {peak:.0f} times full scale, which is {self._full_scale:g}; "
                f"pass full_scale={FULL_SCALE:.0f} if they are in the scale of int16"
            )


def _find_layout(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return which axis the channels are on, and how many."""
    short = [axis for axis in (0, 1) if shape[axis] <= MOST_CHANNELS]
    if len(short) != 1:
        raise Codec2EqError(
            f"samples of shape {shape}",
            f"channels are taken to be the axis of at most {MOST_CHANNELS}, time the longer one",
            "pass one channel (n,)",
        )
    return short[0], shape[short[0]]
