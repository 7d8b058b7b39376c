# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq decode: a 700C stream to speech."""

from __future__ import annotations

import argparse

from codec2_eq.codec2 import FRAME_S
from codec2_eq.commands import options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, "700C stream; a .c2 file has a header, others may have none")
    options.add_output(parser, "speech at 8 kHz: .wav, or raw 16-bit samples")
    parser.add_argument(
        "--codebook",
        default="700c",
        metavar="A.f32,B.f32",
        help="the two codebook stages used by the encoder, as with c2dec --loadcb",
    )
    parser.add_argument(
        "--partial", action="store_true", help="decode the complete frames of a truncated stream"
    )


def run(args: argparse.Namespace) -> None:
    """Decode block by block."""
    from codec2_eq.files import display_name
    from codec2_eq.stream700c.speech_file import decode_file
    from codec2_eq.vq import load_codebooks

    codebooks = None if args.codebook == "700c" else load_codebooks(args.codebook)
    n_frames, left_over = decode_file(
        args.input, args.output, codebooks=codebooks, partial=args.partial, force=args.force
    )
    name = display_name(args.input)
    figures = {
        "input": name,
        "frames": n_frames,
        "seconds": round(n_frames * FRAME_S, 3),
        "dropped_bytes": left_over,
    }
    lines = [f"{name}: {n_frames} frames, {n_frames * FRAME_S:.2f} s"]
    if left_over:
        lines.append(f"{name}: dropped the last {left_over} bytes, a partial frame of 4")
    progress.tell_figures(args, figures, *lines, data=[args.output])
