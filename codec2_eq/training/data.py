# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech to train on: recordings per speaker, warped voices, and shaped twins of them.

Shaping happens in two places. Here, slowly and once, in the time domain: filters, noise, codecs,
clipping, with all that the analysis makes of them. And at every draw, quickly, in dB: a channel
added to vectors that exist already (`draw_channel`). The features are cached in one file.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec2_eq.bench import shaping
from codec2_eq.bench.measures import SEGMENT_FRAMES, Quantise, Reference, shapes_of
from codec2_eq.bench.shaping import BAND_HZ, OCTAVES
from codec2_eq.bench.speech import Analyse, analyse, find_speech, manifest_rows, read_clip
from codec2_eq.codec2 import RATE_HZ, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import atomic_output
from codec2_eq.training.settings import Draws

RECORDING_S = 96.0  # one reference curve each: long enough to know it, short enough to be one room
SHORTEST_RECORDING_S = 8.0
MOST_PER_SPEAKER_S = 600.0  # more minutes of one voice teach less than they cost
WARPED_PER_SPEAKER_S = 300.0
WARPS = (0.86, 1.16)  # speed factors: formants move as between a large and a small speaker
TWINS = 2  # shaped versions of each recording in the time domain

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Recording:
    """Speech of one speaker and room, and shaped twins of it, as rate-K vectors at 40 ms.

    speaker : name; plain : (n, K) dB; twins : (t, n, K) dB; active : (n,) bool;
    offset : (K,) canonical offset of `plain`, dB.
    """

    speaker: str
    plain: Floats
    twins: Floats
    active: NDArray[np.bool_]
    offset: Floats


@dataclass(frozen=True)
class Sources:
    """Recordings to train on, and what tells them from others.

    speakers : paths by speaker; told : where they came from, for a card; sha256 : of their
    contents and of how features are made of them, hexadecimal.
    """

    speakers: dict[str, list[Path]]
    told: str
    sha256: str


def find_sources(folder: Path) -> Sources:
    """What the `manifest.jsonl` of fetch_speech.py has to train on; errors as `manifest_rows`."""
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
    ]
    digest = hashlib.sha256(json.dumps([contents, made]).encode()).hexdigest()
    return Sources(find_speech([folder], "train"), ", ".join(sorted(origins - {""})), digest)


def read_speech(paths: Sequence[Path], limit_s: float, analyse: Analyse) -> Floats:
    """Files of one speaker, pauses cut to 0.4 s, joined up to `limit_s`; int16 scale at 8 kHz.

    Files are taken in an order that depends on their names alone, so that every part of a pack
    is heard however short the limit.
    """
    parts: list[Floats] = []
    wanted = int(limit_s * RATE_HZ)
    for path in sorted(paths):
        if wanted <= 0:
            break
        parts.append(read_clip(path, analyse)[:wanted])
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


def _recordings_of(
    speaker: str, speech: Floats, analyse: Analyse, quantise: Quantise
) -> Iterator[Recording]:
    for start in range(0, len(speech), int(RECORDING_S * RATE_HZ)):
        samples = speech[start : start + int(RECORDING_S * RATE_HZ)]
        if len(samples) < SHORTEST_RECORDING_S * RATE_HZ:
            continue
        rng = np.random.default_rng([zlib.crc32(speaker.encode()), start])
        plain = analyse(samples)
        reference = Reference.of(plain, quantise)
        twins = np.stack([analyse(shaped_twin(samples, rng)) for _ in range(TWINS)])
        yield Recording(speaker, plain, twins, reference.active, reference.offset)


def prepare(
    speakers: dict[str, list[Path]],
    *,
    analyse: Analyse = analyse,
    quantise: Quantise,
    progress: Callable[[str], object] = lambda text: None,
) -> list[Recording]:
    """All recordings to train on: each speaker as is and at two other speeds."""
    recordings: list[Recording] = []
    for index, (speaker, paths) in enumerate(speakers.items(), 1):
        progress(f"speaker {index:3}/{len(speakers)}  {speaker}")
        speech = read_speech(paths, MOST_PER_SPEAKER_S, analyse)
        recordings += _recordings_of(speaker, speech, analyse, quantise)
        short = speech[: int(WARPED_PER_SPEAKER_S * RATE_HZ)]
        for factor in WARPS:
            warped = warp(short, factor)
            recordings += _recordings_of(f"{speaker}*{factor}", warped, analyse, quantise)
    return recordings


