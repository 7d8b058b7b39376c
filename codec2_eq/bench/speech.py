# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech to measure on: files by speaker, their pauses cut, joined to recordings."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import to_s16
from codec2_eq.bench.measures import FRAME_MS, Floats, cut_silences
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.corpus.listing import list_recordings
from codec2_eq.errors import Codec2EqError

LONGEST_S = 96.0  # of one recording: eight cold segments
SHORTEST_S = 12.0
PER_SPEAKER = 2  # recordings, so that no speaker with many hours outweighs the others
SHORTEST_FILE = RATE_HZ // 5  # samples
MANIFEST = "manifest.jsonl"

Analyse = Callable[[Any], Floats]


class ManifestEntry(TypedDict):
    """A line of the `manifest.jsonl` that scripts/fetch_speech.py writes: one recording.

    path : relative to the manifest, empty for one that is not kept
    package, version, source : where it is from, the last as a path in the package
    use : what it may be used for: "train", "validate", "classic" or "parity"
    single_speaker : whether one person alone speaks. duration : s. rate : Hz
    sha256 : of the samples as little-endian int16, whatever file they came in
    text : what is said, where the package has it in a file beside the recording
    """

    path: str
    package: str
    version: str
    source: str
    use: str
    speaker: str
    language: str
    licence: str
    single_speaker: bool
    duration: float
    rate: int
    sha256: str
    text: str


@dataclass(frozen=True, eq=False)
class Speech:
    """One recording: one speaker, one microphone. samples : (n,) 8 kHz, int16 scale."""

    speaker: str
    name: str
    samples: Floats


def analyse(samples: NDArray[Any]) -> Floats:
    """Speech at 8 kHz, int16 scale, to rate-K vectors at 40 ms, rounded as a file would be."""
    from codec2_eq.extraction import extract

    return extract(to_s16(samples), RATE_HZ, frame_ms=FRAME_MS).vectors


def find_speech(inputs: Sequence[str | Path], use: str | None = None) -> dict[str, list[Path]]:
    """Audio files by speaker.

    inputs : audio files, folders, or folders with a `manifest.jsonl` that names the speakers; of
    such a one only the entries of `use` ("validate") are taken. Elsewhere the folder that holds a
    file is its speaker, named by as much of its path as distinguishes it.
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
            raise Codec2EqError(entry, "not found", "name audio files or folders")
        found = list_recordings([str(entry)])
        for path in (Path(found.base, name) for name in found.stamps):
            folders.setdefault(path.resolve().parent, []).append(path)
    for folder, name in short_names(folders, taken=set(speakers)).items():
        speakers[name] = folders[folder]
    return {speaker: sorted(paths) for speaker, paths in sorted(speakers.items())}


def manifest_rows(folder: Path, use: str | None = None) -> list[dict[str, Any]]:
    """Entries of a manifest, each a `ManifestEntry` whose path is a Path.

    use : "train", "validate" or "classic"; all without.
    Raises Codec2EqError if there is none, none of that use, or a line is damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise Codec2EqError(manifest, "not found", "fetch speech with scripts/fetch_speech.py")
    rows = []
    for number, line in enumerate(manifest.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({**row, "path": _path(row["path"]), "speaker": str(row["speaker"])})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Codec2EqError(
                manifest,
                f"line {number} describes no recording ({error})",
                "make it again with scripts/fetch_speech.py",
            ) from error
    uses = sorted({str(row.get("use")) for row in rows})
    rows = [row for row in rows if use in (None, row.get("use"))]
    if not rows:
        raise Codec2EqError(
            manifest, f"lists no recordings for use {use!r}, only for {', '.join(uses) or 'none'}"
        )
    return rows


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError("a NUL in its path")
    os.fsencode(text)  # raises ValueError for an impossible file name
    return Path(text)


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
    if len(samples) < SHORTEST_FILE:
        return samples[:0]
    return cut_silences(samples, analyse(samples).mean(axis=1))


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
        raise Codec2EqError(
            "", f"no speaker has {SHORTEST_S:g} s of speech", "give more recordings"
        )
    return speech
