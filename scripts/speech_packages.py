# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages with speech, and what each of their files is; for fetch_speech.py.

The table is ``speech_packages.toml`` beside this module.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from debian_packages import FetchError

USES = ("train", "validate", "classic", "parity")
RESERVED = "reserved"
# When two files hold the same samples, the copy whose use comes first here stays.
PRECEDENCE = (RESERVED, "classic", "validate", "parity", "train")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the files of a package that match a pattern are; speech_packages.toml explains."""

    pattern: str
    use: str = ""
    speaker: str = ""
    language: str = ""
    licence: str = ""
    single_speaker: bool = True


@dataclasses.dataclass(frozen=True)
class Source:
    """A Debian package and what is in it; the first rule that matches a file decides."""

    package: str
    licence: str
    rules: tuple[Rule, ...]
    archives: Sequence[str] = ()


BY_LANGUAGE = "by language"

_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())

LANGUAGE_SIDE: dict[str, str] = _TABLE["language_side"]
RESERVED_PACKAGES = tuple(_TABLE["reserved_packages"])
SOURCES = tuple(
    Source(**{**row, "rules": tuple(Rule(**rule) for rule in row["rules"])})
    for row in _TABLE["source"]
)


@dataclasses.dataclass(frozen=True)
class Label:
    """Who speaks in a file, and what it may be used for."""

    use: str
    speaker: str
    language: str
    licence: str
    single_speaker: bool


def classify(source: Source, path: str) -> Label | None:
    """Say what the file at `path` in the package of `source` is; None if it is no speech."""
    for rule in source.rules:
        match = re.fullmatch(rule.pattern, path)
        if match is None:
            continue
        if not rule.use:
            return None
        groups = match.groupdict()
        language = groups.get("language") or rule.language
        return Label(
            use=side_of(language) if rule.use == BY_LANGUAGE else rule.use,
            speaker=rule.speaker.format(**groups).rstrip("-"),
            language=language,
            licence=rule.licence or source.licence,
            single_speaker=rule.single_speaker,
        )
    return None


def side_of(language: str) -> str:
    """Say which use the amateur packs of a language have; ``nl_BE`` goes with ``nl``."""
    return LANGUAGE_SIDE.get(re.split("[_@]", language)[0], "train")


def uses_of(source: Source) -> set[str]:
    """Collect the uses that files of `source` can have."""
    uses = {rule.use for rule in source.rules} - {"", RESERVED}
    return uses - {BY_LANGUAGE} | ({"train", "validate"} if BY_LANGUAGE in uses else set())


def select_sources(packages: Sequence[str], uses: Sequence[str]) -> list[Source]:
    """Pick sources by name and by use; nothing named means all.

    Raises FetchError for a package that is reserved or not in the table.
    """
    known = {source.package: source for source in SOURCES}
    for name in packages:
        if name in RESERVED_PACKAGES:
            raise FetchError(f"{name}: held out for judging finished models, so it is not fetched")
        if name not in known:
            raise FetchError(f"{name}: not in the table of packages; see --list")
    return [
        source
        for source in SOURCES
        if (not packages or source.package in packages)
        and (not uses or uses_of(source) & set(uses))
    ]
