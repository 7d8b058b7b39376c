# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq encode: speech to a 700C stream."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from codec2_eq import messages
from codec2_eq.codec2 import FRAME_S, SAMPLES_PER_FRAME
from codec2_eq.commands import options, progress
from codec2_eq.equalisers.names import ENCODER_MODEL

if TYPE_CHECKING:
    from codec2_eq.stream700c.codec import FrameEncoder

MEAN_ONLY = ("mean", "mean_removal")
"""Equalisers that remove only the mean."""

BLOCK_S = 20.48
"""Longest block from a file [s]: every stage of the encoder has a cost per block."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, "speech: audio at any rate from 8 kHz")
    options.add_output(parser, "700C stream, with a header if the name ends in .c2")
    options.add_audio(parser)
    options.add_model(parser, default=ENCODER_MODEL)
    parser.add_argument(
        "--level",
        choices=("keep", "auto"),
        help="keep the level of the speech, or adjust it to suit 700C (default: keep for the "
        "models none and 700c, otherwise auto)",
    )
    options.add_knots(parser, default=None)
    parser.add_argument(
        "--codebook",
        default="700c",
        metavar="A.f32,B.f32",
        help="two stages of 512 entries instead of Codec 2's own, as with c2enc --loadcb",
    )
    options.add_jobs(parser)
    options.add_passes(parser)
    options.add_state(parser)


def run(args: argparse.Namespace) -> None:
    """Extract, equalise, quantise and pack block by block."""
    from codec2_eq.audio.stream import stream_audio
    from codec2_eq.equalisers import state_file
    from codec2_eq.files import is_pipe, open_output
    from codec2_eq.stream700c.codec import FrameEncoder, encode_blocks
    from codec2_eq.stream700c.frames import HEADER
    from codec2_eq.vq import load_codebooks

    encoder = FrameEncoder(
        args.model, level=args.level, knots=args.knots, codebooks=load_codebooks(args.codebook)
    )
    if args.model in MEAN_ONLY:
        messages.tell(
            f"{args.model}: changes nothing in a 700C stream, whose shapes have no mean; "
            f"the equaliser for streams is {ENCODER_MODEL}"
        )
    state = state_file.prepare(
        encoder.equaliser, load=args.load_state, save=args.save_state, force=args.force
    )
    jobs = 1 if is_pipe(args.input) else args.jobs
    with (
        stream_audio(
            args.input,
            channel=args.channel,
            raw=args.raw,
            declip=encoder.harmonics,
            block_s=BLOCK_S,
        ) as audio,
        open_output(args.output, force=args.force) as out,
    ):
        if args.output.lower().endswith(".c2"):
            out.write(HEADER)
        for bits in encode_blocks(audio, encoder, jobs=jobs, passes=args.passes, state=state):
            out.write(bits)
    if args.save_state:
        state_file.save_state(args.save_state, encoder.equaliser, encoder.stream, force=args.force)
    _tell(args, encoder)


def _tell(args: argparse.Namespace, encoder: FrameEncoder) -> None:
    from codec2_eq.files import display_name

    statistics = encoder.statistics
    name = display_name(args.input)
    figures = {
        "input": name,
        "frames": statistics.n_vectors,
        "seconds": round(statistics.n_vectors * FRAME_S, 3),
        "distortion_db2": statistics.distortion,
        "variance_db2": statistics.variance,
        "dropped_samples": encoder.dropped_samples,
    }
    lines = [
        f"{name}: {statistics.n_vectors} frames, {statistics.n_vectors * FRAME_S:.2f} s, "
        f"VQ distortion {statistics.distortion:.2f} dB^2 without means, "
        f"{statistics.variance:.2f} dB^2 as c2enc --var"
    ]
    if encoder.dropped_samples:
        lines.append(
            f"{name}: dropped the last {encoder.dropped_samples} samples, a partial frame of "
            f"{SAMPLES_PER_FRAME}"
        )
    progress.tell_figures(args, figures, *lines, data=[args.output])
