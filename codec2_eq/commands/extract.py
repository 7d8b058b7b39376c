# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq extract: audio to rate-K vectors."""

from __future__ import annotations

import argparse

from codec2_eq.codec2 import FRAME_MS
from codec2_eq.commands import options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, "audio file")
    options.add_output(parser, f"{options.WRITTEN}; or .mlfeat")
    options.add_format(parser, mlfeat="write the records of c2enc --mlfeat")
    options.add_analysis(parser)


def run(args: argparse.Namespace) -> None:
    """Extract block by block."""
    from codec2_eq.vectors import VectorWriter, vector_format

    options.check_knots(args)
    if vector_format(args.output, args.format) == "mlfeat":
        _write_features(args)
        return
    with VectorWriter(
        args.output, format=args.format, force=args.force, frame_ms=args.frame_ms
    ) as writer:
        frames = options.stream(args)
        for block in progress.with_bar(frames, args.input, raw=args.raw):
            writer.write(block.vectors, block)
    progress.tell_written(args, writer.n_frames, args.frame_ms)


def _write_features(args: argparse.Namespace) -> None:
    from codec2_eq.audio.stream import stream_audio
    from codec2_eq.files import open_output
    from codec2_eq.stream700c.features import FeatureStream

    if args.frame_ms != FRAME_MS or args.knots != "pick":
        args.refuse(f"mlfeat: holds picked {FRAME_MS} ms frames; omit --frame-ms and --knots")
    stream = FeatureStream()
    n_frames = 0
    with (
        stream_audio(args.input, channel=args.channel, raw=args.raw) as blocks,
        open_output(args.output, force=args.force) as out,
    ):
        for block in blocks:
            records = stream.process(block)
            out.write(records.astype("<f4", copy=False).tobytes())
            out.flush()
            n_frames += len(records)
    progress.tell_written(args, n_frames, FRAME_MS)
