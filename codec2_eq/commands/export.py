# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq export: a trained network for other programs."""

from __future__ import annotations

import argparse

from codec2_eq.commands import options, progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "model", metavar="MODEL", help="a trained network: its name, or a .keras or .npz file"
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--c", metavar="DIR", help="write C99: MODEL.c and MODEL.h in this folder")
    kind.add_argument(
        "--format",
        choices=("onnx", "litert"),
        help="write a graph with the state as input and output",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the graph (default: MODEL.onnx or MODEL.tflite); - is stdout",
    )
    options.add_force(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Write the export and report its size."""
    from pathlib import Path

    from codec2_eq.equalisers.export_plan import load_exportable
    from codec2_eq.files import require_writable

    if args.c and args.output:
        args.refuse("-o: the files of --c are named by the model, in its folder")
    network = load_exportable(args.model)
    if args.c:
        from codec2_eq.equalisers.export_c import c_source, write_c

        source = c_source(network)
        paths = write_c(source, Path(args.c), force=args.force)
        figures = {
            "outputs": list(map(str, paths)),
            "weight_bytes": source.weight_bytes,
            "state_bytes": source.state_bytes,
            "multiply_adds_per_frame": source.multiply_adds,
        }
        progress.tell_figures(
            args,
            figures,
            f"wrote {', '.join(map(str, paths))}: weights {source.weight_bytes:,} bytes, state "
            f"{source.state_bytes:,} bytes, {source.multiply_adds:,} multiply-adds per frame",
        )
        return
    suffix = {"onnx": ".onnx", "litert": ".tflite"}[args.format]
    output = args.output or f"{network.name}{suffix}"
    require_writable(output, force=args.force)
    if args.format == "onnx":
        from codec2_eq.equalisers.export_onnx import write_onnx as write
    else:
        from codec2_eq.equalisers.keras_litert import write_litert as write
    n_bytes = write(network, output, force=args.force)
    figures = {"outputs": [output], "bytes": n_bytes}
    progress.tell_figures(args, figures, f"{output}: {n_bytes:,} bytes", data=[output])
