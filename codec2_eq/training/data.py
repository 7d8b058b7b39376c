# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech to train on: recordings per speaker, warped voices, and shaped twins of them.

Shaping happens in two places. Here, slowly and once, in the time domain: filters, noise, codecs,
clipping, with all that the analysis makes of them. And at every draw, quickly, in dB: a channel
added to vectors that exist already (`sampler.draw_channel`). The features are cached in one file.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import to_s16
from codec2_eq.bench import shaping
from codec2_eq.bench.measures import Quantise, Reference
from codec2_eq.bench.noise import NOISES, Noise
from codec2_eq.bench.speech import (
    Analyse,
    analyse,
    find_speech,
    manifest_rows,
    read_clip,
)
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.files import atomic_output
from codec2_eq.training.settings import Draws

RECORDING_S = 96.0  # one reference curve each: long enough to know it, short enough to be one room
SHORTEST_RECORDING_S = 8.0
MOST_PER_SPEAKER_S = 600.0  # more minutes of one voice teach less than they cost
WARPED_PER_SPEAKER_S = 300.0
WARPS = (0.86, 1.16)  # speed factors: formants move as between a large and a small speaker
TWINS = 2  # shaped versions of each recording in the time domain
NOISY_SNR_DB = (8.0, 24.0)  # of the twin in noise, if one is made

