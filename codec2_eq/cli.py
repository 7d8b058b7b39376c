# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``codec2-eq``: find the subcommand, run it, report errors in one line.

Only the module of the subcommand that runs is imported, so that each pays only for what it uses.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import gc
import importlib
import io
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import NoReturn

from codec2_eq import __version__, messages, system
from codec2_eq.errors import Codec2EqError

COMMANDS = {
    "extract": "speech to rate-K vectors in dB, mean included",
    "equalise": "vectors to equalised vectors",
    "run": "the main job: extract and equalise in one pass",
    "batch": "process a corpus of files and folders; resumable",
    "filter": "audio to equalised audio, for any encoder, live or from files",
    "vq": "train and apply multi-stage vector quantisers",
    "encode": "speech to an equalised Codec 2 700C stream",
    "decode": "a Codec 2 700C stream to speech",
    "train": "train an equaliser network with Keras",
    "evaluate": "measure how good equalisers are, by model and filter",
    "report": "an HTML page with pictures and sound",
    "models": "list the equalisers",
    "export": "export a trained network as C source, or as an ONNX or LiteRT graph",
    "check": "diagnose a microphone: measurements, faults, advice",
    "info": "describe a vector file, network, codebook, stream, recording or corpus",
    "completions": "print a shell completion script",
}
"""Subcommands, each a module of `codec2_eq.commands`, in help order."""

ALIASES = {"equalise": ("equalize",)}
"""Other names of commands."""

ENVIRONMENT = {
    "CODEC2_EQ_ISA": "instruction set of the analysis: baseline, x86_64_v3 or x86_64_v4 (default: "
    "the best the processor supports)",
    "XDG_CACHE_HOME": "converted .keras networks are cached in its codec2_eq folder (default: "
    "~/.cache)",
}
"""Environment variables that users may set."""

NO_BLAS = {"extract", "equalise", "run", "batch", "filter", "encode", "decode", "models", "info"}
"""Commands without large matrix products; they skip the 60 ms of CPU to start BLAS threads."""

_GARBAGE_AFTER = 50_000
"""Allocations between garbage collections: importing makes many objects and drops none."""

EXIT_ERROR = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0 success, 1 bad data, 2 usage error, 3 `check` found a fault, 130 interrupted.
    """
    if argv is None:
        system.read_names_as_utf8()
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None and "--debug" not in words:
        warnings.simplefilter("ignore")  # Python's and NumPy's, which are for developers
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have characters that it lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:  # closed, as in a daemon: print would use stdout instead
        sys.stderr = open(os.devnull, "w")
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    debug = False
    try:
        parser = build_parser(words)
        args = parser.parse_args(words)
        debug = args.debug
        if args.run is None:
            parser.print_help(sys.stderr)
            return 2
        if any(word == "" or (word[:2] == "--" and word[-1:] == "=") for word in words):
            raise Codec2EqError("command line", "an argument is empty", "is a variable not set?")
        if args.command in NO_BLAS:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        messages.show_on_stderr("codec2-eq: warning: ", verbosity=args.verbosity)
        gc.set_threshold(_GARBAGE_AFTER)
        atexit.register(_end_without_search_for_garbage)
        _end_cleanly_on_signals()
        started_s = time.monotonic()
        from codec2_eq.commands import options

        options.check_files(args)
        code = args.run(args) or 0
        messages.tell_more(
            f"codec2-eq {__version__}: {time.monotonic() - started_s:.2f} s, "
            f"{time.process_time():.2f} s of CPU"
        )
        return code
    except Codec2EqError as error:
        return _report(str(error), debug)
    except BrokenPipeError:
        _abandon_stdout()
        return system.EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None:  # from printing: errors of files name the file
            from codec2_eq.files import write_error

            return _report(str(write_error("stdout", error)), debug)
        return _report(f"{error.filename}: {error.strerror}", debug)
    except MemoryError:
        return _report(
            "memory: not enough of it; close other programs, or give smaller files", debug
        )
    except KeyboardInterrupt:
        return system.EXIT_INTERRUPTED


def _end_without_search_for_garbage() -> None:
    """Save 10 ms at exit, unless soxr is loaded: it complains about objects that were not freed."""
    if "soxr" not in sys.modules:
        gc.freeze()


def _end_cleanly_on_signals() -> None:
    """Unwind the stack on SIGTERM or a closed terminal, so that no temporary file remains."""

    def leave(number: int) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        system.on_end_signal(leave)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors suggest the closest match."""

    def error(self, message: str) -> NoReturn:
        """End with a usage error."""
        import difflib

        wrong = message.partition("invalid choice: '")[2].partition("'")[0]
        if message.startswith("unrecognized arguments: -"):
            wrong = message.split()[2].partition("=")[0]
        near = difflib.get_close_matches(wrong, sorted(set(_words(self))), n=1) if wrong else []
        if near == [wrong]:
            message += "; options of a command come after it"
        elif near:
            message += f"; did you mean {near[0]}?"
        super().error(messages.printable(message))


def _words(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All options and choices of a parser and those within it."""
    for action in parser._actions:
        yield from action.option_strings
        yield from map(str, action.choices or ())
    for inner in _inner_parsers(parser).values():
        yield from _words(inner)


def _inner_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: inner
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, inner in action.choices.items()
    }


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser for a command line: all command names, and the options of those named."""
    parser = _Parser(
        prog="codec2-eq",
        description="Speech to Codec 2 rate-K vectors, equalised and ready for a vector quantiser.",
        epilog="codec2-eq COMMAND --help, or codec2-eq help COMMAND, lists a command's options.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"codec2-eq {__version__}",
        help="print the version and exit",
    )
    parser.set_defaults(run=None, debug=False, verbosity=0)
    _add_common(parser)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", dest="command")
    for name, does in COMMANDS.items():
        aliases = ALIASES.get(name, ())
        command = commands.add_parser(
            name, aliases=aliases, help=does, description=f"{does[0].upper()}{does[1:]}."
        )
        if {name, *aliases}.intersection(words):
            module = importlib.import_module(f"codec2_eq.commands.{name}")
            module.configure(command)
            _add_common(command)
            command.set_defaults(run=module.run, refuse=command.error, whole_parser=whole_parser)
    commands.add_parser("help", help="show the options of a command")
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """Build the parser with the options of all commands."""
    return build_parser(list(COMMANDS))


def _add_common(command: argparse.ArgumentParser) -> None:
    """Declare the common options for a command and its subcommands."""
    verbosity = functools.partial(
        command.add_argument,
        dest="verbosity",
        action="store_const",
        default=argparse.SUPPRESS,
    )
    verbosity("-q", "--quiet", const=-1, help="print only warnings and errors")
    verbosity("-v", "--verbose", const=1, help="print more")
    command.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )
    for inner in _inner_parsers(command).values():
        _add_common(inner)


def _report(message: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    messages.print_error(message)
    return EXIT_ERROR


def _abandon_stdout() -> None:
    """Keep the interpreter from flushing into the broken pipe at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
