#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fetch real speech recordings from Debian packages, without root.

    python scripts/fetch_speech.py                      # everything, into .speech/
    python scripts/fetch_speech.py --use classic        # only what the tests need
    python scripts/fetch_speech.py --tools              # only c2enc, c2dec and their library

The recordings belong to their authors and have licences of their own (GPL, CC-BY-SA, CC-BY,
BSD-like, ...), so they are fetched by this script and never kept in the repository. Each package
is downloaded with ``apt-get download``, unpacked with ``dpkg -x`` and converted to mono int16 WAV
at its native rate. The packages are in ``speech_packages.toml`` beside this script; the lines of
``manifest.jsonl`` in the destination are `codec2_eq.bench.speech.ManifestEntry`.

The use of a recording is one of

train     networks and codebooks may learn from it
validate  for choosing between models; never learnt from
classic   Codec 2's well-known test samples; for tests and tables, never learnt from
parity    the rest of Codec 2's speech, tones and pauses; only for comparing with libcodec2

A second run fetches only the packages that are missing; a run that was killed leaves no
half-converted package behind.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import soundfile as sf
from debian_packages import Apt, FetchError, deb_field, log, unpack
from speech_conversion import convert_package
from speech_packages import (
    LANGUAGE_SIDE,
    PRECEDENCE,
    RESERVED,
    RESERVED_PACKAGES,
    SOURCES,
    USES,
    Source,
    select_sources,
    uses_of,
)

TOOLS_PACKAGE = "codec2"
TOOLS_LIBRARY = re.compile(r"\blibcodec2-[\w.]+")
TOOLS = ("c2enc", "c2dec")


# ---------------------------------------------------------------------------------------------
# Destination folder: which packages are there, and the manifest of all of them
# ---------------------------------------------------------------------------------------------


class Store:
    """The destination folder.

    ``audio/PACKAGE/`` holds a package's recordings and ``packages/PACKAGE.jsonl`` its records.
    The records are written last, so a package without them is not whole and is done again.
    """

    def __init__(self, dest: Path) -> None:
        self.dest = dest
        self.audio = dest / "audio"
        self.packages = dest / "packages"
        self.work = dest / "work"
        self.manifest = dest / "manifest.jsonl"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run out of the folder, and clear what a killed run left in it."""
        self.dest.mkdir(parents=True, exist_ok=True)
        with open(self.dest / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FetchError(f"{self.dest}: another run is at work in it") from error
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir()
            try:
                yield
            finally:
                shutil.rmtree(self.work, ignore_errors=True)

    def has(self, package: str) -> bool:
        """Say whether a package was fetched and converted completely."""
        return (self.packages / f"{package}.jsonl").exists()

    def add(self, package: str, converted: Path, records: Iterable[dict[str, object]]) -> None:
        """Take over a converted package: first its folder, then its records."""
        final = self.audio / package
        shutil.rmtree(final, ignore_errors=True)
        self.audio.mkdir(exist_ok=True)
        self.packages.mkdir(exist_ok=True)
        converted.mkdir(parents=True, exist_ok=True)
        converted.rename(final)
        placed = [
            {**record, "path": f"audio/{package}/{record['path']}" if record["path"] else ""}
            for record in records
        ]
        write_jsonl(self.packages / f"{package}.jsonl", placed)

    def update_manifest(self) -> list[dict[str, object]]:
        """Write the manifest of all packages that are there; return its entries."""
        records = [
            record for file in sorted(self.packages.glob("*.jsonl")) for record in read_jsonl(file)
        ]
        kept, copies = merge_records(records)
        for record in copies:
            if record["path"]:
                (self.dest / str(record["path"])).unlink(missing_ok=True)
        write_jsonl(self.manifest, kept)
        return kept


def merge_records(
    records: Iterable[dict[str, object]],
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Join the records of all packages; return what goes into the manifest, and the copies.

    Of recordings with equal samples the one whose use comes first in PRECEDENCE stays; reserved
    ones push out their copies and are themselves in neither list.
    """
    order = sorted(
        records,
        key=lambda r: (PRECEDENCE.index(str(r["use"])), str(r["package"]), str(r["path"])),
    )
    kept, copies = [], []
    seen: set[object] = set()
    for record in order:
        if record["sha256"] in seen:
            copies.append(record)
            continue
        seen.add(record["sha256"])
        if record["use"] != RESERVED:
            kept.append(record)
    kept.sort(key=lambda r: (str(r["package"]), str(r["path"])))
    return kept, copies


def read_jsonl(path: Path) -> list[dict[str, object]]:
    """Read one JSON object a line."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_jsonl(path: Path, records: Iterable[dict[str, object]]) -> None:
    """Write one JSON object a line; the file appears only when whole."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, path)


# ---------------------------------------------------------------------------------------------
# The runs
# ---------------------------------------------------------------------------------------------


def fetch_package(source: Source, store: Store, apt: Apt) -> str:
    """Download, convert and store one package; return a line about the result."""
    work = store.work / source.package
    deb = apt.download(source.package, work)
    version = deb_field(deb, "Version")
    unpack(deb, work / "root", source.archives)
    deb.unlink()
    converted = convert_package(source, version, work / "root", work / "wav")
    if not converted.records:
        raise FetchError(f"{source.package}: version {version} holds no speech where it should")
    store.add(source.package, work / "wav", converted.records)
    shutil.rmtree(work)
    written = [record for record in converted.records if record["path"]]
    left_out = "".join(f", {count} {why}" for why, count in sorted(converted.left_out.items()))
    return f"{version}: {describe(written)}" + (left_out and f"; left out{left_out[1:]}")