NO_ARRAYS = (
    AttributeError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Raised when something else, or a damaged file, is read as the arrays of an .npz file."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Recording:
    """Speech of one speaker and room, and shaped twins of it, as rate-K vectors at 40 ms.

    speaker : name; plain : (n, K) dB; twins : (t, n, K) dB, first the TWINS, then one in noise if
    it was asked for; active : (n,) bool; offset : (K,) canonical offset of `plain`, dB;
    knots : how the vectors were made, of `codec2_eq.extraction`.
    """

    speaker: str
    plain: Floats
    twins: Floats
    active: NDArray[np.bool_]
    offset: Floats
    knots: str = "pick"


@dataclass(frozen=True)
class Sources:
    """Recordings to train on, and what distinguishes them from others.

    speakers : paths by speaker; origins : where they came from, for a card; sha256 : of their
    contents and of how features are made of them, hexadecimal.
    """

    speakers: dict[str, list[Path]]
    origins: str
    sha256: str


def find_sources(folder: Path, draws: Draws | None = None) -> Sources:
    """The training speech in the `manifest.jsonl` of fetch_speech.py; errors as `manifest_rows`."""
    rows = manifest_rows(folder, "train")
    origins = {" ".join(str(row[k]) for k in ("package", "version") if k in row) for row in rows}
    contents = sorted([row["speaker"], str(row["path"]), row.get("sha256")] for row in rows)
    made = [
        RECORDING_S,
        SHORTEST_RECORDING_S,
        MOST_PER_SPEAKER_S,
        WARPED_PER_SPEAKER_S,
        WARPS,
        TWINS,
        *_more_made(draws or Draws()),
    ]
    digest = hashlib.sha256(json.dumps([contents, made]).encode()).hexdigest()
    return Sources(find_speech([folder], "train"), ", ".join(sorted(origins - {""})), digest)


def _more_made(draws: Draws) -> list[object]:
    """What the features depend on besides, if there are draws from noise or fitted vectors."""
    return [NOISY_SNR_DB] * bool(draws.noisy) + ["fit"] * bool(draws.fitted)


def _analyse_fitted(samples: Floats) -> Floats:
    return extract(to_s16(samples), RATE_HZ, knots="fit").vectors


def read_speech(paths: Sequence[Path], limit_s: float) -> Floats:
    """Files of one speaker, pauses cut to 0.4 s, joined up to `limit_s`; int16 scale at 8 kHz.

    Files are taken in an order that depends on their names alone, so that every part of a pack
    is heard however short the limit.
    """
    parts: list[Floats] = []
    wanted = int(limit_s * RATE_HZ)
    for path in sorted(paths):
        if wanted <= 0:
            break
        parts.append(read_clip(path)[:wanted])
        wanted -= len(parts[-1])
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def warp(samples: Floats, factor: float) -> Floats:
    """Play faster: pitch and formants rise by `factor`, as with a shorter vocal tract."""
    import soxr

    return np.asarray(soxr.resample(samples, RATE_HZ * factor, RATE_HZ), np.float32)


def random_channel(rng: np.random.Generator) -> shaping.Shaping:
    """A filter for training: microphones, tilts and skirts beyond what the bench holds."""
    parts = [shaping.random_microphone(rng)]
    if rng.random() < 0.5:
        parts.append(shaping.tilt(rng.uniform(-6, 6)))
    if rng.random() < 0.25:
        parts.append(shaping.high_pass(rng.uniform(200, 600), int(rng.integers(1, 5))))
    if rng.random() < 0.25:
        parts.append(shaping.low_pass(rng.uniform(1600, 3600), int(rng.integers(1, 5))))
    return shaping.Shaping("random", shaping.minimum_phase(shaping.cascade(*parts)))


def _add_noise(samples: Floats, rng: np.random.Generator) -> Floats:
    noise = shaping.Shaping("noise", shaping.minimum_phase(shaping.tilt(rng.uniform(-6, 1))))
    hiss = noise(rng.standard_normal(len(samples)))
    ratio_db = rng.uniform(15, 40)
    gain = np.sqrt(np.mean(np.square(samples)) * 10 ** (-ratio_db / 10))
    return np.asarray(samples + gain * hiss, np.float32)


def _through_codec(samples: Floats, rng: np.random.Generator) -> Floats:
    import soundfile

    subtype = str(rng.choice(["GSM610", "ALAW", "ULAW"]))
    stream = io.BytesIO()
    soundfile.write(stream, samples / 32768, RATE_HZ, format="WAV", subtype=subtype)
    stream.seek(0)
    coded, _ = soundfile.read(stream, dtype="float32")
    out = np.zeros_like(samples)
    n = min(len(coded), len(out))
    out[:n] = coded[:n] * 32768
    return out


def _clip(samples: Floats, rng: np.random.Generator) -> Floats:
    limit = np.abs(samples).max() * rng.uniform(0.15, 0.5)
    return np.asarray(np.clip(samples, -limit, limit), np.float32)


def shaped_twin(samples: Floats, rng: np.random.Generator) -> Floats:
    """The same speech through another microphone, sometimes noisy, coded or clipped."""
    twin = random_channel(rng)(samples)
    if rng.random() < 0.25:
        twin = _add_noise(twin, rng)
    if rng.random() < 0.1:
        twin = _clip(twin, rng)
    if rng.random() < 0.15:
        twin = _through_codec(twin, rng)
    return twin * np.float32(10 ** (rng.uniform(-20, 0) / 20))


def noisy_twin(samples: Floats, rng: np.random.Generator) -> Floats:
    """The same speech in noise, through another microphone."""
    kind, seed = str(rng.choice(list(NOISES))), int(rng.integers(2**31))
    noise = Noise(kind, float(rng.uniform(*NOISY_SNR_DB)), seed)
    return random_channel(rng)(noise(samples))


def _recordings_of(
    speaker: str, speech: Floats, analyses: Mapping[str, Analyse], quantise: Quantise, noisy: bool
) -> Iterator[Recording]:
    for start in range(0, len(speech), int(RECORDING_S * RATE_HZ)):
        samples = speech[start : start + int(RECORDING_S * RATE_HZ)]
        if len(samples) < SHORTEST_RECORDING_S * RATE_HZ:
            continue
        rng = np.random.default_rng([zlib.crc32(speaker.encode()), start])
        twins = [shaped_twin(samples, rng) for _ in range(TWINS)]
        if noisy:
            twins.append(noisy_twin(samples, rng))
        for knots, analysis in analyses.items():
            plain = analysis(samples)
            reference = Reference.of(plain, quantise)
            vectors = np.stack([analysis(twin) for twin in twins])
            yield Recording(speaker, plain, vectors, reference.active, reference.offset, knots)


def prepare(
    speakers: dict[str, list[Path]],
    *,
    quantise: Quantise,
    draws: Draws | None = None,
    progress: Callable[[str], object] = lambda text: None,
) -> list[Recording]:
    """All recordings that some draws need: each speaker as is and at two other speeds."""
    draws = draws or Draws()
    recordings: list[Recording] = []
    analyses = {"pick": analyse} | ({"fit": _analyse_fitted} if draws.fitted else {})
    made = (analyses, quantise, draws.noisy > 0)
    for index, (speaker, paths) in enumerate(speakers.items(), 1):
        progress(f"speaker {index:3}/{len(speakers)}  {speaker}")
        speech = read_speech(paths, MOST_PER_SPEAKER_S)
        recordings += _recordings_of(speaker, speech, *made)
        short = speech[: int(WARPED_PER_SPEAKER_S * RATE_HZ)]
        for factor in WARPS:
            warped = warp(short, factor)
            recordings += _recordings_of(f"{speaker}*{factor}", warped, *made)
    return recordings


_ARRAYS = ("plain", "twins", "active", "offset")


def save(recordings: Sequence[Recording], path: str | Path, sources: str = "") -> None:
    """Cache recordings in one `.npz` file. sources : the sha256 of what they were made from."""
    arrays: dict[str, np.ndarray] = {
        "speakers": np.array([r.speaker for r in recordings]),
        "knots": np.array([r.knots for r in recordings]),
        "sources": np.array(sources),
    }
    for i, recording in enumerate(recordings):
        arrays |= {f"{i}.{name}": getattr(recording, name) for name in _ARRAYS}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path, force=True) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def load(path: str | Path) -> tuple[list[Recording], str]:
    """Read what `save` wrote: recordings, and the sha256 of what they were made from.

    Raises Codec2EqError if it is something else, or damaged.
    """
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            recordings = [
                Recording(
                    speaker=str(speaker),
                    knots=str(knots),
                    **{name: arrays[f"{i}.{name}"] for name in _ARRAYS},
                )
                for i, (speaker, knots) in enumerate(
                    zip(arrays["speakers"], arrays["knots"], strict=True)
                )
            ]
            return recordings, str(arrays["sources"])
    except NO_ARRAYS as error:
        raise Codec2EqError(
            path, f"no features to train on ({error})", "remove it to have them made again"
        ) from error
