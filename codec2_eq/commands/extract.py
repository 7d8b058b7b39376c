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
    options.add_jobs(parser)


def run(args: argparse.Namespace) -> None:
    """Extract block by block."""
    from codec2_eq.extraction import stream_file
    from codec2_eq.vectors.reader import VectorWriter

    with VectorWriter(
        args.output, format=args.format, force=args.force, frame_ms=args.frame_ms
    ) as writer:
        frames = stream_file(
            args.input, frame_ms=args.frame_ms, channel=args.channel, raw=args.raw, jobs=args.jobs
        )
        for block in progress.with_bar(frames, args.input, raw=args.raw):
            writer.write(block)
    progress.tell_written(args.output, writer.n_frames, args.frame_ms)
