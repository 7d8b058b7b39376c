#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make the clips in samples/: synthetic speech, and the same speech through three filters.

    python scripts/make_samples.py            # writes samples/*.wav and samples/README.md

Needs the programs espeak-ng and flite. With the same versions of them (samples/README.md names
those that were used) the same files come out.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from codec2_eq.bench import shaping

RATE_HZ = 8000
STEREO_RATE_HZ = 16000
PEAK = 0.5  # of full scale: room for the filters that raise part of the spectrum
TURN_PAUSE_S = 0.2  # between the two speakers of the stereo clip

VERSION_COMMANDS = {"espeak-ng": ["espeak-ng", "--version"], "flite": ["flite", "--version"]}
VERSION_PATTERN = re.compile(r"(?:text-to-speech|version): (?:flite-)?(\S+)")


class SampleError(RuntimeError):
    """A clip cannot be made; the message is one line for the user."""


@dataclass(frozen=True)
class Clip:
    """A sentence and the voice that speaks it."""

    name: str
    program: str
    voice: str
    text: str


CLIPS = (
    Clip(
        "espeak_male_1",
        "espeak-ng",
        "en-us",
        "The green lamp at the end of the pier went out just before seven.",
    ),
    Clip(
        "espeak_female_1",
        "espeak-ng",
        "en-gb+f3",
        "Five small boats came home, and nobody asked what they caught.",
    ),
    Clip("flite_male_1", "flite", "rms", "Read the numbers slowly: four, nineteen, sixty."),
    Clip("flite_male_2", "flite", "kal", "A quiet voice is easy to hear when the wind has gone."),
    Clip(
        "flite_female_1",
        "flite",
        "slt",
        "She shook the old radio twice, and it began to sing again.",
    ),
)

# One file, left channel first: the second voice answers when the first has finished.
DIALOGUE = (
    Clip("dialogue_stereo_16k", "espeak-ng", "en-us", "Is the channel clear?"),
    Clip("dialogue_stereo_16k", "flite", "slt", "It is clear, go ahead."),
)


@dataclass(frozen=True)
class Twin:
    """A filter, and the clips that get a twin through it."""

    suffix: str
    curve: shaping.Curve
    words: str
    clips: tuple[str, ...] = ("espeak_male_1", "flite_female_1")


TWINS = (
    Twin("lowpass", shaping.tilt(-3), "3 dB/octave less treble, a straight line, 0 dB at 1 kHz"),
    Twin("highpass", shaping.high_pass(300, 4), "300 Hz high pass, 24 dB/octave (Butterworth)"),
    Twin(
        "boomy",
        shaping.cascade(shaping.bell(180, 12, 1.2), shaping.low_pass(2500, 1)),
        "boomy microphone: +12 dB at 180 Hz, 1.2 octaves wide, and 6 dB/octave above 2.5 kHz",
    ),
)


def command_of(clip: Clip, path: str) -> list[str]:
    """Give the command that speaks a clip into the WAV file `path`."""
    if clip.program == "espeak-ng":
        return ["espeak-ng", "-v", clip.voice, "-w", path, clip.text]
    return ["flite", "-voice", clip.voice, "-t", clip.text, "-o", path]


def speak(clip: Clip, rate_hz: int) -> np.ndarray:
    """Synthesise a clip; returns (n,) float64 at `rate_hz`, full scale 1.0, peak at PEAK."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        run(command_of(clip, str(path)))
        samples, native_hz = sf.read(path)
    samples = soxr.resample(samples, native_hz, rate_hz, quality="VHQ")
    return samples * (PEAK / np.abs(samples).max())


def dialogue() -> np.ndarray:
    """Make the stereo clip; returns (n, 2) float64 at STEREO_RATE_HZ."""
    left, right = (speak(clip, STEREO_RATE_HZ) for clip in DIALOGUE)
    start = len(left) + int(TURN_PAUSE_S * STEREO_RATE_HZ)
    both = np.zeros((start + len(right), 2))
    both[: len(left), 0] = left
    both[start:, 1] = right
    return both


def shape(samples: np.ndarray, twin: Twin) -> np.ndarray:
    """Filter a clip.

    samples : (n,) int16 at RATE_HZ.
    Returns (n,) int16 of the same loudness (rms), or softer where that would clip.
    """
    taps = shaping.minimum_phase(twin.curve)
    shaped = shaping.Shaping(twin.suffix, taps)(samples)
    return np.rint(shaped).astype(np.int16)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round samples of full scale 1.0 to int16."""
    return np.rint(samples * 32768).astype(np.int16)


