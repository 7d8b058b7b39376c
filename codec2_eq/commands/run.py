# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq run: audio to equalised rate-K vectors in one pass."""

from __future__ import annotations

import argparse

from codec2_eq.commands import equalise, options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, "audio file")
    options.add_output(parser, options.WRITTEN)
    options.add_format(parser, mlfeat=None)
    options.add_analysis(parser)
    options.add_model(parser)
    options.add_before_floor(parser)
    options.add_passes(parser)
    options.add_state(parser)


def run(args: argparse.Namespace) -> None:
    """Extract and equalise block by block."""
    options.check_knots(args)
    options.check_before_floor(args)
    before_floor = args.before_floor and args.model != "none"
    shown = progress.with_bar(
        options.stream(args, harmonics=before_floor), args.input, raw=args.raw
    )
    equalise.write_equalised(args, shown, frame_ms=args.frame_ms, before_floor=before_floor)
