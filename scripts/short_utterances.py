#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure short utterances, each alone and pooled by speaker, beside one long recording.

The first 40 s of each validation recording, through the bench's filters, are one recording, or cut
into 20 utterances of 2 s; all are measured on the same frames.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from codec2_eq.bench.cases import Case, shape_recording
from codec2_eq.bench.measures import FRAME_S, Floats, Sums, closed, measure, quantise_700c
from codec2_eq.bench.shaping import SHAPINGS, load_shaping
from codec2_eq.bench.speech import find_speech, load_speech
from codec2_eq.equalisers.equaliser import Equaliser, load_equaliser
from codec2_eq.errors import Codec2EqError

UTTERANCES = 20
FRAMES = round(2.0 / FRAME_S)  # of an utterance
NONE, ORACLE = "none", "oracle"


def main(words: list[str] | None = None) -> None:
    """Print both errors, and the share of the gap to the oracle that each way closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", nargs="?", default=".speech", help="from scripts/fetch_speech.py")
    parser.add_argument("-m", "--model", default="channel_eq")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th filter")
    args = parser.parse_args(words)
    equaliser, quantise = load_equaliser(args.model), quantise_700c()
    shapings = [load_shaping(name) for name in SHAPINGS[:: args.every]]
    sums: dict[str, Sums] = defaultdict(Sums)
    n_recordings = 0
    for speech in load_speech(find_speech([args.speech], "validate")):
        case = shape_recording(speech, shapings, quantise)
        if len(case.reference.shapes) < UTTERANCES * FRAMES:
            continue
        n_recordings += 1
        for way, part, output in outputs(equaliser, case):
            sums[way] += measure(output, case.reference.part(part), quantise)
    if not n_recordings:
        raise Codec2EqError(args.speech, "no recording has 40 s of speech", "fetch all speech")
    print(f"{n_recordings} recordings, {len(shapings)} filters")
    found = {way: total.measures() for way, total in sums.items()}
    none, oracle = found[NONE], found[ORACLE]
    for way, own in found.items():
        canonical = closed(none.canonical_error, own.canonical_error, oracle.canonical_error)
        shape = closed(none.shape_error, own.shape_error, oracle.shape_error)
        print(
            f"{way:32}  {own.canonical_error:6.2f} {canonical:7.1%}  "
            f"{own.shape_error:6.2f} {shape:7.1%}"
        )


def outputs(equaliser: Equaliser, case: Case) -> Iterator[tuple[str, slice, Floats]]:
    """Yield the ways to hear a recording's utterances, where each stands, and its shapes."""
    parts = [slice(i * FRAMES, (i + 1) * FRAMES) for i in range(UTTERANCES)]
    for shaped in case.shaped.values():
        vectors = np.ascontiguousarray(shaped[: UTTERANCES * FRAMES])
        pooled = equaliser.after(vectors)
        once, twice = equaliser(vectors), equaliser(vectors, passes=2)
        ideal = case.reference.oracle(shaped)
        for part in parts:
            alone = vectors[part]
            yield NONE, part, alone
            yield "each alone", part, equaliser(alone)
            yield "each alone, two passes", part, equaliser(alone, passes=2)
            yield "two passes, pooled by speaker", part, pooled(alone)
            yield "one recording", part, once[part]
            yield "one recording, two passes", part, twice[part]
            yield ORACLE, part, ideal[part]


if __name__ == "__main__":
    try:
        main()
    except Codec2EqError as error:
        sys.exit(f"short_utterances: error: {error}")
