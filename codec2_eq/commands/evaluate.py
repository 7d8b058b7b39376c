# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq evaluate: quality by model and filter, over a corpus."""

from __future__ import annotations

import argparse
import sys

from codec2_eq import messages
from codec2_eq.commands import options

MODELS = ("none", "700c", "cmn", "channel_eq")
QUIET = "no noise"
UNUSED = {
    "classic": ("words", "heard", "shapes", "noise", "change", "by", "picture"),
    "words": ("heard", "noise", "change", "by", "picture"),
    "heard": ("change",),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="recordings, folders of one speaker each, or the speech of scripts/fetch_speech.py",
    )
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        metavar="MODEL",
        dest="models",
        help=f"equaliser, may be repeated (default: {', '.join(MODELS)}); also kalman-cmn; "
        "NAME:2 hears each segment twice; NAME:filter and NAME:2:filter put `filter` in "
        "front of c2enc, NAME:filter:48000 the same at 48 kHz in stereo; with --heard and --words "
        "also any mode of Codec 2, as codec2:3200",
    )
    parser.add_argument(
        "--shapes",
        metavar="FILE",
        help="filters, one name or impulse response per line (default: the standard ones)",
    )
    parser.add_argument(
        "--noise",
        type=_levels,
        default=[],
        metavar="DB,...",
        help="repeat with car, babble and white noise, each this many dB below the speech",
    )
    parser.add_argument(
        "--use",
        default="validate",
        metavar="USE",
        help="entries of manifest.jsonl to use (default: %(default)s)",
    )
    parser.add_argument(
        "--classic",
        action="store_true",
        help="print the classic table instead: D and shape error of each file, unshaped, by model",
    )
    parser.add_argument(
        "--heard",
        action="store_true",
        help="measure 700C streams instead: H, with its level and shape parts, of c2enc, "
        "c2enc --eq and `encode` with each model",
    )
    parser.add_argument(
        "--words",
        action="store_true",
        help="measure word error rates of decoded 700C streams instead, with an English recogniser",
    )
    parser.add_argument(
        "--transcripts",
        metavar="FILE",
        help="with --words: transcripts, a path or id and the text on each line (default: the "
        "texts in manifest.jsonl)",
    )
    parser.add_argument(
        "--level",
        choices=("keep", "auto"),
        help="with --heard and --words: --level of `encode` (default: as `encode` chooses)",
    )
    parser.add_argument(
        "--denoise",
        action="store_true",
        help="with --heard: reduce noise before the encoders, as `filter --denoise` does",
    )
    parser.add_argument(
        "--gain",
        type=float,
        default=0.0,
        metavar="DB",
        help="with --heard: encode the speech louder (or quieter) by DB, as 16 bits that may clip",
    )
    parser.add_argument(
        "--change",
        action="store_true",
        help="precede each segment with 12 s of another speaker and filter, to measure how fast "
        "a change is learnt",
    )
    parser.add_argument(
        "--by",
        choices=("shaping", "speaker"),
        action="append",
        help="also print errors by filter (default) or by speaker; repeat it for both",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write all figures; to stdout without FILE",
    )
    parser.add_argument("--csv", metavar="FILE", help="the same, one row per group")
    parser.add_argument("--picture", metavar="FILE", help="write a PNG: bars, residual, spectra")
    options.add_force(parser)


def run(args: argparse.Namespace) -> None:
    """Print the requested table."""
    from codec2_eq.errors import require_extra
    from codec2_eq.files import require_writable

    for other, names in UNUSED.items():
        if not getattr(args, other):
            continue
        for name in names:
            if getattr(args, name):
                args.refuse(f"argument --{name}: not allowed with argument --{other}")
    if args.level and not (args.heard or args.words):
        args.refuse("argument --level: only with --heard or --words")
    for name in ("denoise", "gain"):
        if getattr(args, name) and not args.heard:
            args.refuse(f"argument --{name}: only with --heard")
    if args.transcripts and not args.words:
        args.refuse("argument --transcripts: only with --words")
    if args.picture == "-":
        args.refuse("argument --picture: needs a file of its own")
    for path in (args.json, args.csv):
        if path:
            require_writable(path, force=args.force)
    if args.picture:
        from codec2_eq.pictures import require_picture_file

        require_picture_file(args.picture, force=args.force)
    if not args.classic:
        require_extra("evaluate", "report", "scipy")
    if args.denoise:
        require_extra("evaluate --denoise", "denoise", "pyrnnoise")
    if args.words:
        require_extra("evaluate --words", "words", "pocketsphinx")
    runs = {"classic": _run_classic, "words": _run_words, "heard": _run_heard}
    next((run for name, run in runs.items() if getattr(args, name)), _run_table)(args)


def _run_table(args: argparse.Namespace) -> None:
    from codec2_eq.bench import scores, tables
    from codec2_eq.bench.cases import mean_spectra, shape_recording
    from codec2_eq.bench.filtering import BEHIND_FILTER, load_filter
    from codec2_eq.bench.measures import quantise_700c

    quantise = quantise_700c()
    filters = {name: load_filter(name) for name in args.models or () if BEHIND_FILTER in name}
    if filters and args.change:
        args.refuse("argument --change: not with NAME:filter")
    methods = _methods(args)
    shapings, recordings = _shapings(args), _recordings(args)
    found, spectra = {}, {}
    for title, noise in _conditions(args).items():
        cases = [
            shape_recording(r, shapings, quantise, noise=noise, filters=filters) for r in recordings
        ]
        found[title] = scores.run(cases, methods, quantise, _tell, change=args.change)
        spectra[title] = mean_spectra(cases[0], list(methods.values())[-1])
        _print_tables(args, title, found[title], tables.overall_table, tables.detail_table)
    _write_figures(args, lambda: _by_condition(found))
    if args.picture:
        from codec2_eq.bench.plots import draw

        _save_picture(args, draw(found[QUIET], spectra[QUIET]))


def _run_heard(args: argparse.Namespace) -> None:
    from codec2_eq.bench import streams, tables

    encoders = streams.load_encoders(args.models or MODELS, level=args.level)
    shapings, recordings = _shapings(args), _recordings(args)
    found = {}
    for title, noise in _conditions(args).items():
        found[title] = streams.run(
            recordings,
            shapings,
            encoders,
            _tell,
            noise=noise,
            reduce_noise=args.denoise,
            gain_db=args.gain,
        )
        _print_tables(args, title, found[title], tables.heard_table, tables.heard_detail_table)
    _write_figures(args, lambda: _by_condition(found))
    if args.picture:
        from codec2_eq.bench.plots import draw_heard

        _save_picture(args, draw_heard(found[QUIET]))


def _run_words(args: argparse.Namespace) -> None:
    from codec2_eq.bench import tables, words
    from codec2_eq.bench.streams import load_encoders

    texts = (
        words.read_transcripts(args.transcripts, args.inputs, args.use)
        if args.transcripts
        else words.texts_of(args.inputs, args.use)
    )
    sentences = words.known_sentences(texts, messages.warn)
    encoders = load_encoders(args.models or MODELS, level=args.level)
    found = words.run(sentences, _shapings(args), encoders, _tell)
    _print(args, tables.words_table(found))
    _write_figures(args, found.as_json)


def _conditions(args: argparse.Namespace):
    """Noises by name, starting with no noise."""
    from codec2_eq.bench.noise import noises

    return {QUIET: None, **{noise.name: noise for noise in noises(args.noise)}}


def _print_tables(args: argparse.Namespace, title: str, found, overall, detail) -> None:
    heading = f"{title}:\n" if args.noise else ""
    _print(args, heading + overall(found))
    for which in args.by or ["shaping"]:
        _print(args, "\n" + detail(found, which))


def _by_condition(found):
    """Figures by noise, or plain ones without noise."""
    figures = {title: scores.as_json() for title, scores in found.items()}
    return figures if len(figures) > 1 else figures[QUIET]


def _levels(text: str) -> list[float]:
    """Parse "20,10"."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: not dB, separated by commas") from None


def _run_classic(args: argparse.Namespace) -> None:
    from codec2_eq.audio.stream import read_audio
    from codec2_eq.bench.measures import quantise_700c
    from codec2_eq.bench.scores import classic_scores
    from codec2_eq.bench.speech import analyse, find_speech, name_files
    from codec2_eq.bench.tables import classic_table

    paths = [path for files in find_speech(args.inputs, args.use).values() for path in files]
    vectors = {name: analyse(read_audio(path)) for name, path in name_files(paths).items()}
    found = classic_scores(vectors, _methods(args), quantise_700c())
    _print(args, classic_table(found))
    _write_figures(args, lambda: found)


def _methods(args: argparse.Namespace):
    """Methods by name, always with `none` as the lower end of the scale."""
    from codec2_eq.bench.filtering import BEHIND_FILTER
    from codec2_eq.bench.methods import load_method

    names = dict.fromkeys(["none", *(args.models or MODELS)])
    return {name: load_method(name) for name in names if BEHIND_FILTER not in name}


def _recordings(args: argparse.Namespace):
    from codec2_eq.bench.speech import find_speech, load_speech

    return load_speech(find_speech(args.inputs, args.use), report=messages.warn)


def _shapings(args: argparse.Namespace):
    from codec2_eq.bench.shaping import SHAPINGS, load_shaping, read_shapings

    return read_shapings(args.shapes) if args.shapes else list(map(load_shaping, SHAPINGS))


def _save_picture(args: argparse.Namespace, figure) -> None:
    from pathlib import Path

    from codec2_eq.pictures import save_picture

    save_picture(figure, Path(args.picture), force=args.force)


def _write_figures(args: argparse.Namespace, figures) -> None:
    import json

    from codec2_eq.files import write_text

    if args.json:
        write_text(args.json, json.dumps(figures(), indent=1) + "\n", force=args.force)
    if args.csv:
        from codec2_eq.bench.tables import as_csv

        write_text(args.csv, as_csv(figures()), force=args.force)


def _print(args: argparse.Namespace, table: str) -> None:
    print(table, file=sys.stderr if "-" in (args.json, args.csv) else sys.stdout)


def _tell(line: str) -> None:
    if messages.shows_progress():
        print(line, file=sys.stderr)
