#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure how much of a filter is heard after 700C, for each filter of the bench and equaliser.

The measure: a recording and what a filter makes of it are encoded from a cold start, decoded and
analysed again; the rms distance of the two over active speech, in dB.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from codec2_eq.bench import shaping
from codec2_eq.bench.cases import after_700c, distance
from codec2_eq.bench.speech import Speech, find_speech, load_speech
from codec2_eq.errors import Codec2EqError

MODELS = ("none", "700c", "cmn", "channel_eq")
WANTED_LESS = 0.4  # than the distance with `none`


def main(words: list[str] | None = None) -> None:
    """Parse, measure, print a line a filter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+", help="recordings, folders, or fetched speech")
    parser.add_argument("--use", default="validate", help="entries to take of a manifest.jsonl")
    parser.add_argument("-m", "--model", default=MODELS[-1], help="(default: %(default)s)")
    args = parser.parse_args(words)
    speech = load_speech(find_speech(args.inputs, args.use))
    models = (*MODELS[:-1], args.model)
    print("  ".join(["filter".ljust(10), *(f"{model:>12}" for model in models), "less than none"]))
    plain = {m: [after_700c(s.samples, m) for s in speech] for m in models}
    table = np.array([_line(name, speech, plain) for name in shaping.SHAPINGS])
    less = 1 - table[:, -1] / table[:, 0]
    print(
        f"{args.model}: {100 * less.min():.0f} to {100 * less.max():.0f} % less than none, on "
        f"average {100 * less.mean():.0f} %; {100 * WANTED_LESS:.0f} % less for "
        f"{sum(less >= WANTED_LESS)} of {len(less)} filters, nearer than 700c for "
        f"{sum(table[:, -1] < table[:, 1])}"
    )


def _line(name: str, speech: list[Speech], plain: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Distances with each model, over all recordings, dB rms; plain is what it hears unshaped."""
    shaped = [shaping.load_shaping(name)(recording.samples) for recording in speech]
    square = [
        [
            distance(unshaped, after_700c(samples, model)) ** 2
            for unshaped, samples in zip(heard, shaped, strict=True)
        ]
        for model, heard in plain.items()
    ]
    row = np.sqrt(np.mean(square, axis=1))
    cells = "  ".join(f"{value:12.2f}" for value in row)
    print(f"{name:10}  {cells}  {100 * (1 - row[-1] / row[0]):12.0f} %", flush=True)
    return row


if __name__ == "__main__":
    try:
        main()
    except Codec2EqError as error:
        sys.exit(f"bench_streams: error: {error}")
