# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq vq: train multi-stage vector quantisers, and quantise with them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codec2_eq import messages
from codec2_eq.codec2 import FRAME_MS, STAGE_SHAPE, K
from codec2_eq.commands import options, progress
from codec2_eq.vq import ITERATIONS, SEED, SURVIVORS, TRAINING_SURVIVORS

if TYPE_CHECKING:
    from codec2_eq.vq import VqStatistics
    from codec2_eq.vq.codebooks import Floats
    from codec2_eq.vq.train import Iteration


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the two tasks and their options."""
    tasks = parser.add_subparsers(metavar="TASK", required=True, dest="task")
    _configure_train(
        tasks.add_parser(
            "train",
            help="multi-stage codebooks from vectors",
            description="Train multi-stage codebooks on vectors.",
        )
    )
    _configure_quantise(
        tasks.add_parser(
            "quantise",
            help="vectors to quantised vectors",
            description="Quantise vectors with a multi-stage codebook.",
        )
    )


def _configure_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="+",
        metavar="VECTORS",
        help=f"{options.READ}, or a folder made by batch",
    )
    parser.add_argument(
        "-o",
        "--output",
        dest="prefix",
        required=True,
        metavar="PREFIX",
        help="writes PREFIX1.f32, PREFIX2.f32...",
    )
    options.add_force(parser)
    options.add_format(parser)
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default=",".join([str(STAGE_SHAPE[0])] * 2),
        metavar="N,N",
        help="entries in each stage (default: %(default)s, as in 700C)",
    )
    parser.add_argument(
        "--seed",
        type=options.natural,
        default=SEED,
        metavar="N",
        help="random seed (default: %(default)s)",
    )
    parser.add_argument(
        "--iterations",
        type=options.count,
        default=ITERATIONS,
        metavar="N",
        help="passes over all vectors for each stage (default: %(default)s)",
    )
    parser.add_argument(
        "--survivors",
        type=options.count,
        default=TRAINING_SURVIVORS,
        metavar="N",
        help="train each stage on the residuals of an m-best search with N survivors; slower, and "
        "better for such a search (default: %(default)s, residuals of the nearest entries)",
    )
    parser.add_argument(
        "--sample", type=options.count, metavar="N", help="train on N vectors, drawn at random"
    )
    options.add_json(parser)
    parser.add_argument("--csv", metavar="FILE", help="write the figures of each iteration")
    parser.set_defaults(refuse=parser.error)


def _configure_quantise(parser: argparse.ArgumentParser) -> None:
    options.add_input(parser, options.READ)
    options.add_output(parser, "quantised vectors, with means removed")
    options.add_format(parser)
    parser.add_argument(
        "--codebook",
        default="700c",
        metavar="700c|A.f32,B.f32",
        help="codebook stages (default: Codec 2's own)",
    )
    parser.add_argument(
        "--survivors",
        type=options.count,
        metavar="N",
        help=f"candidates kept from stage to stage (default: {SURVIVORS}, as in 700C)",
    )
    for option, which, band in (("--st", "first", 0), ("--en", "last", K - 1)):
        parser.add_argument(
            option,
            type=int,
            default=band,
            metavar="K",
            help=f"{which} band searched (default: %(default)s)",
        )
    parser.add_argument(
        "--indexes",
        metavar="FILE",
        help="write the indexes: one line per vector, or .npy (frames x stages, int32); - is "
        "stdout",
    )
    parser.add_argument("--usage", action="store_true", help="print how often each entry is used")
    parser.add_argument("--csv", metavar="FILE", help="write how often each entry is used")
    parser.set_defaults(refuse=parser.error, in_place=True)


def run(args: argparse.Namespace) -> None:
    """Run the task."""
    (_train if args.task == "train" else _quantise)(args)


def _train(args: argparse.Namespace) -> None:
    from codec2_eq.files import require_writable
    from codec2_eq.vq import save_codebook
    from codec2_eq.vq.train import train_codebooks

    _check_survivors(args, max(args.sizes))
    paths = [f"{args.prefix}{stage}.f32" for stage in range(1, len(args.sizes) + 1)]
    options.check_files(args, *(("-o", path) for path in paths))
    for path in (*paths, args.csv):
        if path is not None:
            require_writable(path, force=args.force)
    iterations: list[dict[str, float]] = []

    def note(iteration: Iteration) -> None:
        iterations.append(_figures(iteration))
        if args.json:
            progress.print_json(iterations[-1], data=[args.csv])
        else:
            _print_iteration(iteration)

    named = [(path, part) for path in args.input for part in _open_vectors(path, args.format)]
    codebooks = train_codebooks(
        [part for _, part in named],
        args.sizes,
        seed=args.seed,
        iterations=args.iterations,
        survivors=args.survivors,
        sample=args.sample,
        progress=note,
        names=[path for path, _ in named],
    )
    for path, codebook in zip(paths, codebooks, strict=True):
        save_codebook(path, codebook, force=args.force)
    if args.csv:
        _write_csv(args, iterations)


def _figures(i: Iteration) -> dict[str, float]:
    shares = {f"over_{db}_db": share for db, share in enumerate(i.outliers, start=1)}
    return {
        "stage": i.stage,
        "iteration": i.iteration,
        "distortion_db2": i.distortion,
        "std_db": i.deviation_db,
        **shares,
        "least_used": i.least_used,
        "most_used": i.most_used,
    }


def _write_csv(args: argparse.Namespace, rows: Sequence[Mapping[str, float]]) -> None:
    from codec2_eq.files import write_text

    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    write_text(args.csv, "".join(f"{line}\n" for line in lines), force=args.force)


def _open_vectors(path: str, format: str | None) -> list[Floats]:
    """Open a vector file, or a corpus with one array or more."""
    if os.path.isdir(path):
        from codec2_eq.corpus import open_corpus

        return open_corpus(path).parts()
    from codec2_eq.vq.train import map_vectors

    return [map_vectors(path, format=format)]


def _print_iteration(i: Iteration) -> None:
    if i.iteration == 0:
        messages.tell(
            f"stage {i.stage}\niteration  dB^2     std dB  >1 dB  >2 dB  >3 dB  least  most used"
        )
    shares = "  ".join(f"{100 * share:4.0f}%" for share in i.outliers)
    messages.tell(
        f"{i.iteration:9}  {i.distortion:7.3f}  {i.deviation_db:6.3f}  {shares}  "
        f"{i.least_used:5}  {i.most_used:4}"
    )


def _quantise(args: argparse.Namespace) -> None:
    from codec2_eq.files import require_writable
    from codec2_eq.vectors import VectorReader, VectorWriter
    from codec2_eq.vq import (
        IndexWriter,
        Quantiser,
        VqStatistics,
        load_codebooks,
        zero_mean,
    )

    if args.csv is not None:
        require_writable(args.csv, force=args.force)
    codebooks = load_codebooks(args.codebook)
    most_entries = max(map(len, codebooks))
    if args.survivors is None:
        args.survivors = min(SURVIVORS, most_entries)
    _check_survivors(args, most_entries)
    quantiser = Quantiser(codebooks, survivors=args.survivors, start=args.st, end=args.en + 1)
    statistics = VqStatistics(quantiser)
    with (
        VectorReader(args.input, format=args.format) as reader,
        VectorWriter(
            args.output,
            format=args.format,
            force=args.force,
            model=reader.model or "none",
            frame_ms=reader.frame_ms or FRAME_MS,
            freqs_hz=reader.freqs_hz,
        ) as writer,
        IndexWriter(args.indexes, force=args.force) as indexes_out,
    ):
        for record in reader:
            shapes = zero_mean(record.vectors)
            quantised, indexes = quantiser.quantise(shapes)
            statistics.add(shapes, quantised, indexes)
            writer.write(quantised, record)
            indexes_out.write(indexes)
    _print_statistics(args, statistics)


def _check_survivors(args: argparse.Namespace, most_entries: int) -> None:
    """Refuse more survivors than the largest stage has entries."""
    if args.survivors > most_entries:
        args.refuse(f"--survivors {args.survivors}: the stages have at most {most_entries} entries")


def _print_statistics(args: argparse.Namespace, statistics: VqStatistics) -> None:
    from codec2_eq.files import display_name

    name, distortion = display_name(args.input), statistics.distortion
    if args.csv:
        _write_csv(
            args,
            [
                {"stage": stage, "entry": entry, "times": int(times)}
                for stage, usage in enumerate(statistics.usage, start=1)
                for entry, times in enumerate(usage)
            ],
        )
    figures: dict[str, Any] = {
        "input": name,
        "vectors": statistics.n_vectors,
        "distortion_db2": distortion,
        "std_db": distortion**0.5,
        "stages": [
            {
                "entries": len(usage),
                "least_used": int(usage.min()),
                "most_used": int(usage.max()),
                "never_used": int((usage == 0).sum()),
                **({"usage": usage.tolist()} if args.usage else {}),
            }
            for usage in statistics.usage
        ],
    }
    lines = [
        f"{name}: {statistics.n_vectors} vectors, distortion {distortion:.3f} dB^2, "
        f"std {distortion**0.5:.3f} dB"
    ]
    for stage, usage in enumerate(statistics.usage, start=1):
        lines.append(
            f"stage {stage}: {len(usage)} entries, used {usage.min()} to {usage.max()} times, "
            f"{(usage == 0).sum()} never"
        )
        if args.usage:
            lines += [f"{stage} {entry} {times}" for entry, times in enumerate(usage)]
    progress.tell_figures(args, figures, *lines, data=[args.output, args.indexes, args.csv])


def _sizes(text: str) -> list[int]:
    try:
        return [options.count(size) for size in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: not numbers, separated by commas") from None
