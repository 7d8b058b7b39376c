# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq models: list the equalisers."""

from __future__ import annotations

import argparse

from codec2_eq.commands import options, progress
from codec2_eq.messages import printable


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_json(parser, "print one JSON object per line")


def run(args: argparse.Namespace) -> None:
    """Print a paragraph for each model."""
    from dataclasses import asdict

    from codec2_eq.equalisers.equaliser import available_models
    from codec2_eq.equalisers.names import DEFAULT_MODEL

    for model in available_models():
        if args.json:
            progress.print_json(asdict(model))
            continue
        name = f"{model.name}{' (default)' if model.name == DEFAULT_MODEL else ''}"
        print(printable(f"{name}: {model.does}"))
        figures = ", ".join(f"{key} {value}" for key, value in model.figures.items())
        for label, text in (("data", model.data), ("figures", figures), ("sha256", model.sha256)):
            if text:
                print(f"    {label}: {printable(text)}")
