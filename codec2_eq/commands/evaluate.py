# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq evaluate: distortions per model and shaping, over a corpus."""

from __future__ import annotations

import argparse
import sys

from codec2_eq.commands import options

MODELS = ("none", "700c", "cmn", "channel_eq")
KALMAN = "kalman-cmn"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="recordings, folders of one speaker each, or what scripts/fetch_speech.py fetched",
    )
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        metavar="MODEL",
        dest="models",
        help=f"equaliser, as often as wanted (default: {', '.join(MODELS)}); {KALMAN} is one more",
    )
    parser.add_argument(
        "--shapes",
        metavar="FILE",
        help="filters, one name or impulse response a line (default: the standard ones)",
    )
    parser.add_argument(
        "--use",
        default="validate",
        metavar="USE",
        help="entries to take of a manifest.jsonl (default: %(default)s)",
    )
    parser.add_argument(
        "--classic",
        action="store_true",
        help="the classic table instead: each file unshaped, D and Fv, samples x models",
    )
    parser.add_argument(
        "--change",
        action="store_true",
        help="have 12 s of another speaker and filter come before each segment: how soon a change "
        "is learnt",
    )
    parser.add_argument(
        "--by",
        choices=("shaping", "speaker"),
        action="append",
        default=[],
        help="print F0 and Fv by shaping or by speaker too",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures; - is stdout")
    parser.add_argument("--picture", metavar="FILE", help="write a PNG: bars, residual, spectra")
    options.add_force(parser)
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> None:
    """Print the table that was asked for."""
    from codec2_eq.errors import require_extra
    from codec2_eq.files import require_writable

    if args.classic:
        for name in ("shapes", "change", "by", "picture"):
            if getattr(args, name):
                args.refuse(f"argument --{name}: not allowed with argument --classic")
    if args.picture and args.picture in ("-", args.json):
        args.refuse("argument --picture: needs a file of its own")
    for path in (args.json, args.picture):
        if path:
            require_writable(path, force=args.force)
    if not args.classic:
        require_extra("evaluate", "report", "scipy", *["matplotlib"] * bool(args.picture))
    (_run_classic if args.classic else _run_table)(args)


def _run_table(args: argparse.Namespace) -> None:
    from codec2_eq import messages
    from codec2_eq.bench import evaluation, quality, scores, shaping

    names = shaping.SHAPINGS
    shapings = (
        shaping.read_shapings(args.shapes)
        if args.shapes
        else list(map(shaping.load_shaping, names))
    )
    quantise = quality.quantise_700c()
    models = _models(args)
    found_speech = evaluation.find_speech(args.inputs, args.use)
    speech = evaluation.load_speech(found_speech, report=messages.warn)
    cases = [evaluation.shape_recording(recording, shapings, quantise) for recording in speech]
    found = scores.run(cases, models, quantise, _tell, change=args.change)
    _print(args, scores.overall_table(found))
    for which in args.by:
        _print(args, "\n" + scores.detail_table(found, which))
    _write_json(args, found.as_json)
    if args.picture:
        from pathlib import Path

        from codec2_eq.pictures import save_picture

        spectra = evaluation.mean_spectra(cases[0], list(models.values())[-1])
        save_picture(scores.draw(found, spectra), Path(args.picture), force=args.force)


def _run_classic(args: argparse.Namespace) -> None:
    from codec2_eq.audio.stream import read_audio
    from codec2_eq.bench import evaluation, quality, scores

    paths = [p for files in evaluation.find_speech(args.inputs, args.use).values() for p in files]
    named = evaluation.name_files(paths)
    samples = {name: evaluation.analyse(read_audio(path)) for name, path in named.items()}
    found = scores.classic_scores(samples, _models(args), quality.quantise_700c())
    _print(args, scores.classic_table(found))
    _write_json(args, lambda: found)


def _models(args: argparse.Namespace):
    """Equalisers by name; none is always there, as the lower end of the scale."""
    from codec2_eq.bench import evaluation
    from codec2_eq.equalisers.equaliser import load_equaliser

    names = dict.fromkeys(["none", *(args.models or MODELS)])
    return {
        name: evaluation.KalmanMean.from_codebook() if name == KALMAN else load_equaliser(name)
        for name in names
    }


def _write_json(args: argparse.Namespace, figures) -> None:
    import json

    from codec2_eq.files import write_text

    if args.json:
        write_text(args.json, json.dumps(figures(), indent=1) + "\n", force=args.force)


def _print(args: argparse.Namespace, table: str) -> None:
    print(table, file=sys.stderr if args.json == "-" else sys.stdout)


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)
