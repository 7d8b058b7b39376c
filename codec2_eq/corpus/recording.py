# SPDX-License-Identifier: LGPL-2.1-or-later
"""One utterance: its samples, its frames, its equalised vectors."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.levels import LevelMonitor
from codec2_eq.audio.resample import MAX_RATE_HZ, RATE_HZ, to_8khz
from codec2_eq.audio.stream import stream_audio
from codec2_eq.audio.wav import plain_samples
from codec2_eq.codec2 import HOP
from codec2_eq.corpus.entries import Entry
from codec2_eq.corpus.listing import Origin, Stamp
from codec2_eq.corpus.options import Options
from codec2_eq.equalisers.equaliser import Equaliser
from codec2_eq.equalisers.passes import begin
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract_blocks
from codec2_eq.files import read_error
from codec2_eq.records import RateK
from codec2_eq.stream700c.flattener import equalise_before_floor
from codec2_eq.system import BINARY

SHORT_BYTES = 1 << 20
"""Plain WAV files below it are read at once: a minute."""

Samples = NDArray[np.float32]


@dataclass
class Heard:
    """Facts about a recording that has been read.

    n_samples : at 8 kHz
    warnings : anything odd about it
    stamp : of the file after reading, if known
    """

    n_samples: int = 0
    warnings: list[str] = field(default_factory=list)
    stamp: Stamp | None = None


def frames_of(options: Options, entry: Entry, heard: Heard) -> Iterator[RateK]:
    """Analyse an utterance block by block.

    Raises Codec2EqError, or what a decoder raises, if it cannot be read.
    """
    path = os.path.join(options.base, entry.path)
    samples = _samples(options, path, heard)
    if entry.origin.path:
        samples = _cut(samples, entry.origin, heard)
    samples = _counted(samples, heard)
    return extract_blocks(
        samples,
        frame_ms=options.frame_ms,
        knots=options.knots,
        harmonics=options.before_floor and options.model != "none",
    )


def equalised(
    equaliser: Equaliser, blocks: Iterable[RateK], *, passes: int
) -> Iterator[tuple[RateK, NDArray[np.float32]]]:
    """Yield blocks of an utterance with their equalised vectors; with harmonics before the floor.

    passes : 2 to hear all of it first
    """
    with begin(equaliser, blocks, passes=passes) as (stream, heard):
        for block in heard:
            if block.harmonics_db is None:
                yield block, stream.process(block.vectors)
            else:
                yield block, equalise_before_floor(block, stream)


def status_of(path: str) -> os.stat_result:
    """Return a file's status; raise Codec2EqError for a folder, or if it has none."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise read_error(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise Codec2EqError(path, "no permission to list this folder", "check its mode and owner")
    return found


def require_file(path: str, found: os.stat_result) -> None:
    """Raise Codec2EqError for pipes and devices, which might block or never end."""
    if not stat.S_ISREG(found.st_mode):
        raise Codec2EqError(
            path, "is a pipe or device, not a file", "process it with codec2-eq run"
        )


def failure(error: Exception) -> tuple[str, str]:
    """Return why a recording failed and the remedy, both without its path."""
    if not isinstance(error, Codec2EqError):
        return f"{type(error).__name__}: {error}", ""
    return error.problem or error.subject, error.remedy


def _samples(options: Options, path: str, heard: Heard) -> Iterable[Samples]:
    """Return blocks of a recording; of one that is short and plain, all of it."""
    if options.channel in ("mix", "1") and not options.raw and path.endswith(".wav"):
        plain = _read_plain(path, heard)
        if plain is not None:
            return [plain]
    return _decoded(options, path, heard)


def _decoded(options: Options, path: str, heard: Heard) -> Iterator[Samples]:
    with stream_audio(path, channel=options.channel, raw=options.raw, log=False) as blocks:
        heard.warnings = blocks.warnings
        yield from blocks


def _counted(blocks: Iterable[Samples], heard: Heard) -> Iterator[Samples]:
    for block in blocks:
        heard.n_samples += len(block)
        yield block


def _cut(blocks: Iterable[Samples], origin: Origin, heard: Heard) -> Iterator[Samples]:
    """Yield the samples of a part of a recording, and read no further; warn if it is shorter."""
    skip = round(origin.offset * RATE_HZ)
    left = None if origin.duration is None else round(origin.duration * RATE_HZ)
    for block in blocks:
        skipped = min(skip, len(block))
        skip -= skipped
        part = block[skipped : left if left is None else skipped + left]
        if len(part):
            yield part
        if left is not None:
            left -= len(part)
            if not left:
                return
    if left is not None and left > HOP:  # less may be the rounding of the list's numbers
        heard.warnings.append(
            f"is {left / RATE_HZ:.3f} s shorter than the part that its list states"
        )


def _read_plain(path: str, heard: Heard) -> Samples | None:
    """Read a short and plain WAV file to 8 kHz; None for all else, also if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | BINARY)
        try:
            data = os.read(descriptor, SHORT_BYTES)
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    plain = plain_samples(data) if len(data) == found.st_size else None
    if plain is None or not RATE_HZ <= plain[1] <= MAX_RATE_HZ:
        return None
    samples, rate = plain
    monitor = LevelMonitor(path, rate)
    monitor.check(samples)
    heard.warnings.extend(monitor.warnings())
    heard.stamp = Stamp.of(found)
    return samples.astype(np.float32) if rate == RATE_HZ else to_8khz(samples, rate)
