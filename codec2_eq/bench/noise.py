# SPDX-License-Identifier: LGPL-2.1-or-later
"""Noises to add to speech: white, of a car, and the babble of many voices; made here, seeded.

Noise is in the room: it is added before the filter, which stands for the microphone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.resample import RATE_HZ
from codec2_eq.bench.measures import FRAME_S, speech_activity
from codec2_eq.bench.shaping import Shaping, minimum_phase, tilt
from codec2_eq.bench.speech import analyse
from codec2_eq.errors import Codec2EqError

CAR_TILT_DB = -9.0  # an octave: rumble of road and engine
VOICES = 12  # so many that no word can be made out
WINDOW = 512  # samples, of the voices' spectra; half of it is one step
SYLLABLE_STEPS = 6  # some 0.2 s

Samples = NDArray[np.floating]


@dataclass(frozen=True)
class Noise:
    """A kind of noise, so many dB below the active speech that it is added to."""

    kind: str
    snr_db: float
    seed: int = 0

    @property
    def name(self) -> str:
        """As tables have it, "babble 10 dB"."""
        return f"{self.kind} {self.snr_db:g} dB"

    def __call__(self, samples: Samples) -> NDArray[np.float32]:
        """Add the noise to speech, (n,) at 8 kHz in the scale of int16; its level is rms."""
        key = [self.seed, zlib.crc32(self.kind.encode()), len(samples)]
        noise = NOISES[self.kind](len(samples), np.random.default_rng(key))
        hop = round(FRAME_S * RATE_HZ)
        active = np.repeat(speech_activity(analyse(samples).mean(axis=1)), hop)
        if not active.any():
            raise Codec2EqError("", "no active speech to add noise to", "give speech")
        speech_power = np.square(samples[: len(active)][active], dtype=np.float64).mean()
        gain = np.sqrt(speech_power / np.square(noise).mean()) * 10 ** (-self.snr_db / 20)
        return (samples + gain * noise).astype(np.float32)


def white(n: int, rng: np.random.Generator) -> Samples:
    """Noise of a flat spectrum."""
    return rng.normal(size=n)


def car(n: int, rng: np.random.Generator) -> Samples:
    """Noise that falls by 9 dB per octave."""
    return Shaping("car", minimum_phase(tilt(CAR_TILT_DB)))(white(n, rng)).astype(np.float64)


def babble(n: int, rng: np.random.Generator) -> Samples:
    """Many voices at once: buzz through formants that move from syllable to syllable."""
    return np.sum([_voice(n, rng) for _ in range(VOICES)], axis=0)


def _voice(n: int, rng: np.random.Generator) -> Samples:
    steps = n // (WINDOW // 2) + 2
    n_padded = (steps + 1) * (WINDOW // 2)
    pitch_hz = rng.uniform(90, 240) * 2 ** (0.15 * _glide(rng.normal(size=steps), n_padded))
    pulses = np.diff(np.floor(np.cumsum(pitch_hz) / RATE_HZ), prepend=0) * RATE_HZ / pitch_hz
    buzz = pulses + rng.normal(0, 0.5, n_padded)
    freqs_hz = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    syllables = steps // SYLLABLE_STEPS + 2
    formants = rng.uniform((250, 800, 1900), (900, 2200, 3200), (syllables, 3))
    peaks = 1 / (1 + np.square((freqs_hz - formants[..., None]) / 120))
    envelopes = (peaks * np.array([1.0, 0.5, 0.25])[:, None]).sum(axis=1) + 0.01
    envelopes *= rng.choice((0.0, 1.0, 2.0), (syllables, 1), p=(0.2, 0.5, 0.3))  # pauses, stress
    place = np.arange(steps) / SYLLABLE_STEPS
    before, share = place.astype(int), (place % 1)[:, None]
    filters = (1 - share) * envelopes[before] + share * envelopes[before + 1]
    windows = np.lib.stride_tricks.sliding_window_view(buzz, WINDOW)[:: WINDOW // 2]
    spoken = np.fft.irfft(np.fft.rfft(windows * np.hanning(WINDOW + 1)[:-1]) * filters)
    halves = spoken.reshape(steps, 2, WINDOW // 2)
    return (halves[1:, 0] + halves[:-1, 1]).ravel()[:n]


def _glide(values: Samples, n: int) -> Samples:
    return np.interp(np.linspace(0, len(values) - 1, n), np.arange(len(values)), values)


NOISES = {"car": car, "babble": babble, "white": white}


def noises(snrs_db: Sequence[float]) -> list[Noise]:
    """Every kind at every level."""
    return [Noise(kind, snr_db) for snr_db in snrs_db for kind in NOISES]
