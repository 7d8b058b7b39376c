# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq info: what a file of ours holds."""

from __future__ import annotations

import argparse
from typing import Any

from codec2_eq import messages
from codec2_eq.commands import options


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "input",
        metavar="FILE",
        help="vectors, network, codebook, .c2, audio, or the folder of a corpus",
    )
    options.add_format(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> None:
    """Print what there is to know, a fact a line."""
    import json

    from codec2_eq.inspection.files import describe_file

    facts = describe_file(args.input, format=args.format)
    if args.json:
        print(json.dumps(facts))
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
