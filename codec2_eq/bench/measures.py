# SPDX-License-Identifier: LGPL-2.1-or-later
"""How well an equaliser removes spectral shaping, in dB^2 per band of rate-K vectors.

A recording x is shaped by a known filter in the time domain, giving y, and equalised, f(y). The
reference is canonical speech z = x - c*, where c* is the constant curve that suits the speaker and
the microphone best: with it the quantiser's errors average to zero. Perfect knowledge of the curve,
y - mean(y - x) - c*, is the oracle; a method's score is the share of the way to it.

Distortion against the codebook alone (`d`) cannot judge: an equaliser that only outputs codebook
entries has none. So `canonical_error` and `shape_error` compare what the decoder gets with what was
said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import FRAME_MS, FRAME_S
from codec2_eq.equalisers.classic import CMN_SILENCE_DB, CODEBOOK_MEAN_DB
from codec2_eq.errors import Codec2EqError

ACTIVE_RANGE_DB = 20.0  # below the file's loud frames: speech, not its pauses
LOUD_PERCENTILE = 95
MAX_SILENCE_S = 0.4
SEGMENT_S = 12.0
SEGMENT_FRAMES = round(SEGMENT_S / FRAME_S)
RESIDUAL_EDGES_S = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 12.0)  # of active speech since the start
OFFSET_STEP = 1.5  # over-relaxed: the cells of a quantiser move with the offset
OFFSET_STEPS = 20  # within 0.1 dB^2 of its limit on all recordings tried

Floats = NDArray[np.float32]
Quantise = Callable[[Floats], Floats]
Equalise = Callable[[Floats], Floats]


def quantise_700c() -> Quantise:
    """The stock two-stage quantiser of 700C with 5 survivors: shapes in, decoded shapes out."""
    from codec2_eq.codec2.library import codebook_700c
    from codec2_eq.vq.quantiser import Quantiser

    quantiser = Quantiser(codebook_700c())
    return lambda shapes: quantiser.quantise(np.ascontiguousarray(shapes, np.float32))[0]


def shapes_of(vectors: Floats) -> Floats:
    """Shapes: each vector less its mean over the bands."""
    return vectors - vectors.mean(axis=1, keepdims=True, dtype=np.float32)


def speech_activity(mean_db: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Frames that hold speech: less than 20 dB below the recording's loud frames.

    Nor is speech what lies below a step of 16 bits, however loud the rest.
    mean_db : (n,) means of the vectors of one unshaped recording, dB.
    """
    if mean_db.size == 0:
        return np.zeros(0, bool)
    loud_db = float(np.percentile(mean_db, LOUD_PERCENTILE))
    return mean_db > max(loud_db - ACTIVE_RANGE_DB, CMN_SILENCE_DB)


