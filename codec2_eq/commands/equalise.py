# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq equalise: vectors to equalised vectors."""

from __future__ import annotations

import argparse
from itertools import chain

from codec2_eq.commands import options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, "vectors: .f32, .npy or .npz")
    options.add_output(parser, "vectors: .f32, .npy or .npz")
    options.add_format(parser)
    options.add_model(parser)
    options.add_frame_ms(parser)
    parser.set_defaults(frame_ms=None)


def run(args: argparse.Namespace) -> None:
    """Equalise block by block, at the frame interval that the file tells, or 40 ms."""
    from dataclasses import replace

    from codec2_eq.equalise import load_equaliser
    from codec2_eq.vectors import FORMATS, VectorWriter, stream_records

    tells = args.input.lower().endswith(FORMATS)  # then --format is about the output alone
    blocks = stream_records(args.input, format=None if tells else args.format)
    first = next(blocks)
    frame_ms = args.frame_ms or first.frame_ms or 40
    equaliser = load_equaliser(args.model, frame_ms=frame_ms)
    stream = equaliser.stream()
    with VectorWriter(
        args.output, format=args.format, force=args.force, model=equaliser.name, frame_ms=frame_ms
    ) as writer:
        for block in chain([first], blocks):
            writer.write(replace(block, vectors=stream.process(block.vectors)))
    progress.tell_written(args.output, writer.n_frames, frame_ms)
