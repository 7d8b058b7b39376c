# SPDX-License-Identifier: LGPL-2.1-or-later
"""What equalisers do to one recording, and how 700C then sounds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.levels import CLIPPED_SHARE
from codec2_eq.audio.pcm import FULL_SCALE, to_s16
from codec2_eq.audio.stream import stream_audio
from codec2_eq.bench.heard import Heard, heard_error
from codec2_eq.bench.measures import speech_activity
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.codec2.library import codebook_700c
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.equalisers.equaliser import Equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.files import PathLike
from codec2_eq.inspection.faults import Fault, find_faults
from codec2_eq.inspection.measurements import Measurements
from codec2_eq.inspection.measurements import examine as measure
from codec2_eq.messages import counted
from codec2_eq.records import RateK
from codec2_eq.report.loudness import at_one_level
from codec2_eq.stream700c.codec import decode, encode
from codec2_eq.stream700c.frames import FRAME_MS
from codec2_eq.vq.quantiser import Quantiser, VqStatistics, zero_mean

DEFAULT_SECONDS = 12.0
"""How much of a recording is shown and heard [s]: a page should open quickly."""

_READ_S = 0.5  # how much is read at a time: reading beyond the cut is wasted

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one equaliser makes of one recording.

    model : as it was asked for
    shapes : (n, K) equalised vectors, mean removed, dB
    distortion : D on the frames with speech, dB^2 per band; distortion_all : on all frames
    band_error_db : (K,) root mean square error of the quantiser in each band, on speech
    spectrum_db : (K,) mean of the shapes on speech; off_db : its rms distance from the
        codebook's mean
    heard : error of the decoder's 10 ms spectra against the recording's own, dB^2 per band
    decoded : int16 at 8 kHz, what a 700C decoder makes of the stream, at LEVEL_DBFS
    """

    model: str
    shapes: Floats
    distortion: float
    distortion_all: float
    band_error_db: Floats
    spectrum_db: Floats
    off_db: float
    heard: Heard
    decoded: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording, as far as it is shown.

    name : as in messages;  rate_hz, channels : of the file
    duration_s : of the whole file, None if its header does not state it
    clipped_share : share of the samples at full scale
    level : of the file, in words;  samples : (m,) int16 at 8 kHz, at LEVEL_DBFS
    frames : its rate-K vectors at 40 ms
    active : (n,) bool, frames that hold speech, at least one
    before : (n, K) shapes, mean removed, dB
    measured, faults : what `check` finds in what is shown, at 8 kHz
    """

    name: str
    rate_hz: float
    channels: int
    duration_s: float | None
    is_cut: bool
    clipped_share: float
    level: str
    samples: NDArray[np.int16]
    frames: RateK
    active: NDArray[np.bool_]
    before: Floats
    outcomes: tuple[Outcome, ...]
    measured: Measurements
    faults: tuple[Fault, ...]

    @property
    def shown_s(self) -> float:
        """How much of it is shown, s."""
        return len(self.samples) / RATE_HZ

    @property
    def facts(self) -> dict[str, str]:
        """Facts about the recording, in words."""
        voiced = self.frames.voiced & self.active
        f0_hz = self.frames.f0_hz[voiced]
        clipped = f"{self.clipped_share:.2%} of the samples"
        if self.clipped_share > CLIPPED_SHARE:
            clipped += ": distorted, its spectra too"
        return {
            "Length": self._length(),
            "File": f"{self.rate_hz:g} Hz, {counted(self.channels, 'channel')}",
            "Level (full scale is 0 dB)": self.level,
            "At full scale": clipped,
            "Speech": f"{self.active.mean():.0%} of the time",
            "Voiced": f"{voiced.sum() / self.active.sum():.0%} of the speech",
            "Median pitch": f"{np.median(f0_hz):.0f} Hz" if f0_hz.size else "no voiced speech",
        }

    def _length(self) -> str:
        if not self.is_cut:
            return f"{self.shown_s:.2f} s"
        whole = "more" if self.duration_s is None else f"{self.duration_s:.2f} s"
        return f"the first {self.shown_s:.2f} s of {whole}"


def examine(
    path: PathLike,
    equalisers: dict[str, Equaliser],
    *,
    seconds: float = DEFAULT_SECONDS,
    channel: int | str = "mix",
    raw: bool = False,
) -> Recording:
    """Analyse the first seconds of a recording, and equalise and code it with each model.

    Raises Codec2EqError if it cannot be read, is shorter than one frame or silent.
    """
    limit = round(seconds * RATE_HZ)
    with stream_audio(path, channel=channel, raw=raw, block_s=_READ_S) as stream:
        audio = _first(stream, limit + 1)
        samples = to_s16(audio[:limit])
        frames = extract(audio[:limit], frame_ms=FRAME_MS, full_scale=FULL_SCALE)
        if not len(frames):
            raise Codec2EqError(
                stream.name, f"{len(audio) / RATE_HZ:.3f} s long, at least {FRAME_MS} ms needed"
            )
        active = speech_activity(frames.mean_db)
        if not active.any():
            raise Codec2EqError(
                stream.name,
                f"silence in its first {len(samples) / RATE_HZ:.2f} s",
                "show a recording of speech",
            )
        passage = _Passage(audio[:limit], frames, active)
        outcomes = tuple(_outcome(*item, passage) for item in equalisers.items())
        measured = measure([audio[:limit, None]], name=stream.name, rate=RATE_HZ)
        return Recording(
            name=printable(stream.name),
            rate_hz=stream.rate,
            channels=stream.channels,
            duration_s=stream.duration_s,
            is_cut=len(audio) > limit,
            clipped_share=stream.clipped_share,
            samples=at_one_level(samples, active),
            level=_level(samples),
            frames=frames,
            active=active,
            before=zero_mean(frames.vectors),
            outcomes=outcomes,
            measured=measured,
            faults=tuple(find_faults(measured)),
        )


def _first(blocks: Iterable[Floats], n_samples: int) -> Floats:
    """Join blocks (m,) up to n_samples; what follows is not read."""
    parts = [np.empty(0, np.float32)]
    n_held = 0
    for block in blocks:
        parts.append(block)
        n_held += len(block)
        if n_held >= n_samples:
            break
    return np.concatenate(parts)[:n_samples]


@dataclass(frozen=True, eq=False)
class _Passage:
    """What is examined: (m,) samples in the scale of int16, their frames, which hold speech."""

    samples: Floats
    frames: RateK
    active: NDArray[np.bool_]


def _outcome(model: str, equaliser: Equaliser, passage: _Passage) -> Outcome:
    quantiser = Quantiser(codebook_700c())
    active = passage.active
    shapes = zero_mean(equaliser(passage.frames.vectors))
    quantised, indexes = quantiser.quantise(shapes)
    on_speech, on_all = VqStatistics(quantiser), VqStatistics(quantiser)
    on_speech.add(shapes[active], quantised[active], indexes[active])
    on_all.add(shapes, quantised, indexes)
    error = (shapes - quantised)[active]
    spectrum_db = shapes[active].mean(axis=0)
    bits = encode(passage.samples, model=equaliser, full_scale=FULL_SCALE)
    own = extract(passage.samples, frame_ms=10, full_scale=FULL_SCALE)
    return Outcome(
        model=printable(model),
        shapes=shapes,
        distortion=on_speech.distortion,
        distortion_all=on_all.distortion,
        band_error_db=np.sqrt(np.mean(error**2, axis=0)),
        spectrum_db=spectrum_db,
        off_db=float(np.sqrt(np.mean((spectrum_db - CODEBOOK_MEAN_DB) ** 2))),
        heard=heard_error(bits, own.vectors),
        decoded=at_one_level(decode(bits), active),
    )


def _level(samples: NDArray[np.int16]) -> str:
    """Describe the level of samples that are not all zero."""
    values = samples / FULL_SCALE
    rms_db, peak_db = 10 * np.log10([np.mean(values**2), np.max(values**2)])
    return f"{rms_db:.1f} dB rms, peak {peak_db:z.1f} dB"


def printable(name: str) -> str:
    """Return a file's name as UTF-8 can hold it: on Linux it may be any bytes."""
    return os.fsencode(name).decode("utf-8", "replace")
