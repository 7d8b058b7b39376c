# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cases: recordings through filters, and every method measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from codec2_eq.audio.pcm import to_s16
from codec2_eq.bench import measures
from codec2_eq.bench.filtering import Filter
from codec2_eq.bench.measures import Equalise, Floats, Quantise, Reference, Sums, shapes_of
from codec2_eq.bench.noise import Noise
from codec2_eq.bench.shaping import Shaping
from codec2_eq.bench.speech import Analyse, Speech, analyse
from codec2_eq.codec2 import SAMPLES_PER_FRAME
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.errors import Codec2EqError


@dataclass(frozen=True, eq=False)
class Case:
    """A recording and what its filters made of it: rate-K vectors, mean included, by shaping.

    behind : vectors of each cold segment behind an audio filter, by its name and shaping
    """

    speaker: str
    name: str
    reference: Reference
    shaped: Mapping[str, Floats]
    behind: Mapping[tuple[str, str], Sequence[Floats]] = field(default_factory=dict)


def shape_recording(
    speech: Speech,
    shapings: Sequence[Shaping],
    quantise: Quantise,
    analyse: Analyse = analyse,
    noise: Noise | None = None,
    filters: Mapping[str, Filter] | None = None,
) -> Case:
    """Analyse a recording plain and, with noise or without, through each filter.

    filters : audio filters by name; they filter the shaped speech, each segment from a cold start
    """
    reference = Reference.of(analyse(speech.samples), quantise)
    samples = speech.samples if noise is None else noise(speech.samples)
    vectors, behind = {}, {}
    for shaping in shapings:
        shaped = shaping(samples)
        vectors[shaping.name] = analyse(shaped)
        parts = [
            to_s16(shaped[part.start * SAMPLES_PER_FRAME : part.stop * SAMPLES_PER_FRAME])
            for part in measures.cold_segments(len(vectors[shaping.name]))
        ]
        for name, filtered in (filters or {}).items():
            behind[name, shaping.name] = [analyse(filtered(part)) for part in parts]
    return Case(speech.speaker, speech.name, reference, vectors, behind)


def run_case(
    case: Case,
    models: Mapping[str, Equalise],
    quantise: Quantise,
    before: Case | None = None,
) -> dict[tuple[str, str], Sums]:
    """Measure every model on every shaping of a recording: sums by (model, shaping).

    Also "oracle", and "utterance mean", which sees the future but not c*.
    before : another speaker; the models hear 12 s of this case, through another filter, before
    each segment. Without it, each segment is heard from a cold start.
    """
    table: dict[tuple[str, str], Sums] = {}
    for index, (shaping, vectors) in enumerate(case.shaped.items()):
        heard = _heard_before(before, index)
        for model, equalise in models.items():
            if heard is not None:
                equalise = _hearing_first(heard, equalise)
            table[model, shaping] = measures.score(equalise, vectors, case.reference, quantise)
        parts = measures.cold_segments(len(vectors))
        behind = [(n, out) for (n, f), out in case.behind.items() if f == shaping]
        for name, output in (
            *behind,
            ("utterance mean", [_utterance_mean(case, vectors, part) for part in parts]),
            ("oracle", [case.reference.oracle(vectors)[part] for part in parts]),
        ):
            table[name, shaping] = sum(
                (
                    measures.measure(out, case.reference.part(part), quantise)
                    for out, part in zip(output, parts, strict=True)
                ),
                Sums(),
            )
    return table


def _heard_before(before: Case | None, index: int) -> Floats | None:
    """12 s of another recording, through another filter than the one of that index."""
    if before is None:
        return None
    shaped = list(before.shaped.values())
    return shaped[(index + len(shaped) // 2) % len(shaped)][: measures.SEGMENT_FRAMES]


def _hearing_first(heard: Floats, equalise: Equalise) -> Equalise:
    return lambda vectors: equalise(np.concatenate([heard, vectors]))[len(heard) :]


def _utterance_mean(case: Case, vectors: Floats, part: slice) -> Floats:
    """Not causal: the segment's own mean over active frames becomes that of the codebook."""
    shapes = shapes_of(vectors[part])
    active = case.reference.active[part]
    if not active.any():
        return shapes
    return shapes - shapes[active].mean(axis=0) + CODEBOOK_MEAN_DB.astype(np.float32)


def distortion(output: Floats, quantise: Quantise) -> float:
    """Mean D over all frames of a whole file, silence too, as Codec 2's author prints it, dB^2."""
    shapes = shapes_of(np.asarray(output, np.float32))
    return float(np.square(shapes - quantise(shapes)).mean())


def distance(vectors: Floats, others: Floats) -> float:
    """Rms distance of the shapes of two recordings of the same speech, (n, K) dB each.

    Only frames that are active in the first count; raises Codec2EqError if none is.
    """
    active = measures.speech_activity(vectors.mean(axis=1))
    if not active.any():
        raise Codec2EqError("", "no active speech to compare", "give speech")
    difference = shapes_of(others)[active] - shapes_of(vectors)[active]
    return float(np.sqrt(np.square(difference).mean()))


def mean_spectra(case: Case, equalise: Equalise) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean shape of the speech of a case by shaping, before and after, (K,) dB each."""
    active = case.reference.active
    return {
        name: (
            shapes_of(vectors)[active].mean(axis=0),
            shapes_of(equalise(vectors))[active].mean(axis=0),
        )
        for name, vectors in case.shaped.items()
    }
