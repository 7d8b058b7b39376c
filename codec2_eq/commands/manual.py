# SPDX-License-Identifier: LGPL-2.1-or-later
"""Manual pages, made from the parser when the package is built."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping

SECTION = 1

EXIT_CODES = {
    "0": "success",
    "1": "bad data or a file that cannot be read or written; one line on stderr names it",
    "2": "usage error",
    "3": "check found a fault",
    "130": "interrupted",
}


def man_pages(
    parser: argparse.ArgumentParser, *, version: str, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the page of the program and one for each command, by file name.

    parser : with all commands' options. environment : variables and what they do.
    """
    commands = _commands(parser)
    names = {parser.prog: parser} | {f"{parser.prog}-{n}": c for n, c in commands.items()}
    return {
        f"{name}.{SECTION}": _page(name, one, version, environment, [n for n in names if n != name])
        for name, one in names.items()
    }


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Commands within a parser that have options of their own, without aliases."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            own = {choice.dest.split()[0] for choice in action._choices_actions} - {"help"}
            return {name: one for name, one in action.choices.items() if name in own}
    return {}


def _page(
    name: str,
    parser: argparse.ArgumentParser,
    version: str,
    environment: Mapping[str, str],
    others: list[str],
) -> str:
    does = (parser.description or parser.prog).rstrip(".")
    lines = [
        f'.TH "{name.upper()}" "{SECTION}" "" "codec2_eq {version}" "User Commands"',
        *(".SH NAME", f"{_text(name)} \\- {_text(does[0].lower() + does[1:])}"),
        ".SH SYNOPSIS",
        *_usages(parser),
        *(".SH DESCRIPTION", _text(does + ".")),
        *_arguments(parser),
    ]
    for inner, one in _commands(parser).items():
        if f"codec2-eq-{inner}" not in others:
            lines += [f".SH {inner.upper()}", _text(one.description or ""), *_arguments(one)]
    if parser.epilog:
        lines += [".SH NOTES", _text(parser.epilog)]
    lines += [".SH ENVIRONMENT", *_list(environment)]
    lines += [".SH EXIT STATUS", *_list(EXIT_CODES)]
    see = (f".BR {_text(other)} ({SECTION})" for other in others)
    lines += [".SH SEE ALSO", " ,\n".join(see)]
    return "\n".join(lines) + "\n"


def _usages(parser: argparse.ArgumentParser) -> Iterator[str]:
    inner = _commands(parser)
    for number, one in enumerate(inner.values() if inner else [parser]):
        if number:
            yield ".br"
        usage = re.sub(r"\s+", " ", one.format_usage().removeprefix("usage: "))
        yield _text(usage.strip())


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every argument with its help, as a section of its own."""
    formatter = parser._get_formatter()
    shown = [a for a in parser._actions if a.help != argparse.SUPPRESS]
    for action in shown:
        if isinstance(action, argparse._SubParsersAction):
            does = {c.dest: c.help or "" for c in action._choices_actions}
            yield ".SH COMMANDS"
            yield from _list(does)
    yield ".SH OPTIONS"
    for action in shown:
        if not isinstance(action, argparse._SubParsersAction):
            yield ".TP"
            yield "\\fB" + _text(formatter._format_action_invocation(action)) + "\\fR"
            text = formatter._expand_help(action)
            yield _text(re.sub(r", here \d+", "", text))  # cores of the machine that builds


def _list(entries: Mapping[str, str]) -> Iterator[str]:
    for name, does in entries.items():
        yield from (".TP", "\\fB" + _text(name) + "\\fR", _text(does))


def _text(text: str) -> str:
    """Escape what troff would take for its own."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped
