#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draw one sentence through four microphones, before and after an equaliser."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.measures import FRAME_S, shapes_of, speech_activity
from codec2_eq.bench.shaping import BAND_HZ, load_shaping
from codec2_eq.bench.speech import analyse
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import require_writable
from codec2_eq.pictures import save_picture

MICROPHONES = ("tilt-6", "tilt+6", "boom", "handset")
COLOUR_RANGE_DB = (-25, 25)
ROOT = Path(__file__).resolve().parent.parent


def main(words: list[str] | None = None) -> None:
    """Parse, equalise, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", nargs="?", default=ROOT / "samples" / "espeak_male_1.wav")
    parser.add_argument("-o", "--output", default="four_microphones.png", help="a PNG")
    parser.add_argument("-m", "--model", default="channel_eq")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite the picture")
    args = parser.parse_args(words)
    require_writable(args.output, force=args.force)
    equalise = load_equaliser(args.model)
    samples = read_audio(args.recording)
    if not speech_activity(analyse(samples).mean(axis=1)).any():
        raise Codec2EqError(f"{args.recording}: no active speech; give speech")
    before = {name: analyse(load_shaping(name)(samples)) for name in MICROPHONES}
    after = {name: equalise(vectors) for name, vectors in before.items()}
    save_picture(draw(before, after), Path(args.output), force=args.force)
    for title, rows in (("before", before), ("after", after)):
        print(f"{title}: the four differ by {spread(before, rows):.1f} dB rms")


def spread(before: dict[str, np.ndarray], rows: dict[str, np.ndarray]) -> float:
    """Rms distance of the versions of each active frame from their common mean, dB."""
    shapes = np.stack([shapes_of(r) for r in rows.values()])
    active = speech_activity(before[MICROPHONES[0]].mean(axis=1))
    return float(np.sqrt(np.square(shapes - shapes.mean(axis=0))[:, active].mean()))


def draw(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> Figure:
    """Two rows of pictures, time to the right, bands upwards, and the mean shapes beside them."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    axes = figure.subplots(2, len(before) + 1)
    for line, (title, versions) in zip(axes, (("before", before), ("after", after)), strict=True):
        for axis, (name, vectors) in zip(line, versions.items(), strict=False):
            shapes = shapes_of(vectors)
            seconds = len(shapes) * FRAME_S
            axis.imshow(
                shapes.T,
                origin="lower",
                aspect="auto",
                cmap="magma",
                extent=(0, seconds, 0, 20),
                vmin=COLOUR_RANGE_DB[0],
                vmax=COLOUR_RANGE_DB[1],
            )
            axis.set_title(f"{name}, {title}", fontsize=10)
            active = speech_activity(before[name].mean(axis=1))
            line[-1].plot(BAND_HZ, shapes[active].mean(axis=0), label=name)
        line[0].set_ylabel("band")
        line[-1].set_title(f"mean shapes {title} [dB]", fontsize=10)
        line[-1].set(xscale="log", ylim=(-25, 25))
        line[-1].set_xticks([250, 500, 1000, 2000], ["250", "500", "1000", "2000"])
        line[-1].minorticks_off()
    axes[0, -1].legend(frameon=False, fontsize=8)
    for axis in axes[1, :-1]:
        axis.set_xlabel("time [s]")
    axes[1, -1].set_xlabel("frequency [Hz]")
    return figure


if __name__ == "__main__":
    try:
        main()
    except Codec2EqError as error:
        sys.exit(f"four_microphones: error: {error}")
