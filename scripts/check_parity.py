#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compare our analysis with libcodec2's own, frame by frame, on any speech files.

Prints, for each file and in total, how many 40 ms frames are bit-equal in mean, the 20 shape
values, Wo, number of harmonics and voicing. Exits with 1 if any frame differs, or a file cannot be
read. With --c2enc it compares the 201 floats of c2enc's feature files instead, byte for byte; with
--streams the bytes of 700C streams: `encode -m none` and `-m 700c` against libcodec2's own encoder
without and with its equaliser. With --c2dec that program must also play what `encode` makes of each
file by default, to the last frame.

    python scripts/check_parity.py .speech/audio/codec2-examples samples/*.wav
    python scripts/check_parity.py --c2enc .speech/tools/bin/c2enc .speech/audio/codec2-examples
    python scripts/check_parity.py -q --streams --c2dec .speech/tools/bin/c2dec .speech/audio
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec2_eq.analysis import ISA
from codec2_eq.audio.pcm import to_s16
from codec2_eq.audio.stream import read_audio
from codec2_eq.codec2 import SAMPLES_PER_FRAME
from codec2_eq.codec2.library import BYTES_PER_FRAME, oracle_mlfeat
from codec2_eq.corpus.listing import list_recordings
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.records import remove_mean
from codec2_eq.stream700c.codec import encode
from codec2_eq.stream700c.features import RECORD_FLOATS, FeatureStream


def unequal_frames(samples: NDArray[np.int16], *, jobs: int = 1) -> NDArray[np.bool_]:
    """Return for each 40 ms frame whether anything differs from libcodec2: (n,) bool."""
    oracle = oracle_mlfeat(samples)
    ours = extract(samples, jobs=jobs)
    n_frames = len(oracle.mean_db)
    if len(ours) != n_frames:
        raise Codec2EqError(f"{len(ours)} frames, but libcodec2 has {n_frames}")
    return (
        (ours.mean_db != oracle.mean_db)
        | (remove_mean(ours.vectors)[1] != oracle.shapes).any(axis=1)
        | (ours.wo != oracle.wo)
        | (ours.n_harm != oracle.n_harm)
        | (ours.voiced != oracle.voiced)
    )


def unequal_records(samples: NDArray[np.int16], *, c2enc: str) -> NDArray[np.bool_]:
    """Return for each 40 ms frame whether our record has other bytes than c2enc's: (n,) bool."""
    with tempfile.TemporaryDirectory() as folder:
        speech, bits, features, models = (str(Path(folder, name)) for name in "sbfm")
        samples.tofile(speech)
        command = [c2enc, "700C", speech, bits, "--mlfeat", features, models]
        subprocess.run(command, check=True, capture_output=True)
        theirs = np.fromfile(features, "<u4").reshape(-1, RECORD_FLOATS)
    ours = FeatureStream().process(samples.astype(np.float32)).view("<u4")
    if len(ours) != len(theirs):
        raise Codec2EqError(f"{len(ours)} records, but c2enc has {len(theirs)}")
    return (ours != theirs).any(axis=1)


def unequal_streams(samples: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return for each 40 ms frame whether a stream has other bytes than libcodec2's: (n,) bool."""
    unequal = np.zeros(len(samples) // SAMPLES_PER_FRAME, bool)
    for model, eq in (("none", False), ("700c", True)):
        ours, theirs = encode(samples, model=model), oracle_mlfeat(samples, eq=eq).bits
        if len(ours) != len(theirs):
            raise Codec2EqError(f"{len(ours)} bytes, but libcodec2 has {len(theirs)}")
        unequal |= np.frombuffer(ours, "<u4") != np.frombuffer(theirs, "<u4")
    return unequal


def play(samples: NDArray[np.int16], *, c2dec: str) -> None:
    """Decode what `encode` makes by default; raise Codec2EqError if not all frames come out."""
    bits = encode(samples)
    with tempfile.TemporaryDirectory() as folder:
        stream, speech = Path(folder, "s.bit"), Path(folder, "s.raw")
        stream.write_bytes(bits)
        subprocess.run([c2dec, "700C", stream, speech], check=True, capture_output=True)
        n_played = speech.stat().st_size // 2
    n_frames = len(samples) // SAMPLES_PER_FRAME
    if (len(bits), n_played) != (BYTES_PER_FRAME * n_frames, SAMPLES_PER_FRAME * n_frames):
        raise Codec2EqError(f"{n_frames} frames: {len(bits)} bytes, {n_played} samples played")


def read_int16(path: Path) -> NDArray[np.int16]:
    """Read a file as what libcodec2 would be given: mono 8 kHz, rounded to 16 bits."""
    return to_s16(read_audio(path))


def main(words: Sequence[str] | None = None) -> int:
    """Compare the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="+", metavar="FILE|DIR")
    parser.add_argument("--jobs", type=int, default=1, help="threads that share one file")
    parser.add_argument("--c2enc", metavar="PROGRAM", help="compare its feature files instead")
    parser.add_argument("--streams", action="store_true", help="compare 700C streams instead")
    parser.add_argument("--c2dec", metavar="PROGRAM", help="also let it play the default streams")
    parser.add_argument("-q", "--quiet", action="store_true", help="only files that differ")
    args = parser.parse_args(words)
    n_files = n_failed = n_equal = n_unequal = 0
    listing = list_recordings(args.paths)
    for path in (Path(listing.base, name) for name in listing.stamps):
        try:
            samples = read_int16(path)
            if args.c2dec:
                play(samples, c2dec=args.c2dec)
            if args.streams:
                unequal = unequal_streams(samples)
            elif args.c2enc:
                unequal = unequal_records(samples, c2enc=args.c2enc)
            else:
                unequal = unequal_frames(samples, jobs=args.jobs)
        except Codec2EqError as error:
            named = str(path) in str(error)
            print(f"check_parity: {error if named else f'{path}: {error}'}", file=sys.stderr)
            n_failed += 1
            continue
        n_files += 1
        n_equal += int((~unequal).sum())
        n_unequal += int(unequal.sum())
        if unequal.any() or not args.quiet:
            print(f"{path}: {(~unequal).sum()} equal, {unequal.sum()} unequal")
    print(f"{n_files} files, {n_equal} frames equal, {n_unequal} unequal ({ISA})")
    return int(n_unequal + n_failed > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Codec2EqError as error:
        sys.exit(f"check_parity: error: {error}")
