# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq info: describe a file."""

from __future__ import annotations

import argparse
from typing import Any

from codec2_eq import messages
from codec2_eq.commands import options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "input",
        metavar="FILE",
        help="vectors, network, state, codebook, .c2 stream, audio, or corpus folder; - is stdin",
    )
    options.add_format(parser)
    options.add_raw(parser)
    options.add_json(parser, "print one JSON object")


def run(args: argparse.Namespace) -> None:
    """Print the facts, one per line."""
    from codec2_eq.inspection.files import describe_file

    facts = describe_file(args.input, format=args.format, raw=args.raw)
    if args.json:
        progress.print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {messages.printable(_shown(value))}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list):
        return " ".join(f"{number:.1f}" for number in value)
    return str(value)
