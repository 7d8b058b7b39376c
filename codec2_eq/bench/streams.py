# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audible error of 700C streams: recordings x filters x encoders, as `heard` defines it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import to_s16
from codec2_eq.bench.filtering import BEHIND_FILTER, Filter, load_filter
from codec2_eq.bench.heard import HEARD_MS, Heard, decoded_error, heard_error
from codec2_eq.bench.measures import FRAME_S, cold_segments, speech_activity
from codec2_eq.bench.noise import Noise
from codec2_eq.bench.shaping import Shaping
from codec2_eq.bench.speech import Speech
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.codec2.library import through_mode
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.stream700c.codec import encode

UNSHAPED = "none"
CODEC2S_OWN = {"c2enc": "none", "c2enc --eq": "700c"}
KNOTS = ("pick", "fit")
OTHER_MODE = "codec2:"
LEARNT_S = 2.0  # of speech, after which an equaliser may be expected to know the curve
LEAST_S = LEARNT_S + 0.12  # of speech in a passage: 0.11 s at its ends are not in the stream

Floats = NDArray[np.floating]
Encode = Callable[[NDArray[np.int16]], bytes | NDArray[np.int16]]
"""Speech to a 700C stream, or through another mode to decoded speech."""


def load_encoders(models: Sequence[str], *, level: str | None = None) -> dict[str, Encode]:
    """Encoders by name: `c2enc`, `c2enc --eq`, then each model with picked and fitted knots.

    `none` and `700c` give the bytes of the first two unless `level` or the knots differ.
    "NAME:filter" and "NAME:2:filter" are c2enc behind `filtering.load_filter`. "codec2:3200" is
    another mode of Codec 2, measured by what it decodes to.
    level : "keep" or "auto" for the models; by default what `encode` does with each
    """
    encoders: dict[str, Encode] = {
        name: partial(encode, model=model) for name, model in CODEC2S_OWN.items()
    }
    for model in models:
        if model.startswith(OTHER_MODE):
            encoders[model] = _other_mode(model)
            continue
        if BEHIND_FILTER in model:
            encoders[model] = _behind(load_filter(model), encoders["c2enc"])
            continue
        equaliser = load_equaliser(model)
        for knots in KNOTS:
            if level or knots != "pick" or model not in CODEC2S_OWN.values():
                encoders[f"{model} {knots}"] = partial(
                    encode, model=equaliser, level=level, knots=knots
                )
    return encoders


def _other_mode(name: str) -> Encode:
    mode = name.removeprefix(OTHER_MODE)
    if not mode.isdecimal():
        raise Codec2EqError(f"method {name!r}", f"{mode!r} is not a mode", "such as codec2:3200")
    through_mode(np.zeros(0, np.int16), int(mode))  # raises if there is no such mode
    return partial(through_mode, mode=int(mode))


def _behind(filtered: Filter, encoder: Encode) -> Encode:
    return lambda samples: encoder(filtered(samples))


@dataclass(frozen=True)
class Passages:
    """Audible error of some passages: from their cold start on, and once the curve is learnt."""

    all: Heard
    learnt: Heard

    def __add__(self, other: Passages) -> Passages:
        return Passages(self.all + other.all, self.learnt + other.learnt)

    def as_dict(self) -> dict[str, float]:
        """Flat, for JSON."""
        return {
            "heard": self.all.total,
            "level": self.all.level,
            "shape": self.all.shape,
            "frames": self.all.frames,
            "heard_learnt": self.learnt.total,
        }


