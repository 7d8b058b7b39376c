# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``codec2-eq``: find the subcommand, run it, tell errors in one line.

Only the module of the subcommand that is run is imported, so that each pays for what it uses.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Sequence

from codec2_eq import messages, system
from codec2_eq.errors import Codec2EqError

COMMANDS = {
    "extract": "speech to rate-K vectors in dB, mean included",
    "equalise": "vectors to equalised vectors",
    "run": "the main job: extract and equalise in one pass",
    "batch": "a corpus: many files and folders in one go",
    "vq": "train and apply multi-stage vector quantisers",
    "encode": "speech to a Codec 2 700C stream, equalised on the way",
    "decode": "a Codec 2 700C stream to speech",
    "train": "train an equaliser network with Keras",
    "evaluate": "measure equalisers: distortions per model and shaping",
    "report": "a page to look at and listen to",
    "models": "list the equalisers at hand",
    "info": "say what a vector file, network, codebook or .c2 file holds",
}
"""Subcommands, each a module of `codec2_eq.commands`, in the order of the help."""

NO_BLAS = {"extract", "equalise", "run", "batch", "encode", "decode", "models", "info"}
"""Commands that multiply no large matrices, and so spare the 60 ms CPU of starting BLAS threads."""

EXIT_ERROR = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 bad data, 2 usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    if sys.stderr is None:  # closed, as of a daemon: print would choose stdout instead
        sys.stderr = open(os.devnull, "w")
    debug = False
    try:
        parser = build_parser(words)
        args = parser.parse_args(words)
        debug = args.debug
        if args.run is None:
            parser.print_help(sys.stderr)
            return 2
        if NO_BLAS.intersection(words[:1]):
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        messages.show_on_stderr("codec2-eq: warning: ")
        _end_cleanly_when_told_to()
        return args.run(args) or 0
    except Codec2EqError as error:
        return _report(str(error), debug)
    except BrokenPipeError:
        _abandon_stdout()
        return system.EXIT_BROKEN_PIPE
    except OSError as error:
        return _report(f"{error.filename or 'input or output'}: {error.strerror}", debug)
    except KeyboardInterrupt:
        return system.EXIT_INTERRUPTED


def _end_cleanly_when_told_to() -> None:
    """Let a polite kill or a closed terminal unwind the stack: no temporary file stays behind."""

    def leave(number: int) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        system.on_end_signal(leave)


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser for a command line: all commands' names, the options of those named."""
    parser = argparse.ArgumentParser(
        prog="codec2-eq",
        description="Speech to Codec 2 rate-K vectors, equalised and ready for a vector quantiser.",
        epilog="codec2-eq COMMAND --help tells the options of a command.",
    )
    parser.add_argument("--version", action=_PrintVersion, help="print the version and exit")
    parser.set_defaults(run=None, debug=False)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for name, does in COMMANDS.items():
        command = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        if name in words:
            module = importlib.import_module(f"codec2_eq.commands.{name}")
            module.configure(command)
            _add_debug(command)
            command.set_defaults(run=module.run)
    return parser


def _add_debug(command: argparse.ArgumentParser) -> None:
    """Declare --debug for a command and the commands within it."""
    command.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _add_debug(inner)


class _PrintVersion(argparse.Action):
    """Look the version up only when it is asked for: it costs 20 ms."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: object) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)  # type: ignore[arg-type]

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"codec2-eq {version('codec2_eq')}", flush=True)
        parser.exit()


def _report(message: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    one_line = message.replace("\n", "\\n")
    print(f"codec2-eq: error: {one_line}", file=sys.stderr)
    return EXIT_ERROR


def _abandon_stdout() -> None:
    """Keep the interpreter from flushing into the broken pipe when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
