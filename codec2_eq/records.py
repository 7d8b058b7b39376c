# SPDX-License-Identifier: LGPL-2.1-or-later
"""Immutable results of the analysis; shapes are checked once, when a record is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from codec2_eq.codec2 import FRAME_MS, FRAME_MS_CHOICES, K
from codec2_eq.errors import Codec2EqError

MOST_DB = 1_000_000
"""Beyond any spectrum [dB]: such a value means that something else was read as vectors."""

_PER_FRAME = ("mean_db", "f0_hz", "voiced", "wo", "n_harm")


def plain_array(values: Any, what: str) -> NDArray[Any]:
    """Return array-like values as an array in this machine's byte order.

    Raises Codec2EqError for masked values, which would be taken for true ones, and raw bytes.
    """
    if isinstance(values, (bytes, bytearray)):
        raise Codec2EqError(
            f"{what} of type {type(values).__name__}",
            "expected an array",
            "state its type: np.frombuffer(data, np.int16)",
        )
    mask = getattr(values, "mask", None)
    if isinstance(mask, (np.ndarray, np.bool_)) and mask.any():
        raise Codec2EqError(what, "some are masked", "fill them, for instance with .filled(0)")
    array = np.asarray(values)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def float_vectors(values: Any) -> NDArray[np.float32]:
    """Return array-like vectors as float32; raise Codec2EqError as `plain_array` and for others."""
    array = plain_array(values, "vectors")
    if array.dtype.kind not in "fiu":
        raise Codec2EqError(f"vectors of type {array.dtype}", "expected float32")
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        return array.astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class RateK:
    """Codec 2 parameters of consecutive frames, frames on axis 0.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, K)
        Mel-spaced spectral amplitudes in dB, mean included.
    mean_db : ndarray of float32, shape (n,)
        Mean of each vector over its bands, dB.
    f0_hz : ndarray of float32, shape (n,)
        Fundamental frequency, Hz.
    voiced : ndarray of bool, shape (n,)
        Whether the frame is voiced.
    wo : ndarray of float32, shape (n,)
        Fundamental in rad/sample at 8 kHz (Codec 2's Wo).
    n_harm : ndarray of int32, shape (n,)
        Number of harmonics (Codec 2's L).
    freqs_hz : ndarray of float32, shape (K,)
        Centres of the bands, Hz.
    frame_ms : {10, 20, 40}
        Time between vectors, ms.
    harmonics_db : ndarray of float32, shape (n, MAX_HARMONICS), or None
        Amplitudes of the harmonics in dB before the floor that rate K has, 0 beyond n_harm; None
        if they were not asked for.

    Examples
    --------
    >>> frames = ce.extract_file("samples/espeak_male_1.wav")
    >>> voiced = frames.f0_hz[frames.voiced]
    >>> bool((voiced > 49).all() and (voiced < 401).all())
    True
    """

    vectors: NDArray[np.float32]
    mean_db: NDArray[np.float32]
    f0_hz: NDArray[np.float32]
    voiced: NDArray[np.bool_]
    wo: NDArray[np.float32]
    n_harm: NDArray[np.int32]
    freqs_hz: NDArray[np.float32]
    frame_ms: int = FRAME_MS
    harmonics_db: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check that all fields have the same number of frames."""
        n_frames = len(self.vectors)
        if self.vectors.shape != (n_frames, K):
            raise ValueError(f"vectors of shape {self.vectors.shape}: expected (n_frames, {K})")
        for name in _PER_FRAME:
            shape = getattr(self, name).shape
            if shape != (n_frames,):
                raise ValueError(f"{name} of shape {shape}: expected ({n_frames},)")
        if self.frame_ms not in FRAME_MS_CHOICES:
            raise ValueError(f"frame_ms {self.frame_ms}: expected one of {FRAME_MS_CHOICES}")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.vectors)

    def __repr__(self) -> str:
        seconds = len(self) * self.frame_ms / 1000
        return f"<RateK {len(self)} frames every {self.frame_ms} ms, {seconds:.2f} s>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: one line, and the vectors as a small picture."""
        line = f"{len(self)} frames every {self.frame_ms} ms"
        return f"<p><b>RateK</b> {line}</p>{picture_html(self.vectors)}"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the vectors, so that a record can be used wherever an array of vectors can."""
        return np.array(self.vectors, dtype, copy=copy)

    def __getitem__(self, frames: slice) -> RateK:
        """Return the record of some of the frames: a slice, a mask or a list of them."""
        if isinstance(frames, (int, np.integer)):
            raise TypeError(f"one frame is [{frames}:{frames + 1}], its vector .vectors[{frames}]")
        arrays = {name: getattr(self, name)[frames] for name in ("vectors", *_PER_FRAME)}
        if self.harmonics_db is not None:
            arrays["harmonics_db"] = self.harmonics_db[frames]
        return RateK(**arrays, freqs_hz=self.freqs_hz, frame_ms=self.frame_ms)

    @classmethod
    def join(cls, parts: Sequence[RateK]) -> RateK:
        """Join records of consecutive blocks (at least one, all of one kind)."""
        if len({part.frame_ms for part in parts}) > 1:
            raise ValueError(
                f"frames {[part.frame_ms for part in parts]} ms apart, one interval expected"
            )
        names = ["vectors", *_PER_FRAME, *["harmonics_db"] * (parts[0].harmonics_db is not None)]
        arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        return cls(**arrays, freqs_hz=parts[0].freqs_hz, frame_ms=parts[0].frame_ms)


def whole_groups(held: RateK | None, frames: RateK, size: int) -> tuple[RateK, RateK | None]:
    """Cut the frames held and the next ones into whole groups of `size`, and the rest."""
    joined = frames if held is None else RateK.join([held, frames])
    rest = len(joined) % size
    return (joined[:-rest], joined[-rest:]) if rest else (joined, None)


def remove_mean(
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Split rate-K vectors into frame energy and spectral shape.

    vectors : (n, K) float32, dB. Not modified.
    Returns mean (n,) dB and shape (n, K) dB. The mean is a float32 sum in the order of the
    bands, divided by K. Source: Codec 2 700C (newamp1).
    """
    n_bands = vectors.shape[1]
    mean = np.cumsum(vectors, axis=1, dtype=np.float32)[:, -1] / np.float32(n_bands)
    return mean, vectors - mean[:, None]


def first_bad_row(rows: NDArray[np.floating]) -> tuple[int, str] | None:
    """The first of (n, K) rows that cannot be decibels, and what is wrong with it; or None."""
    if not rows.size or (rows.min() >= -MOST_DB and rows.max() <= MOST_DB):  # the quick way
        return None
    sane = (np.abs(rows) <= MOST_DB).all(axis=1)  # NaN is not
    if sane.all():
        return None
    bad = int(np.argmin(sane))
    finite = np.isfinite(rows[bad]).all()
    return bad, f"has values beyond {MOST_DB:,} dB" if finite else "is not finite"


_WIDEST = 600  # pixels of a picture
_GREY_DB = 60.0  # from black to white, down from the largest value


def picture_html(vectors: NDArray[np.float32]) -> str:
    """Draw (n, K) vectors in grey, low bands at the bottom, as an HTML image."""
    import struct
    import zlib
    from base64 import b64encode

    if not len(vectors):
        return ""
    shown = vectors[:: -(-len(vectors) // _WIDEST)]
    grey = np.clip(1 + (shown - shown.max()) / np.float32(_GREY_DB), 0, 1)
    pixels = (255 * grey.T[::-1]).astype(np.uint8)
    height, width = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    png += chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    style = f"width:{max(width, 200)}px;height:80px;image-rendering:pixelated"
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return f'<img alt="rate-K vectors" style="{style}" src="{source}">'
