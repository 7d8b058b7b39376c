#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make the listening proof: one recording and its boomy twin, through 700C with four equalisers.

Writes WAVs of what a stock decoder plays, brought to one level so that none wins by being louder,
and a table: how loud they came out, the distortion of the quantiser, and how far the twin's decoded
speech is from that of the unshaped recording.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

from codec2_eq.audio.pcm import to_s16
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.cases import distance, distortion
from codec2_eq.bench.heard import HEARD_MS, heard_error
from codec2_eq.bench.measures import quantise_700c, speech_activity
from codec2_eq.bench.shaping import load_shaping
from codec2_eq.bench.speech import analyse
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.files import require_writable
from codec2_eq.report.loudness import active_level_dbfs, at_one_level
from codec2_eq.stream700c.codec import decode, encode

MODELS = ("none", "700c", "cmn", "channel_eq")


def main(words: list[str] | None = None) -> None:
    """Parse, make the files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", help="speech, such as hts1a of codec2-examples")
    parser.add_argument("-o", "--output", default="listening_proof", help="folder of the WAVs")
    parser.add_argument("--shaping", default="boom", help="the filter (default: %(default)s)")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite WAVs")
    args = parser.parse_args(words)
    plain, shaping = read_audio(args.recording), load_shaping(args.shaping)
    versions = {"plain": plain, shaping.name: shaping(plain)}
    active = speech_activity(analyse(plain).mean(axis=1))
    if len(versions) < 2 or not active.any():
        raise Codec2EqError(f"{args.recording}: needs speech, and a filter that shapes it")
    names = [f"{version}_{made}" for made in ("original", *MODELS) for version in versions]
    files = {name: Path(args.output) / f"{name}.wav" for name in names}
    Path(args.output).mkdir(parents=True, exist_ok=True)
    for path in files.values():
        require_writable(path, force=args.force)
    for version, samples in versions.items():
        write(files[f"{version}_original"], samples)
    titles = f"{'level dB':>9} {'D dB^2':>7} {'H dB^2':>7} {'from plain, dB rms':>19}"
    print(f"{'model':12} {'version':10} {titles}")
    reference = extract(to_s16(plain), frame_ms=HEARD_MS).vectors
    for model in MODELS:
        heard: dict[str, np.ndarray] = {}
        for version, samples in versions.items():
            speech = decode(bits := encode(to_s16(samples), model=model))
            level = write(files[f"{version}_{model}"], speech)
            heard[version] = analyse(speech)
            away = distance(heard["plain"], heard[version])
            d, h = quantiser(model, samples), heard_error(bits, reference).total
            print(f"{model:12} {version:10} {level:9.1f} {d:7.2f} {h:7.2f} {away:19.2f}")


def write(path: Path, samples: np.ndarray) -> float:
    """Write a WAV at LEVEL_DBFS; return the level that the samples had, dB of full scale."""
    active = speech_activity(analyse(samples).mean(axis=1))
    soundfile.write(path, at_one_level(samples, active), RATE_HZ, subtype="PCM_16")
    return active_level_dbfs(samples, active)


def quantiser(model: str, samples: np.ndarray) -> float:
    """D of the whole file, means removed, dB^2."""
    output = load_equaliser(model)(analyse(samples))
    return distortion(output, quantise_700c())


if __name__ == "__main__":
    try:
        main()
    except Codec2EqError as error:
        sys.exit(f"listening_proof: error: {error}")
