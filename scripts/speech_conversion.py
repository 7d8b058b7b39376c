# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recordings of an unpacked package, in any format found there, to WAV; for fetch_speech.py."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from debian_packages import FetchError, log
from speech_packages import PRECEDENCE, RESERVED, Source, classify

MIN_RATE_HZ = 8000  # below this there is no full telephone band to learn from
ALS_RATE_HZ = 11025  # Drascula: unsigned 8-bit, no header that names the rate
ALS_SKIP_BYTES = 32  # Drascula: opaque bytes before the samples
CODEC2_RATE_HZ = 8000  # Codec 2's headerless .raw files
GSM_RATE_HZ = 8000  # GSM 06.10 knows no other
GSM_FRAME_BYTES = 33  # GSM 06.10 as files have it: 260 bits and a 4-bit signature
GSM_FRAME_SAMPLES = 160


def decode(path: Path) -> tuple[np.ndarray, int]:
    """Read a recording of any kind found in the packages.

    Returns (n,) int16 mono samples and the native rate in Hz.
    Raises FetchError if the file cannot be decoded.
    """
    suffix = path.suffix.lower()
    if suffix == ".als":
        raw = np.fromfile(path, dtype=np.uint8)[ALS_SKIP_BYTES:]
        return (raw.astype(np.int16) - 128) * np.int16(256), ALS_RATE_HZ
    if suffix == ".raw":
        whole = path.stat().st_size // 2
        return np.fromfile(path, dtype="<i2", count=whole).astype(np.int16), CODEC2_RATE_HZ
    headerless: dict[str, Any] = {}
    frames = -1
    if suffix == ".gsm":
        # libsndfile cannot tell the length of a headerless GSM file.
        headerless = {"samplerate": GSM_RATE_HZ, "channels": 1}
        headerless |= {"format": "RAW", "subtype": "GSM610"}
        frames = path.stat().st_size // GSM_FRAME_BYTES * GSM_FRAME_SAMPLES
    try:
        with sf.SoundFile(path, **headerless) as audio:
            lossy = audio.subtype in ("VORBIS", "OPUS") or audio.channels > 1
            samples = audio.read(frames, "float32" if lossy else "int16", always_2d=True)
            rate_hz = audio.samplerate
    except (sf.SoundFileError, ValueError) as error:
        raise FetchError(f"{path.name}: cannot be decoded ({error})") from error
    return (to_int16(samples.mean(axis=1)) if lossy else samples[:, 0]), rate_hz


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round float samples (full scale 1.0) to int16; beyond full scale they are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def hash_samples(samples: np.ndarray) -> str:
    """Give the sha256 of int16 samples, whatever file they came in."""
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


@dataclasses.dataclass
class Converted:
    """The records of one package, and why files were left out."""

    records: list[dict[str, object]]
    left_out: Counter[str]


def convert_package(source: Source, version: str, root: Path, out: Path) -> Converted:
    """Convert all speech under `root` (an unpacked package) to WAV files under `out`.

    Reserved files are decoded for their hash alone, so that a copy of one under another name is
    recognised; their records have an empty path.
    """
    labelled = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        label = classify(source, path.relative_to(root).as_posix())
        if label is not None:
            labelled.append((PRECEDENCE.index(label.use), path, label))
    labelled.sort(key=lambda item: item[:2])

    folder = _common_folder([path for _, path, _ in labelled], root)
    result = Converted([], Counter())
    seen: set[str] = set()
    for _, path, label in labelled:
        try:
            samples, rate_hz = decode(path)
        except FetchError as error:
            if not result.left_out["undecodable"]:
                log(f"  {error}")
            result.left_out["undecodable"] += 1
            continue
        reason = _why_left_out(samples, rate_hz, seen)
        if reason:
            result.left_out[reason] += 1
            continue
        sha256 = hash_samples(samples)
        seen.add(sha256)
        target = out / path.relative_to(folder).with_suffix(".wav")
        if label.use == RESERVED:
            result.left_out[RESERVED] += 1
        else:
            _write_wav(target, samples, rate_hz)
        result.records.append(
            {
                "path": "" if label.use == RESERVED else target.relative_to(out).as_posix(),
                "package": source.package,
                "version": version,
                "source": path.relative_to(root).as_posix(),
                **dataclasses.asdict(label),
                "duration": round(len(samples) / rate_hz, 4),
                "rate": rate_hz,
                "sha256": sha256,
                "text": _text_beside(path, label.language),
            }
        )
    return result


def _text_beside(path: Path, language: str) -> str:
    """First line of frog.txt for frog_desc.ogg, as the stamps of Tux Paint have it: English."""
    file = path.with_name(path.stem.removesuffix("_desc") + ".txt")
    if language != "en" or not path.stem.endswith("_desc") or not file.is_file():
        return ""
    return file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()


def _why_left_out(samples: np.ndarray, rate_hz: int, seen: set[str]) -> str:
    if rate_hz < MIN_RATE_HZ:
        return f"below {MIN_RATE_HZ} Hz"
    if not samples.any():
        return "silent"
    return "copies" if hash_samples(samples) in seen else ""


def _common_folder(paths: Sequence[Path], root: Path) -> Path:
    """Find the deepest folder that holds all the paths, so that the copies get short names."""
    return Path(os.path.commonpath([path.parent for path in paths])) if paths else root


def _write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    if path.exists():
        raise FetchError(f"{path}: two files of the package would get this name")
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate_hz, subtype="PCM_16")
