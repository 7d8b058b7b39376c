# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options shared by several commands."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from codec2_eq.codec2 import FRAME_MS, FRAME_MS_CHOICES, HOP_MS
from codec2_eq.equalisers.names import DEFAULT_MODEL
from codec2_eq.system import core_count

if TYPE_CHECKING:
    from codec2_eq.records import RateK

FORMATS = ("f32", "npy", "npz")
WRITTEN = "vectors: .f32, .npy or .npz"
READ = "vectors: .f32, .npy, .npz or .mlfeat"

_INPUTS = {
    "load_state": "--load-state",
    "shapes": "--shapes",
    "transcripts": "--transcripts",
    "codebook": "--codebook",
    "model": "MODEL",
    "models": "MODEL",
    "input": "IN",
    "inputs": "IN",
}
_NAMES_OR_FILES = ("--codebook", "MODEL")
_OUTPUTS = {
    "output": "-o",
    "indexes": "--indexes",
    "json": "--json",
    "csv": "--csv",
    "save_state": "--save-state",
    "curve": "--curve",
    "picture": "--picture",
}


def add_input(parser: argparse.ArgumentParser, what: str) -> None:
    """IN: one file, stdin by default."""
    parser.add_argument("input", nargs="?", default="-", metavar="IN", help=f"{what}; - is stdin")