def fetch_tools(dest: Path, work: Path, apt: Apt) -> Path:
    """Unpack c2enc, c2dec and their library under ``dest/tools``; return the folder to run from.

    ``tools/bin`` holds small wrappers that set the library path, for the programs are not
    installed.
    """
    final = dest / "tools"
    bin_folder = final / "bin"
    if all((bin_folder / tool).exists() for tool in TOOLS):
        return bin_folder
    root = work / "tools"
    deb = apt.download(TOOLS_PACKAGE, work / "tools-deb")
    library = TOOLS_LIBRARY.search(deb_field(deb, "Depends"))
    if library is None:
        raise FetchError(f"{TOOLS_PACKAGE}: depends on no libcodec2 that we know")
    unpack(deb, root)
    unpack(apt.download(library.group(), work / "library-deb"), root)
    folders = {path.parent.relative_to(root) for path in root.rglob("libcodec2.so*")}
    (root / "bin").mkdir()
    for tool in TOOLS:
        wrapper = root / "bin" / tool
        wrapper.write_text(wrapper_script(tool, sorted(folder.as_posix() for folder in folders)))
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    shutil.rmtree(final, ignore_errors=True)
    root.rename(final)
    return bin_folder


def wrapper_script(tool: str, library_folders: Sequence[str]) -> str:
    """Give a shell script that runs an unpacked program with its own library."""
    path = ":".join(f"$here/../{folder}" for folder in library_folders)
    return (
        "#!/bin/sh\n"
        'here=$(dirname -- "$(readlink -f -- "$0")")\n'
        f'LD_LIBRARY_PATH="{path}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"\n'
        "export LD_LIBRARY_PATH\n"
        f'exec "$here/../usr/bin/{tool}" "$@"\n'
    )


def fetch_all(sources: Sequence[Source], store: Store, apt: Apt) -> list[str]:
    """Fetch the packages that are missing; return a line for each that failed."""
    missing = []
    for number, source in enumerate(sources, start=1):
        head = f"[{number}/{len(sources)}] {source.package}"
        if store.has(source.package):
            log(f"{head}: already there")
            continue
        log(f"{head} ...")
        try:
            log(f"  {fetch_package(source, store, apt)}")
        except (FetchError, OSError, sf.LibsndfileError) as error:
            named = source.package in str(error)
            missing.append(str(error) if named else f"{source.package}: {error}")
            log(f"  failed: {error}")
    return missing


def describe(records: Sequence[dict[str, object]]) -> str:
    """Sum up records: files, minutes, speakers."""
    minutes = sum(float(str(record["duration"])) for record in records) / 60
    speakers = len({record["speaker"] for record in records})
    return f"{len(records)} files, {minutes:.1f} minutes, {speakers} speakers"


def summarise(manifest: Sequence[dict[str, object]]) -> None:
    """Print what the manifest holds for each use, and what is left out on purpose."""
    for use in USES:
        log(f"{use:9} {describe([record for record in manifest if record['use'] == use])}")
    languages = [language for language, side in LANGUAGE_SIDE.items() if side == RESERVED]
    log(
        f"reserved, not fetched: {', '.join(RESERVED_PACKAGES)};"
        f" not converted: the amateur packs in {', '.join(sorted(languages))}"
    )


def list_sources(store: Store, out: IO[str]) -> None:
    """Print the table of packages."""
    for source in SOURCES:
        state = "there" if store.has(source.package) else "-"
        uses = ",".join(sorted(uses_of(source)))
        print(f"{source.package:32} {uses:24} {source.licence:32} {state}", file=out)
    for package in RESERVED_PACKAGES:
        print(f"{package:32} {'reserved, never fetched':24}", file=out)


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description="Fetch real speech recordings from Debian packages, without root.",
        epilog="Whole packages are fetched: with --use validate the manifest may also list"
        " recordings for training that came in the same package.",
    )
    default = Path(__file__).resolve().parent.parent / ".speech"
    parser.add_argument("--dest", type=Path, default=default, help="default: %(default)s")
    parser.add_argument("--use", nargs="+", choices=USES, default=[], help="packages with this use")
    parser.add_argument("--package", nargs="+", default=[], metavar="NAME", help="these packages")
    parser.add_argument(
        "--tools",
        action="store_true",
        help="fetch c2enc and c2dec into DEST/tools/bin (alone: no speech)",
    )
    parser.add_argument("--list", action="store_true", help="print the table of packages")
    parser.add_argument("--strict", action="store_true", help="exit 1 if anything failed")
    return parser


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks; return the exit code."""
    store = Store(args.dest)
    if args.list:
        list_sources(store, sys.stdout)
        return 0
    only_tools = args.tools and not (args.use or args.package)
    sources = [] if only_tools else select_sources(args.package, args.use)
    with store.locked():
        apt = Apt(store.dest / "apt")
        missing = fetch_all(sources, store, apt)
        if args.tools:
            try:
                log(f"tools: {fetch_tools(store.dest, store.work, apt)}")
            except FetchError as error:
                missing.append(str(error))
        if sources:
            summarise(store.update_manifest())
    for line in missing:
        log(f"could not get {line}")
    got_nothing = len(missing) == len(sources) + args.tools
    return 1 if missing and (args.strict or got_nothing) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = build_parser().parse_args(argv)
    try:
        return run(args)
    except (FetchError, OSError) as error:
        log(f"fetch_speech: error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
