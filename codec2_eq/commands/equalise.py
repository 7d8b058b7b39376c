# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq equalise: vectors to equalised vectors."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from codec2_eq.codec2 import FRAME_MS, FRAME_MS_CHOICES
from codec2_eq.commands import options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, options.READ)
    options.add_output(parser, options.WRITTEN)
    options.add_format(parser)
    options.add_model(parser)
    options.add_passes(parser)
    options.add_state(parser)
    parser.add_argument(
        "--frame-ms",
        type=int,
        choices=FRAME_MS_CHOICES,
        help="time between vectors (default: from the file, else 40)",
    )
    parser.set_defaults(in_place=True)


def run(args: argparse.Namespace) -> None:
    """Equalise block by block, at the file's frame interval, or 40 ms."""
    from codec2_eq.errors import Codec2EqError
    from codec2_eq.vectors import VectorReader

    with VectorReader(args.input, format=args.format) as reader:
        if args.frame_ms and reader.frame_ms and args.frame_ms != reader.frame_ms:
            raise Codec2EqError(
                reader.name,
                f"its vectors are {reader.frame_ms} ms apart, not {args.frame_ms}",
                "omit --frame-ms",
            )
        frame_ms = args.frame_ms or reader.frame_ms or FRAME_MS
        write_equalised(args, reader, frame_ms=frame_ms, freqs_hz=reader.freqs_hz)


def write_equalised(
    args: argparse.Namespace,
    blocks: Iterable[Any],
    *,
    frame_ms: int,
    before_floor: bool = False,
    **options: Any,
) -> None:
    """Equalise blocks into the output; load and save the state.

    before_floor : whether blocks have harmonics, which are equalised before their floor
    options : for `codec2_eq.vectors.writer.VectorWriter`
    """
    from codec2_eq.equalisers import passes, state_file
    from codec2_eq.equalisers.equaliser import load_equaliser
    from codec2_eq.records import remove_mean
    from codec2_eq.vectors.writer import VectorWriter

    if before_floor:
        from codec2_eq.stream700c.flattener import equalise_before_floor as shape
    equaliser = load_equaliser(args.model, frame_ms=frame_ms)
    state = state_file.prepare(
        equaliser, load=args.load_state, save=args.save_state, force=args.force
    )
    with (
        VectorWriter(
            args.output,
            format=args.format,
            force=args.force,
            model=equaliser.name,
            frame_ms=frame_ms,
            **options,
        ) as writer,
        passes.begin(equaliser, blocks, passes=args.passes, state=state) as (stream, heard),
    ):
        for block in heard:
            shapes = shape(block, stream) if before_floor else stream.process(block.vectors)
            if writer.format == "npz" and block.mean_db is None:  # the shapes have lost it
                block = replace(block, mean_db=remove_mean(block.vectors)[0])
            writer.write(shapes, block)
    if args.save_state:
        state_file.save_state(args.save_state, equaliser, stream, force=args.force)
    progress.tell_written(args, writer.n_frames, frame_ms)