@dataclass
class HeardScores:
    """Passages by (encoder, shaping, speaker), in the order in which they were measured."""

    heard: dict[tuple[str, str, str], Passages] = field(default_factory=dict)

    def names(self, which: int) -> list[str]:
        """Encoders (0), shapings (1) or speakers (2), each once."""
        return list(dict.fromkeys(key[which] for key in self.heard))

    def shapings(self) -> list[str]:
        """The filters alone, or "none" if there are no others."""
        return [name for name in self.names(1) if name != UNSHAPED] or [UNSHAPED]

    def of(
        self, encoder: str, shapings: Sequence[str], speakers: Sequence[str] | None = None
    ) -> Passages:
        """All passages of an encoder through some filters, of all speakers or those named."""
        found = [
            passages
            for (e, f, s), passages in self.heard.items()
            if e == encoder and f in shapings and (speakers is None or s in speakers)
        ]
        return reduce(operator.add, found)

    def interval(
        self, encoder: str, shapings: Sequence[str], *, draws: int = 1000, seed: int = 0
    ) -> list[float]:
        """95 % interval of the error heard, by drawing speakers with replacement."""
        parts = [self.of(encoder, shapings, [speaker]).all for speaker in self.names(2)]
        totals = np.array([part.total for part in parts])
        frames = np.array([part.frames for part in parts])
        picks = np.random.default_rng(seed).integers(0, len(parts), (draws, len(parts)))
        means = (totals * frames)[picks].sum(axis=1) / frames[picks].sum(axis=1)
        return [float(end) for end in np.percentile(means, (2.5, 97.5))]

    def as_json(self) -> dict[str, Any]:
        """Everything: per encoder unshaped, over the filters, and per shaping."""
        return {
            encoder: {
                "unshaped": self._figures(encoder, [UNSHAPED]),
                "filters": self._figures(encoder, self.shapings()),
                "shapings": {name: self._figures(encoder, [name]) for name in self.names(1)},
                "speakers": {
                    name: self.of(encoder, self.shapings(), [name]).as_dict()
                    for name in self.names(2)
                },
            }
            for encoder in self.names(0)
        }

    def _figures(self, encoder: str, shapings: Sequence[str]) -> dict[str, Any]:
        passages = self.of(encoder, shapings)
        return {**passages.as_dict(), "interval": self.interval(encoder, shapings)}


def run(
    recordings: Iterable[Speech],
    shapings: Sequence[Shaping],
    encoders: Mapping[str, Encode],
    report: Callable[[str], object] = lambda line: None,
    *,
    noise: Noise | None = None,
    reduce_noise: bool = False,
    gain_db: float = 0.0,
) -> HeardScores:
    """Measure all encoders on all recordings, each 12 s from a cold start.

    shapings : filters; unshaped speech is always measured too
    noise : added to what is encoded
    reduce_noise : whether `Denoiser` stands before the encoders, after noise and filter
    gain_db : of what is encoded, after all else; 16 bits clip it
    Raises Codec2EqError if there is nothing to measure.
    """
    scores = HeardScores()
    gain = 10 ** (gain_db / 20)
    shapings = with_unshaped(shapings)
    for recording in recordings:
        report(f"{recording.speaker} {recording.name}")
        noisy = recording.samples if noise is None else noise(recording.samples)
        for shaping in shapings:
            shaped = denoised(shaping(noisy)) if reduce_noise else shaping(noisy)
            for encoder, passages in hear(recording.samples, gain * shaped, encoders).items():
                key = (encoder, shaping.name, recording.speaker)
                before = scores.heard.get(key)
                scores.heard[key] = passages if before is None else before + passages
    if not scores.heard:
        raise Codec2EqError("", "nothing to measure", "give recordings with more speech")
    return scores


def denoised(samples: Floats) -> NDArray[np.float32]:
    """A recording (n,) at 8 kHz, in the scale of int16, after noise reduction."""
    from codec2_eq.audiofilter.denoise import Denoiser

    denoiser = Denoiser(RATE_HZ)
    parts = denoiser.process(samples[:, None]), denoiser.flush()
    return np.concatenate(parts)[:, 0]


def with_unshaped(shapings: Sequence[Shaping]) -> list[Shaping]:
    """The filters, preceded by the one that does nothing."""
    unshaped = Shaping(UNSHAPED, np.ones(1))
    return [unshaped, *(shaping for shaping in shapings if shaping.name != UNSHAPED)]


def hear(plain: Floats, shaped: Floats, encoders: Mapping[str, Encode]) -> dict[str, Passages]:
    """Measure every encoder on a recording that a filter has shaped, beside the plain one.

    Passages with less than LEAST_S of speech are skipped.
    """
    reference_pcm, shaped_pcm = to_s16(plain), to_s16(shaped)
    hop = round(FRAME_S * RATE_HZ)
    found: dict[str, Passages] = {}
    for part in cold_segments(len(reference_pcm) // hop):
        samples = slice(part.start * hop, part.stop * hop)
        reference = extract(reference_pcm[samples], RATE_HZ, frame_ms=HEARD_MS).vectors
        if np.count_nonzero(speech_activity(reference.mean(axis=1))) * HEARD_MS < 1000 * LEAST_S:
            continue
        for name, encoder in encoders.items():
            sent = encoder(shaped_pcm[samples])
            error: Callable[..., Heard] = heard_error if isinstance(sent, bytes) else decoded_error
            passages = Passages(error(sent, reference), error(sent, reference, from_s=LEARNT_S))
            found[name] = found[name] + passages if name in found else passages
    return found
