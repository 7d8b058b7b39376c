# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq extract: audio to rate-K vectors."""

from __future__ import annotations

import argparse

from codec2_eq.commands import options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, "audio file")
    options.add_output(parser, "vectors: .f32, .npy or .npz")
    options.add_format(parser)
    options.add_audio(parser)
    options.add_frame_ms(parser)
    options.add_knots(parser)
    options.add_jobs(parser)


def run(args: argparse.Namespace) -> None:
    """Extract block by block."""
    from codec2_eq.vectors.reader import VectorWriter

    options.check_knots(args)
    with VectorWriter(
        args.output, format=args.format, force=args.force, frame_ms=args.frame_ms
    ) as writer:
        frames = options.stream(args)
        for block in progress.with_bar(frames, args.input, raw=args.raw):
            writer.write(block)
    progress.tell_written(args.output, writer.n_frames, args.frame_ms)