def add_output(parser: argparse.ArgumentParser, what: str) -> None:
    """-o and -f: one output, stdout by default, overwritten only with -f."""
    parser.add_argument("-o", "--output", default="-", metavar="OUT", help=f"{what}; - is stdout")
    # As sox has it: `run - -`. Names of files need -o, so that no input is taken for an output.
    parser.add_argument(
        "output", nargs="?", action=_Stdout, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    add_force(parser)
    add_json(parser)


def add_json(
    parser: argparse.ArgumentParser,
    does: str = "print the figures as JSON: on stdout, or on stderr if stdout has the data",
) -> None:
    """--json: figures for programs."""
    parser.add_argument("--json", action="store_true", help=does)


def add_force(parser: argparse.ArgumentParser) -> None:
    """-f: overwrite."""
    parser.add_argument("-f", "--force", action="store_true", help="overwrite existing files")


def add_format(
    parser: argparse.ArgumentParser, *, mlfeat: str | None = "read records of c2enc --mlfeat"
) -> None:
    """--format: of vectors on a pipe.

    mlfeat : what this format means to the command; None if it neither reads nor writes it
    """
    meaning = "" if mlfeat is None else f"; mlfeat: {mlfeat}, whatever the suffix"
    parser.add_argument(
        "--format",
        choices=FORMATS if mlfeat is None else (*FORMATS, "mlfeat"),
        help="format of the vectors, if the suffix does not determine it (default on a pipe: f32)"
        f"{meaning}",
    )


def add_analysis(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `stream` takes."""
    add_audio(parser)
    add_frame_ms(parser)
    add_knots(parser)
    add_jobs(parser)


def add_audio(parser: argparse.ArgumentParser) -> None:
    """--channel and --raw: how audio is read."""
    parser.add_argument(
        "--channel",
        default="mix",
        metavar="N|mix",
        help="channel number, from 1, or the mean of all (default: %(default)s)",
    )
    add_raw(parser)


def add_raw(parser: argparse.ArgumentParser) -> None:
    """--raw: headerless input."""
    parser.add_argument(
        "--raw", action="store_true", help="the input is headerless 16-bit mono 8 kHz"
    )


def add_frame_ms(parser: argparse.ArgumentParser) -> None:
    """--frame-ms: the frame interval."""
    parser.add_argument(
        "--frame-ms",
        type=int,
        choices=FRAME_MS_CHOICES,
        default=FRAME_MS,
        help="time between vectors (default: %(default)s, as in 700C)",
    )


def add_knots(parser: argparse.ArgumentParser, default: str | None = "pick") -> None:
    """--knots: how frames are made from the 10 ms frames."""
    parser.add_argument(
        "--knots",
        choices=("pick", "fit"),
        default=default,
        help="pick: the last 10 ms frame of each interval, as Codec 2 does; fit: the vectors whose "
        "interpolation, as done by the decoder, comes closest to all 10 ms frames "
        f"(default: {default or 'pick for the models none and 700c, otherwise fit'})",
    )


def check_knots(args: argparse.Namespace) -> None:
    """End with a usage error if there is nothing to fit."""
    if args.knots == "fit" and args.frame_ms == HOP_MS:
        args.refuse("--knots fit: needs --frame-ms 20 or 40")


def stream(args: argparse.Namespace, *, harmonics: bool = False) -> Iterator[RateK]:
    """Extract the input block by block, by the options of `add_analysis`."""
    from codec2_eq.extraction import stream_file

    return stream_file(
        args.input,
        frame_ms=args.frame_ms,
        knots=args.knots,
        channel=args.channel,
        raw=args.raw,
        jobs=args.jobs,
        harmonics=harmonics,
    )


def add_model(parser: argparse.ArgumentParser, default: str = DEFAULT_MODEL) -> None:
    """-m: an equaliser."""
    parser.add_argument(
        "-m",
        "--model",
        default=default,
        metavar="MODEL",
        help="equaliser: a name from `codec2-eq models`, or a .keras or .npz file "
        "(default: %(default)s)",
    )


def add_before_floor(parser: argparse.ArgumentParser) -> None:
    """--before-floor: where the curve is removed."""
    parser.add_argument(
        "--before-floor",
        action="store_true",
        help="equalise the harmonics before the analysis raises them to its floor of 50 dB below "
        "the loudest, as `encode` does; for picked frames",
    )


def check_before_floor(args: argparse.Namespace) -> None:
    """End with a usage error if the frames have no harmonics."""
    if args.before_floor and args.knots == "fit":
        args.refuse("--before-floor: needs --knots pick")


def add_passes(parser: argparse.ArgumentParser, *, pipes: bool = True) -> None:
    """--passes: whether the equaliser hears the whole recording before it equalises it.

    pipes : whether the command reads them
    """
    and_pipes = "; a pipe is read to its end first" if pipes else ""
    parser.add_argument(
        "--passes",
        type=int,
        choices=(1, 2),
        default=1,
        help="2: hear the whole recording first, then equalise it from the start with what was "
        f"learnt{and_pipes} (default: %(default)s)",
    )


def add_state(parser: argparse.ArgumentParser) -> None:
    """--save-state and --load-state: what was learnt about a station."""
    parser.add_argument(
        "--load-state", metavar="FILE", help="start from a state written by --save-state"
    )
    parser.add_argument(
        "--save-state", metavar="FILE", help="save what the equaliser has learnt (.npz)"
    )


def check_files(args: argparse.Namespace, *more: tuple[str, str]) -> None:
    """End with a usage error if an output is an input, or two outputs are one file or stdout.

    -o may be IN where the command says so (``in_place``): a file of the same kind replaces it.

    more : further outputs, as option and path
    """
    from codec2_eq.files import is_stdout

    given = ((option, getattr(args, name, None)) for name, option in _OUTPUTS.items())
    outputs = [*more, *((option, path) for option, path in given if isinstance(path, str))]
    standard = [option for option, path in outputs if is_stdout(path)]
    if len(standard) > 1:
        args.refuse(f"{' and '.join(standard[:2])} are both stdout; name a file for one of them")
    seen = {_identity(path): (option, path) for option, path in _inputs(args)}
    for option, path in outputs:
        identity = None if is_stdout(path) else _identity(path)
        if identity is None:
            continue
        other, first = seen.get(identity, (None, None))
        in_place = other == "IN" and option == "-o" and getattr(args, "in_place", False)
        if other and not in_place and (other, option) != ("--load-state", "--save-state"):
            args.refuse(f"{other} and {option} are both {first}; name two files")
        seen[identity] = option, path


def _inputs(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield the options that name files to read, and these."""
    for name, option in _INPUTS.items():
        given = getattr(args, name, None) or []
        if isinstance(given, str):
            given = given.split(",") if option == "--codebook" else [given]
        for path in given:
            if option not in _NAMES_OR_FILES or os.path.splitext(path)[1]:
                yield option, path


def _identity(path: str) -> Hashable:
    """Return what all names of a file share; None for `-`, and for what is no regular file."""
    if path == "-":
        return None
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """--jobs: processor cores to use."""
    parser.add_argument(
        "--jobs",
        type=count,
        default=core_count(),
        metavar="N",
        help="processor cores to use (default: all, here %(default)s)",
    )


class _Stdout(argparse.Action):
    """Take `-` for the output, and nothing else."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Set the output; end with a usage error for another name."""
        if values != "-":
            parser.error(f"{values}: unexpected second file name; name the output with -o")
        namespace.output = values


def natural(text: str) -> int:
    """Parse a whole number from 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text}: at least 0")
    return number


def count(text: str) -> int:
    """Parse a whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text}: from 0 to 1")
    return number
