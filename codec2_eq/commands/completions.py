# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq completions: print a shell completion script."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")
FILES = (
    "IN",
    "OUT",
    "FILE",
    "FILE|folder",
    "VECTORS",
    "MODEL",
    "A.f32,B.f32",
    "700c|A.f32,B.f32",
    "PREFIX",
)
FOLDERS = ("DIR",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # whole lines, to be copied
    parser.epilog = """where to write it:
  codec2-eq completions bash > ~/.local/share/bash-completion/completions/codec2-eq
  codec2-eq completions zsh > _codec2-eq      in a folder of $fpath
  codec2-eq completions fish > ~/.config/fish/completions/codec2-eq.fish"""


def run(args: argparse.Namespace) -> None:
    """Print the script for a shell."""
    import shtab

    parser = args.whole_parser()
    _name_files(parser)
    print(shtab.complete(parser, args.shell))


def _name_files(parser: argparse.ArgumentParser) -> None:
    """Complete file and folder arguments as such."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _name_files(inner)
        elif action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