def make(folder: Path) -> list[Path]:
    """Write all clips, their twins and README.md into `folder`; return the paths."""
    versions = {program: version_of(program) for program in VERSION_COMMANDS}
    folder.mkdir(parents=True, exist_ok=True)
    plain = {clip.name: to_int16(speak(clip, RATE_HZ)) for clip in CLIPS}
    files = {name: (samples, RATE_HZ) for name, samples in plain.items()}
    for twin in TWINS:
        for name in twin.clips:
            files[f"{name}_{twin.suffix}"] = (shape(plain[name], twin), RATE_HZ)
    files[DIALOGUE[0].name] = (to_int16(dialogue()), STEREO_RATE_HZ)

    paths = []
    for name, (samples, rate_hz) in files.items():
        path = folder / f"{name}.wav"
        sf.write(path, samples, rate_hz, subtype="PCM_16")
        paths.append(path)
    readme = folder / "README.md"
    readme.write_text(readme_text(versions), encoding="utf-8")
    return [*paths, readme]


def readme_text(versions: dict[str, str]) -> str:
    """Describe the clips: how each was made, with what, and under which licence."""

    def shown(clip: Clip) -> str:
        words = command_of(clip, "spoken.wav")
        return " ".join(f'"{word}"' if " " in word else word for word in words)

    rows = [f"| `{clip.name}.wav` | `{shown(clip)}` |" for clip in CLIPS]
    left, right = DIALOGUE
    rows.append(f"| `{left.name}.wav` | left `{shown(left)}`, right `{shown(right)}` |")
    twins = [
        f"| `{name}_{twin.suffix}.wav` | `{name}.wav` | {twin.words} |"
        for twin in TWINS
        for name in twin.clips
    ]
    used = ", ".join(f"{program} {version}" for program, version in versions.items())
    return README.format(rows="\n".join(rows), twins="\n".join(twins), used=used, peak=PEAK)


README = """\
# Sample clips

Short clips of synthetic speech to try things on: male and female voices of two synthesisers, and
the same clips through filters such as microphones have. Mono, 8 kHz, 16 bit; one is stereo,
16 kHz. This folder is written by `python scripts/make_samples.py`, this page included, with
{used}; the same versions give the same files.

| clip | spoken by |
|---|---|
{rows}

Each is resampled by soxr and scaled to a peak of {peak} of full scale.

| shaped twin | made from | filter |
|---|---|---|
{twins}

The filters are minimum-phase (`codec2_eq/bench/shaping.py`): no delay, so frames of a clip and of
its twin face each other, and the loudness (rms) stays.

The sentences were written for this project and, like the clips, come under its licence,
LGPL-2.1-or-later. No recordings of people are kept here; `scripts/fetch_speech.py` fetches such.
"""


def version_of(program: str) -> str:
    """Ask a synthesiser for its version.

    Raises SampleError if it is not installed.
    """
    if shutil.which(program) is None:
        raise SampleError(
            f"{program}: not found; install it (Debian: apt-get install espeak-ng flite)"
        )
    # flite ends with 1 after --version, so its exit code says nothing.
    done = subprocess.run(VERSION_COMMANDS[program], capture_output=True, text=True, check=False)
    match = VERSION_PATTERN.search(done.stdout + done.stderr)
    if match is None:
        raise SampleError(f"{program}: did not print its version")
    return match.group(1)


def run(command: Sequence[str]) -> None:
    """Run a synthesiser; raises SampleError with its own last words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise SampleError(f"{command[0]}: failed ({words[-1]})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make the clips in samples/.")
    default = Path(__file__).resolve().parent.parent / "samples"
    parser.add_argument("--out", type=Path, default=default, help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        paths = make(args.out)
    except (SampleError, OSError, sf.LibsndfileError) as error:
        print(f"make_samples: error: {error}", file=sys.stderr)
        return 1
    total = sum(path.stat().st_size for path in paths)
    print(f"{len(paths)} files, {total / 1e6:.2f} MB, in {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