def frames_to_keep(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames left when each pause is cut to 0.4 s."""
    keep = active.copy()
    silence = 0
    for i, speech in enumerate(active):
        silence = 0 if speech else silence + 1
        keep[i] = silence <= MAX_SILENCE_S / FRAME_S
    return keep


def cut_silences(samples: NDArray[np.floating], mean_db: NDArray[np.floating]) -> NDArray:
    """Speech at 8 kHz with every pause cut to 0.4 s.

    mean_db : the recording's frame means at 40 ms, by which pauses are found.
    """
    n_frames, hop = len(mean_db), 8 * FRAME_MS
    keep = frames_to_keep(speech_activity(mean_db))
    return samples[: n_frames * hop].reshape(n_frames, hop)[keep].ravel()


def canonical_offset(shapes: Floats, quantise: Quantise) -> Floats:
    """The fixed curve c* that suits a speaker and microphone best, (K,) dB, zero mean.

    Fixed point of c += 1.5 mean(e - VQ(e)), e = x - c. It starts where the recording's mean meets
    the codebook's: so shaping the recording by a constant curve moves c* by just that curve, and
    z stays. Started from zero, radio voices end in a worse optimum nearby (D 9.2, not 8.3).
    shapes : (n, K) mean-removed vectors of active frames, unshaped.
    Raises Codec2EqError if there are none.
    """
    if not len(shapes):
        raise Codec2EqError("", "no active speech, so no canonical reference", "give speech")
    offset = shapes.mean(axis=0) - CODEBOOK_MEAN_DB.astype(np.float32)
    for _ in range(OFFSET_STEPS):
        canonical = shapes - offset
        offset += OFFSET_STEP * (canonical - quantise(canonical)).mean(axis=0)
    return offset


@dataclass(frozen=True, eq=False)
class Reference:
    """An unshaped recording that others are measured against.

    shapes : (n, K) mean-removed vectors x, dB
    active : (n,) bool, frames that are measured
    offset : (K,) the canonical offset c*, dB
    """

    shapes: Floats
    active: NDArray[np.bool_]
    offset: Floats

    @classmethod
    def of(cls, vectors: Floats, quantise: Quantise) -> Reference:
        """The reference of a recording from its rate-K vectors, mean included."""
        active = speech_activity(vectors.mean(axis=1))
        shapes = shapes_of(vectors)
        return cls(shapes, active, canonical_offset(shapes[active], quantise))

    @property
    def canonical(self) -> Floats:
        """z, what speech should look like: (n, K)."""
        return self.shapes - self.offset

    def part(self, frames: slice) -> Reference:
        """Some of its frames, with the offset of the whole recording."""
        return Reference(self.shapes[frames], self.active[frames], self.offset)

    def oracle(self, shaped: Floats) -> Floats:
        """Shaped vectors (mean in or not) corrected with perfect knowledge of the filter."""
        shapes = shapes_of(shaped)
        shift = (shapes - self.shapes)[self.active].mean(axis=0)
        return shapes - shift - self.offset


def cold_segments(n_frames: int) -> list[slice]:
    """Consecutive segments of 12 s, each from a cold start; a rest under half that is dropped."""
    starts = range(0, max(n_frames - SEGMENT_FRAMES // 2, 1), SEGMENT_FRAMES)
    return [slice(start, min(start + SEGMENT_FRAMES, n_frames)) for start in starts]


@dataclass
class Sums:
    """Sums over frames, which add up over segments, speakers and filters.

    count : active frames;
    d, canonical_error, shape_error : squared errors per band, summed over frames;
    residual, residual_count : by time since the start; cross, power : z'VQ(f) and z'z within
    segments, whose quotient is the slope; spread : f'f within segments.
    """

    count: float = 0.0
    d: float = 0.0
    canonical_error: float = 0.0
    shape_error: float = 0.0
    cross: float = 0.0
    power: float = 0.0
    spread: float = 0.0
    residual: NDArray[Any] = field(default_factory=lambda: np.zeros(len(RESIDUAL_EDGES_S) - 1))
    residual_count: NDArray[Any] = field(
        default_factory=lambda: np.zeros(len(RESIDUAL_EDGES_S) - 1)
    )

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def measures(self) -> Measures:
        """The measures of all frames summed; raises Codec2EqError if there are none."""
        if not self.count:
            raise Codec2EqError("", "no active speech to measure", "give speech")
        with np.errstate(invalid="ignore"):
            residual = self.residual / self.residual_count
        return Measures(
            d=self.d / self.count,
            canonical_error=self.canonical_error / self.count,
            shape_error=self.shape_error / self.count,
            variance_ratio=self.spread / max(self.power, 1e-9),
            slope=self.cross / max(self.power, 1e-9),
            residual=tuple(float(r) for r in residual),
            frames=int(self.count),
        )


@dataclass(frozen=True)
class Measures:
    """What an equaliser scored, dB^2 per band except the two ratios.

    d : distortion of the quantiser on what it was given: a diagnostic, not a goal
    canonical_error : decoded vectors against canonical speech: the headline
    shape_error : the same up to a constant curve per segment: catches wander and collapse
    variance_ratio : variance over time of the output over that of canonical speech; honest ~1
    slope : of the decoded vectors on canonical speech; honest 0.72 to 0.78
    residual : |f(y) - z|^2 in the bins of RESIDUAL_EDGES_S; NaN where no frame fell
    frames : active frames measured
    """

    d: float
    canonical_error: float
    shape_error: float
    variance_ratio: float
    slope: float
    residual: tuple[float, ...]
    frames: int


def measure(output: Floats, reference: Reference, quantise: Quantise) -> Sums:
    """Measure one cold segment.

    output : (n, K) what the equaliser made of the shaped segment, its mean is removed here.
    reference : the unshaped segment, with the offset of the whole recording.
    Raises Codec2EqError if the two differ in length.
    """
    if output.shape != reference.shapes.shape:
        raise Codec2EqError(
            "equalised segment", f"shape {output.shape}, its reference {reference.shapes.shape}"
        )
    active = reference.active
    if not active.any():
        return Sums()
    equalised = shapes_of(np.asarray(output, np.float32))[active]
    canonical = reference.canonical[active]
    decoded = quantise(equalised)
    wander = (
        decoded - canonical
    )  # a constant offset c* between x and z does not matter to shape_error
    centred = canonical - canonical.mean(axis=0)
    residual = np.square(equalised - canonical).mean(axis=1)
    bins = np.digitize(FRAME_S * np.arange(len(residual)), RESIDUAL_EDGES_S) - 1
    bins = np.minimum(bins, len(RESIDUAL_EDGES_S) - 2)
    n_bins = len(RESIDUAL_EDGES_S) - 1
    return Sums(
        count=float(active.sum()),
        d=float(np.square(equalised - decoded).mean(axis=1).sum()),
        canonical_error=float(np.square(wander).mean(axis=1).sum()),
        shape_error=float(np.square(wander - wander.mean(axis=0)).mean(axis=1).sum()),
        cross=float((centred * (decoded - decoded.mean(axis=0))).mean(axis=1).sum()),
        power=float(np.square(centred).mean(axis=1).sum()),
        spread=float(np.square(equalised - equalised.mean(axis=0)).mean(axis=1).sum()),
        residual=np.bincount(bins, residual, n_bins).astype(float),
        residual_count=np.bincount(bins, minlength=n_bins).astype(float),
    )


def score(equalise: Equalise, shaped: Floats, reference: Reference, quantise: Quantise) -> Sums:
    """Measure an equaliser on a shaped recording, each 12 s of it from a cold start.

    equalise : a whole-file call: vectors with their mean in, shapes out.
    shaped : (n, K) vectors of the shaped recording, mean included.
    """
    total = Sums()
    for part in cold_segments(len(shaped)):
        total += measure(equalise(shaped[part]), reference.part(part), quantise)
    return total


def closed(none: float, method: float, oracle: float) -> float:
    """Share of the gap between no equaliser and the oracle that a method closes, 1 is all of it."""
    gap = none - oracle
    return (none - method) / gap if gap else float("nan")