def save(recordings: Sequence[Recording], path: str | Path, sources: str = "") -> None:
    """Cache recordings in one `.npz` file. sources : the sha256 of what they were made from."""
    arrays: dict[str, np.ndarray] = {
        "speakers": np.array([r.speaker for r in recordings]),
        "sources": np.array(sources),
    }
    for i, recording in enumerate(recordings):
        arrays[f"{i}.plain"] = recording.plain
        arrays[f"{i}.twins"] = recording.twins
        arrays[f"{i}.active"] = recording.active
        arrays[f"{i}.offset"] = recording.offset
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
                    str(speaker),
                    *(arrays[f"{i}.{name}"] for name in ("plain", "twins", "active", "offset")),
                )
                for i, speaker in enumerate(arrays["speakers"])
            ]
            return recordings, str(arrays["sources"])
    except (
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise Codec2EqError(
            path, f"no features to train on ({error})", "remove it to have them made again"
        ) from error


FLOOR_DB = 50.0  # below the frame's peak the analysis lets no band fall; codec2 newamp1


def draw_channel(rng: np.random.Generator, draws: Draws) -> NDArray[np.float64]:
    """A constant curve over the bands, (K,) dB: smooth, tilted, band-limited, resonant, or none."""
    if rng.random() < 0.1:
        return np.zeros(K)
    bands = np.arange(K)
    reach = rng.uniform(1.5, 7)
    covariance = np.exp(-0.5 * np.square((bands[:, None] - bands) / reach)) + 1e-4 * np.eye(K)
    curve = np.linalg.cholesky(covariance) @ rng.standard_normal(K)
    curve *= rng.uniform(0, draws.smooth_db)
    if rng.random() < 0.6:
        curve += rng.uniform(-draws.tilt_db, draws.tilt_db) * OCTAVES
    if rng.random() < 0.25:
        curve += shaping.high_pass(rng.uniform(150, 900), int(rng.integers(1, 4)))(BAND_HZ)
    if rng.random() < 0.25:
        curve += shaping.low_pass(rng.uniform(1500, 3800), int(rng.integers(1, 4)))(BAND_HZ)
    if rng.random() < 0.4:
        centre = 150 * 2 ** rng.uniform(0, 4.6)
        curve += shaping.bell(centre, rng.normal(0, 8), rng.uniform(0.4, 1.8))(BAND_HZ)
    return curve


class Sampler:
    """Draws batches of cold segments: shaped vectors, and what should come of them.

    Speakers with many recordings are drawn more often, but only by the root of their number.
    """

    def __init__(self, recordings: Sequence[Recording], draws: Draws) -> None:
        self._recordings = list(recordings)
        self._draws = draws
        names = [r.speaker.split("*")[0] for r in self._recordings]
        counts = {name: names.count(name) for name in set(names)}
        chances = np.array([counts[name] ** -0.5 for name in names])
        self._chances = chances / chances.sum()

    def batch(self, size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """`size` segments of 12 s.

        Returns vectors (size, 300, K) dB and targets (size, 300, K + 1): canonical shapes, then 1
        for active frames and 0 for others.
        """
        items = [self._item(SEGMENT_FRAMES, rng) for _ in range(size)]
        vectors, targets = zip(*items, strict=True)
        return np.stack(vectors), np.stack(targets)

    def _item(self, n_frames: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        if rng.random() < self._draws.change:
            first = int(rng.integers(25, 200))
            parts = [self._speech(first, rng), self._speech(n_frames - first, rng)]
            louder = _loudness(parts[0][0]) - _loudness(parts[1][0]) + rng.uniform(-10, 10)
            parts[1] = (parts[1][0] + np.float32(louder), parts[1][1])
        elif rng.random() < self._draws.prelude:
            first = int(rng.integers(5, 120))
            speech = self._speech(n_frames - first, rng)
            parts = [_noise_alone(first, _loudness(speech[0]), rng), speech]
        else:
            return self._speech(n_frames, rng)
        vectors, targets = zip(*parts, strict=True)
        return np.concatenate(vectors), np.concatenate(targets)

    def _speech(self, n_frames: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        draws = self._draws
        recording = self._recordings[rng.choice(len(self._recordings), p=self._chances)]
        start = int(rng.integers(0, max(len(recording.plain) - n_frames, 0) + 1))
        frames = np.arange(start, start + n_frames) % len(recording.plain)
        plain = recording.plain[frames]
        if rng.random() < draws.canonical:
            shaped = plain - recording.offset
            if rng.random() < 0.5:
                shaped = shaped + rng.normal(0, 0.7, K)
        else:
            twin = recording.twins[rng.integers(len(recording.twins))]
            shaped = twin[frames] if rng.random() < draws.twin else plain
            shaped = shaped + draw_channel(rng, draws) * (1 if rng.random() < 0.7 else 0.4)
        if rng.random() < draws.noise:
            shaped = _with_noise_floor(shaped, rng)
        shaped = np.maximum(shaped, shaped.max(axis=1, keepdims=True) - FLOOR_DB)
        shaped = shaped + rng.uniform(-15, 15)
        target = shapes_of(plain) - recording.offset
        active = recording.active[frames, None]
        return shaped.astype(np.float32), np.hstack([target, active]).astype(np.float32)


def _loudness(vectors: np.ndarray) -> float:
    return float(np.percentile(vectors.mean(axis=1), 90))


def _hiss(shape: tuple[int, int], level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Vectors of coloured noise: a tilt, and the scatter of a noise's spectrum."""
    return level_db + rng.normal(0, 2, shape) + rng.uniform(-5, 2) * OCTAVES


def _with_noise_floor(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = _hiss(vectors.shape, _loudness(vectors) - rng.uniform(12, 40), rng)
    return 10 * np.log10(10 ** (vectors / 10) + 10 ** (noise / 10))


def _noise_alone(
    n_frames: int, loudness_db: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    noise = _hiss((n_frames, K), loudness_db - rng.uniform(0, 40), rng)
    return noise.astype(np.float32), np.zeros((n_frames, K + 1), np.float32)
