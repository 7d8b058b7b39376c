# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq run: audio to equalised rate-K vectors in one pass."""

from __future__ import annotations

import argparse

from codec2_eq.commands import extract, options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of extract, and the equaliser."""
    extract.configure(parser)
    options.add_model(parser)
    options.add_passes(parser)
    options.add_state(parser)


def run(args: argparse.Namespace) -> None:
    """Extract and equalise block by block."""
    from codec2_eq.equalisers import passes, state_file
    from codec2_eq.equalisers.equaliser import load_equaliser
    from codec2_eq.vectors.writer import VectorWriter

    options.check_knots(args)
    equaliser = load_equaliser(args.model, frame_ms=args.frame_ms)
    state = state_file.prepare(
        equaliser, load=args.load_state, save=args.save_state, force=args.force
    )
    shown = progress.with_bar(options.stream(args), args.input, raw=args.raw)
    with (
        VectorWriter(
            args.output,
            format=args.format,
            force=args.force,
            model=equaliser.name,
            frame_ms=args.frame_ms,
        ) as writer,
        passes.begin(equaliser, shown, passes=args.passes, state=state) as (stream, blocks),
    ):
        for block in blocks:
            writer.write(stream.process(block.vectors), block)
    if args.save_state:
        state_file.save_state(args.save_state, equaliser, stream, force=args.force)
    progress.tell_written(args, writer.n_frames, args.frame_ms)
