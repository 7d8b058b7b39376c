# SPDX-License-Identifier: LGPL-2.1-or-later
"""Evaluation: recordings x filters x equalisers, measured as `quality` defines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.resample import RATE_HZ
from codec2_eq.bench import quality
from codec2_eq.bench.quality import Floats, Quantise, Reference, Sums
from codec2_eq.bench.shaping import Shaping
from codec2_eq.corpus.listing import list_recordings
from codec2_eq.equalisers.equaliser import CODEBOOK_MEAN_DB
from codec2_eq.errors import Codec2EqError

HOP = RATE_HZ * quality.FRAME_MS // 1000
LONGEST_S = 96.0  # of one recording: eight cold segments
SHORTEST_S = 12.0
PER_SPEAKER = 2  # recordings, so that no speaker with many hours outweighs the others
FILE_SHORTEST = 5 * HOP
MANIFEST = "manifest.jsonl"

# For the Kalman baseline. Mean canonical offset of the training recordings; generator:
# np.mean([r.offset for r in training.data.load(features)], axis=0).
AVERAGE_OFFSET_DB = np.array(
    [
        8.0,
        6.4,
        3.9,
        1.4,
        -0.3,
        -1.3,
        -2.1,
        -1.7,
        -1.8,
        -2.2,
        -2.3,
        -2.7,
        -2.4,
        -1.9,
        -2.3,
        -2.2,
        -0.7,
        0.3,
        -4.2,
        8.0,
    ]
)
CHANNEL_SD_DB = 6.0  # found best on the validation speech, as is the reach
CHANNEL_REACH_BANDS = 4.0
BAND_HZ = 700 * (10 ** (np.linspace(283, 2072, len(AVERAGE_OFFSET_DB)) / 2595) - 1)
OCTAVES = np.log2(BAND_HZ / 1000)

Analyse = Callable[[Any], Floats]


@dataclass(frozen=True, eq=False)
class Speech:
    """One recording: one speaker, one microphone. samples : (n,) 8 kHz, int16 scale."""

    speaker: str
    name: str
    samples: Floats


@dataclass(frozen=True, eq=False)
class Case:
    """A recording and what its filters made of it: rate-K vectors, mean included, by shaping."""

    speaker: str
    name: str
    reference: Reference
    shaped: Mapping[str, Floats]


def analyse(samples: NDArray[Any]) -> Floats:
    """Speech at 8 kHz, int16 scale, to rate-K vectors at 40 ms, rounded as a file would be."""
    from codec2_eq.extraction import extract

    pcm = np.clip(np.round(samples), -32768, 32767).astype(np.int16)
    return extract(pcm, RATE_HZ, frame_ms=quality.FRAME_MS).vectors


def find_speech(inputs: Sequence[str | Path], use: str | None = None) -> dict[str, list[Path]]:
    """Audio files by speaker.

    inputs : audio files, folders, or folders with a `manifest.jsonl` that names the speakers; of
    such a one only the entries of `use` ("validate") are taken. Elsewhere the folder that holds a
    file is its speaker, named by as much of its path as tells it from the others.
    Raises Codec2EqError if an input is missing or holds nothing, or a manifest is damaged.
    """
    speakers: dict[str, list[Path]] = {}
    folders: dict[Path, list[Path]] = {}
    for entry in map(Path, inputs):
        if (entry / MANIFEST).is_file():
            for row in manifest_rows(entry, use):
                speakers.setdefault(row["speaker"], []).append(entry / row["path"])
            continue
        if not entry.exists():
            raise Codec2EqError(f"{entry}: not found; name audio files or folders")
        found = list_recordings([str(entry)])
        for path in (Path(found.base, name) for name in found.states):
            folders.setdefault(path.resolve().parent, []).append(path)
    for folder, name in short_names(folders, taken=set(speakers)).items():
        speakers[name] = folders[folder]
    return {speaker: sorted(paths) for speaker, paths in sorted(speakers.items())}


def manifest_rows(folder: Path, use: str | None = None) -> list[dict[str, Any]]:
    """Entries of the `manifest.jsonl` that fetch_speech.py writes: "path", "speaker", "use", ….

    use : "train", "validate" or "classic"; all without.
    Raises Codec2EqError if there is none, none of that use, or a line is damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise Codec2EqError(f"{manifest}: not found; fetch speech with scripts/fetch_speech.py")
    rows = []
    for number, line in enumerate(manifest.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({**row, "path": Path(row["path"]), "speaker": str(row["speaker"])})
        except (ValueError, KeyError, TypeError) as error:
            raise Codec2EqError(
                f"{manifest}: line {number} tells of no recording ({error}); make it again with "
                "scripts/fetch_speech.py"
            ) from error
    uses = sorted({str(row.get("use")) for row in rows})
    rows = [row for row in rows if use in (None, row.get("use"))]
    if not rows:
        raise Codec2EqError(
            f"{manifest}: lists no recordings for use {use!r}, only for {', '.join(uses) or 'none'}"
        )
    return rows


def short_names(paths: Iterable[Path], taken: Container[str] = ()) -> dict[Path, str]:
    """Names of paths: of each the shortest end that no other path has and no one has taken."""
    paths = list(paths)
    ends = {path: list(_ends(path)) for path in paths}
    counts = Counter(end for path in paths for end in ends[path])
    return {
        path: next((end for end in ends[path] if counts[end] == 1 and end not in taken), str(path))
        for path in paths
    }


def _ends(path: Path) -> Iterator[str]:
    for n in range(1, len(path.parts) + 1):
        yield str(Path(*path.parts[-n:]))


def name_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Distinct files by their stems, or by their paths where stems are alike."""
    files = list({path.resolve(): path for path in paths}.values())
    taken = Counter(name for path in files for name in {path.stem, str(path)})
    return {path.stem if taken[path.stem] == 1 else str(path): path for path in files}


def read_clip(path: Path, analyse: Analyse = analyse) -> Floats:
    """One file, its pauses cut to 0.4 s, whole 40 ms frames."""
    from codec2_eq.audio.stream import read_audio

    samples = read_audio(path)
    if len(samples) < FILE_SHORTEST:
        return samples[:0]
    return quality.cut_silences(samples, analyse(samples).mean(axis=1))


def join_recordings(
    speaker: str, paths: Sequence[Path], analyse: Analyse = analyse
) -> list[Speech]:
    """Files of one speaker joined to recordings of one session each.

    Files of one folder are one session; folders too short for a recording are joined to one.
    The longest sessions are taken, at most PER_SPEAKER, of each the first LONGEST_S.
    """
    sessions: dict[Path, list[Floats]] = {}
    limit = int(LONGEST_S * RATE_HZ)
    for path in paths:
        clips = sessions.setdefault(path.parent, [])
        if sum(map(len, clips)) < limit:
            clips.append(read_clip(path, analyse))
    enough = int(SHORTEST_S * RATE_HZ)
    whole, rest = [], []
    for folder, name in short_names(sessions).items():
        samples = np.concatenate(sessions[folder])[:limit]
        if len(samples) >= enough:
            whole.append(Speech(speaker, name, samples))
        else:
            rest.append(samples)
    if sum(map(len, rest)) >= enough:
        whole.append(Speech(speaker, "short sessions", np.concatenate(rest)[:limit]))
    return sorted(whole, key=lambda speech: -len(speech.samples))[:PER_SPEAKER]


def load_speech(
    speakers: Mapping[str, Sequence[Path]],
    analyse: Analyse = analyse,
    report: Callable[[str], object] = lambda line: None,
) -> list[Speech]:
    """All recordings of all speakers; raises Codec2EqError if none has 12 s of speech.

    report : called with a line for each speaker who is left out for having less
    """
    speech: list[Speech] = []
    for name, paths in speakers.items():
        recordings = join_recordings(name, paths, analyse)
        if not recordings:
            report(f"{name}: left out, has under {SHORTEST_S:g} s of speech; give more recordings")
        speech += recordings
    if not speech:
        raise Codec2EqError(f"no speaker has {SHORTEST_S:g} s of speech; give more recordings")
    return speech


def shape_recording(
    speech: Speech, shapings: Sequence[Shaping], quantise: Quantise, analyse: Analyse = analyse
) -> Case:
    """Analyse a recording plain and through each filter."""
    reference = Reference.of(analyse(speech.samples), quantise)
    shaped = {s.name: analyse(s(speech.samples)) for s in shapings}
    return Case(speech.speaker, speech.name, reference, shaped)


def run_case(
    case: Case,
    models: Mapping[str, quality.Equalise],
    quantise: Quantise,
    before: Case | None = None,
) -> dict[tuple[str, str], Sums]:
    """Measure every model on every shaping of a recording: sums by (model, shaping).

    Beside the models stand "oracle", and "utterance mean", which sees the future but not c*.
    before : another speaker, of whom the models hear 12 s before each segment, through another
    filter; without, each segment is met from a cold start.
    """
    table: dict[tuple[str, str], Sums] = {}
    for index, (shaping, vectors) in enumerate(case.shaped.items()):
        heard = _heard_before(before, index)
        for model, equalise in models.items():
            if heard is not None:
                equalise = _hearing_first(heard, equalise)
            table[model, shaping] = quality.score(equalise, vectors, case.reference, quantise)
        parts = quality.cold_segments(len(vectors))
        for name, output in (
            ("utterance mean", [_utterance_mean(case, vectors, part) for part in parts]),
            ("oracle", [case.reference.oracle(vectors)[part] for part in parts]),
        ):
            table[name, shaping] = sum(
                (
                    quality.measure(out, case.reference.part(part), quantise)
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
    return shaped[(index + len(shaped) // 2) % len(shaped)][: quality.SEGMENT_FRAMES]


def _hearing_first(heard: Floats, equalise: quality.Equalise) -> quality.Equalise:
    return lambda vectors: equalise(np.concatenate([heard, vectors]))[len(heard) :]


def _utterance_mean(case: Case, vectors: Floats, part: slice) -> Floats:
    """Not causal: the segment's own mean over active frames becomes that of the codebook."""
    shapes = quality.shapes_of(vectors[part])
    active = case.reference.active[part]
    if not active.any():
        return shapes
    return shapes - shapes[active].mean(axis=0) + CODEBOOK_MEAN_DB.astype(np.float32)


def distortion(output: Floats, quantise: Quantise) -> float:
    """Mean D over all frames of a whole file, silence too, as Codec 2's author prints it, dB^2."""
    shapes = quality.shapes_of(np.asarray(output, np.float32))
    return float(np.square(shapes - quantise(shapes)).mean())


def after_700c(samples: Floats, model: str) -> Floats:
    """What is heard of speech through 700C with an equaliser: rate-K vectors (n, K), dB.

    It is encoded from a cold start, with the energy of the original, decoded, and analysed again.
    samples : (n,) at 8 kHz, int16 scale. model : name of the equaliser.
    """
    from codec2_eq.stream700c.codec import decode, encode

    pcm = np.round(samples).astype(np.int16)
    return analyse(decode(encode(pcm, model=model, level="keep")))


def distance(vectors: Floats, others: Floats) -> float:
    """Rms distance of the shapes of two recordings of one speech, (n, K) dB each.

    Only frames that are active in the first count; raises Codec2EqError if none is.
    """
    active = quality.speech_activity(vectors.mean(axis=1))
    if not active.any():
        raise Codec2EqError("no active speech to compare; give speech")
    difference = quality.shapes_of(others)[active] - quality.shapes_of(vectors)[active]
    return float(np.sqrt(np.square(difference).mean()))


class KalmanMean:
    """Kalman-CMN: the best linear estimate of the channel, with full covariances.

    The channel is constant with covariance `prior`, speech about its mean has covariance
    `speech`, and active frames of it count as independent once every `spacing` frames.
    A baseline: what can be had without learning more than second-order statistics.
    """

    def __init__(
        self, speech: np.ndarray, prior: np.ndarray, start: np.ndarray, *, spacing: float = 4.0
    ):
        self._noise = np.asarray(speech, np.float64) * spacing
        self._prior = np.asarray(prior, np.float64)
        self._start = np.asarray(start, np.float64)

    @classmethod
    def from_codebook(cls) -> KalmanMean:
        """Speech as the 700C codebook spreads it, channels smooth over some 4 bands."""
        from codec2_eq.libcodec2 import codebook_700c

        speech = sum(np.cov(stage.T) for stage in codebook_700c())
        bands = np.arange(len(AVERAGE_OFFSET_DB))
        reach = (bands[:, None] - bands) / CHANNEL_REACH_BANDS
        prior = CHANNEL_SD_DB**2 * np.exp(-0.5 * np.square(reach))
        prior += (CHANNEL_SD_DB / 2) ** 2 * np.outer(OCTAVES, OCTAVES) + 0.5 * np.eye(len(bands))
        return cls(np.asarray(speech), prior, AVERAGE_OFFSET_DB)

    def __call__(self, vectors: Floats) -> Floats:
        """Whole file from a cold start: (n, K) dB to shapes (n, K) dB."""
        shapes = quality.shapes_of(vectors).astype(np.float64)
        levels = vectors.mean(axis=1)
        channel, covariance = self._start.copy(), self._prior.copy()
        out = np.empty_like(shapes)
        peak = -np.inf
        for i, shape in enumerate(shapes):
            peak = max(peak - 0.02, levels[i])
            if levels[i] > peak - quality.ACTIVE_RANGE_DB:
                gain = np.linalg.solve((covariance + self._noise).T, covariance.T).T
                channel += gain @ (shape - CODEBOOK_MEAN_DB - channel)
                covariance -= gain @ covariance
            out[i] = shape - channel
        return quality.shapes_of(out.astype(np.float32))


def mean_spectra(
    case: Case, equalise: quality.Equalise
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean shape of the speech of a case by shaping, before and after, (K,) dB each."""
    active = case.reference.active
    return {
        name: (
            quality.shapes_of(vectors)[active].mean(axis=0),
            quality.shapes_of(equalise(vectors))[active].mean(axis=0),
        )
        for name, vectors in case.shaped.items()
    }
