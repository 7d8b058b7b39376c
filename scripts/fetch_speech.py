#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fetch real speech recordings from Debian packages, without root.

    python scripts/fetch_speech.py                      # everything, into .speech/
    python scripts/fetch_speech.py --use classic        # only what the tests need
    python scripts/fetch_speech.py --tools              # only c2enc, c2dec and their library

The recordings belong to their authors and have licences of their own (GPL, CC-BY-SA, CC-BY,
BSD-like, ...), so they are fetched by this script and never kept in the repository. Each package
is downloaded with ``apt-get download``, unpacked with ``dpkg -x`` and converted to mono int16 WAV
at its native rate. The packages are in ``fetch_speech.toml`` beside this script; the lines of
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
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile as sf
from debian_packages import Apt, FetchError, deb_field, log, unpack

USES = ("train", "validate", "classic", "parity")
RESERVED = "reserved"
# When two files hold the same samples, the copy whose use comes first here stays.
PRECEDENCE = (RESERVED, "classic", "validate", "parity", "train")

MIN_RATE_HZ = 8000  # below this there is no full telephone band to learn from
ALS_RATE_HZ = 11025  # Drascula: unsigned 8-bit, no header that names the rate
ALS_SKIP_BYTES = 32  # Drascula: opaque bytes before the samples
CODEC2_RATE_HZ = 8000  # Codec 2's headerless .raw files
GSM_RATE_HZ = 8000  # GSM 06.10 knows no other
GSM_FRAME_BYTES = 33  # GSM 06.10 as files have it: 260 bits and a 4-bit signature
GSM_FRAME_SAMPLES = 160


# ---------------------------------------------------------------------------------------------
# The table of packages
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the files of a package that match a pattern are; fetch_speech.toml explains."""

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

TOOLS_PACKAGE = "codec2"
TOOLS_LIBRARY = re.compile(r"\blibcodec2-[\w.]+")
TOOLS = ("c2enc", "c2dec")


# ---------------------------------------------------------------------------------------------
# What a file is
# ---------------------------------------------------------------------------------------------


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


# ---------------------------------------------------------------------------------------------
# Conversion
# ---------------------------------------------------------------------------------------------


def decode(path: Path) -> tuple[np.ndarray, int]:
    """Read a recording of any kind found in the packages.

    Returns (n,) int16 mono samples and the native rate in Hz.
    Raises FetchError if the file cannot be decoded.
    """
    suffix = path.suffix.lower()
    if suffix == ".als":
        raw = np.fromfile(path, dtype=np.uint8)[ALS_SKIP_BYTES:]
        return (raw.astype(np.int16) - 128) * np.int16(256), ALS_RATE_HZ
    if suffix == ".raw":
        whole = path.stat().st_size // 2
        return np.fromfile(path, dtype="<i2", count=whole).astype(np.int16), CODEC2_RATE_HZ
    headerless: dict[str, Any] = {}
    frames = -1
    if suffix == ".gsm":
        # libsndfile cannot tell the length of a headerless GSM file.
        headerless = {"samplerate": GSM_RATE_HZ, "channels": 1}
        headerless |= {"format": "RAW", "subtype": "GSM610"}
        frames = path.stat().st_size // GSM_FRAME_BYTES * GSM_FRAME_SAMPLES
    try:
        with sf.SoundFile(path, **headerless) as audio:
            lossy = audio.subtype in ("VORBIS", "OPUS") or audio.channels > 1
            samples = audio.read(frames, "float32" if lossy else "int16", always_2d=True)
            rate_hz = audio.samplerate
    except (sf.SoundFileError, ValueError) as error:
        raise FetchError(f"{path.name}: cannot be decoded ({error})") from error
    return (to_int16(samples.mean(axis=1)) if lossy else samples[:, 0]), rate_hz


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round float samples (full scale 1.0) to int16; beyond full scale they are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def hash_samples(samples: np.ndarray) -> str:
    """Give the sha256 of int16 samples, whatever file they came in."""
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


@dataclasses.dataclass
class Converted:
    """The records of one package, and why files were left out."""

    records: list[dict[str, object]]
    left_out: Counter[str]


def convert_package(source: Source, version: str, root: Path, out: Path) -> Converted:
    """Convert all speech under `root` (an unpacked package) to WAV files under `out`.

    Reserved files are decoded for their hash alone, so that a copy of one under another name is
    recognised; their records have an empty path.
    """
    labelled = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        label = classify(source, path.relative_to(root).as_posix())
        if label is not None:
            labelled.append((PRECEDENCE.index(label.use), path, label))
    labelled.sort(key=lambda item: item[:2])

    folder = _common_folder([path for _, path, _ in labelled], root)
    result = Converted([], Counter())
    seen: set[str] = set()
    for _, path, label in labelled:
        try:
            samples, rate_hz = decode(path)
        except FetchError as error:
            if not result.left_out["undecodable"]:
                log(f"  {error}")
            result.left_out["undecodable"] += 1
            continue
        reason = _why_left_out(samples, rate_hz, seen)
        if reason:
            result.left_out[reason] += 1
            continue
        sha256 = hash_samples(samples)
        seen.add(sha256)
        target = out / path.relative_to(folder).with_suffix(".wav")
        if label.use == RESERVED:
            result.left_out[RESERVED] += 1
        else:
            _write_wav(target, samples, rate_hz)
        result.records.append(
            {
                "path": "" if label.use == RESERVED else target.relative_to(out).as_posix(),
                "package": source.package,
                "version": version,
                "source": path.relative_to(root).as_posix(),
                **dataclasses.asdict(label),
                "duration": round(len(samples) / rate_hz, 4),
                "rate": rate_hz,
                "sha256": sha256,
                "text": _text_beside(path, label.language),
            }
        )
    return result


def _text_beside(path: Path, language: str) -> str:
    """First line of frog.txt for frog_desc.ogg, as the stamps of Tux Paint have it: English."""
    file = path.with_name(path.stem.removesuffix("_desc") + ".txt")
    if language != "en" or not path.stem.endswith("_desc") or not file.is_file():
        return ""
    return file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()


def _why_left_out(samples: np.ndarray, rate_hz: int, seen: set[str]) -> str:
    if rate_hz < MIN_RATE_HZ:
        return f"below {MIN_RATE_HZ} Hz"
    if not samples.any():
        return "silent"
    return "copies" if hash_samples(samples) in seen else ""


def _common_folder(paths: Sequence[Path], root: Path) -> Path:
    """Find the deepest folder that holds all the paths, so that the copies get short names."""
    return Path(os.path.commonpath([path.parent for path in paths])) if paths else root


def _write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    if path.exists():
        raise FetchError(f"{path}: two files of the package would get this name")
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate_hz, subtype="PCM_16")


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
            log(f"{head}: there already")
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
