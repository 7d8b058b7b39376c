# SPDX-License-Identifier: LGPL-2.1-or-later
"""First passes by speaker: what an equaliser learns from all recordings of one voice.

Which recordings are heard, and how much of each, depends on their names alone. The result is kept
next to the plan and not learnt again: recordings added to a speaker later start from it. The frames
of recordings heard in full are kept until the run ends, so that the second pass need not analyse
them again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import K
from codec2_eq.corpus.digests import sealed, unsealed
from codec2_eq.corpus.entries import Entry
from codec2_eq.corpus.listing import Listing, Origin, Stamp
from codec2_eq.corpus.lists import numbered_lines
from codec2_eq.corpus.options import Options
from codec2_eq.corpus.plan import Task
from codec2_eq.corpus.recording import Heard, frames_of, require_file, status_of
from codec2_eq.corpus.store import Store, json_line
from codec2_eq.equalisers.equaliser import Equaliser
from codec2_eq.equalisers.hearing import Knowledge
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import RateK

FOLDER = "folder"
"""Given in place of a file if each folder is a speaker."""

POOL_S = 60.0
"""Active speech that a first pass hears of a speaker [s]; more teaches next to nothing."""

LEAST_SHARE_S = 2.0
"""Active speech that it hears of each recording at least, where there is as much [s]."""

MOST_POOLED = 512
"""Recordings of a speaker that are looked at."""

ACTIVE_DB = 20.0
"""A frame is active within this of the 95th percentile of its recording's levels."""

WHOLE_BYTES = 5 << 20
"""Recordings up to this size are analysed in full, for the second pass as well."""

_ARRAYS = ("vectors", "mean_db", "f0_hz", "voiced", "wo", "n_harm")


# Who speaks


def kind_of(source: str) -> str:
    """Return the kind of source: the file's name may change as a corpus grows."""
    return FOLDER if source == FOLDER else "file"


def with_speakers(listing: Listing, source: str) -> tuple[Listing, int]:
    """Return a listing whose origins name the speakers, and how many lines name no recording.

    source : `folder`, or a file with lines ``utterance-or-path speaker``
    """
    if source == FOLDER:
        origins = {
            name: _origin(listing, name)._replace(speaker=os.path.dirname(name))
            for name in listing.stamps
        }
        return listing._replace(origins=origins), 0
    lines = _read_speakers(source)
    origins = {}
    used = set()
    for name in listing.stamps:
        origin = _origin(listing, name)
        path = os.path.join(listing.base, origin.path or name)
        for key in (origin.id, name, path):
            if key is not None and key in lines:
                number, speaker = lines[key]
                used.add(number)
                origin = origin._replace(speaker=speaker)
                break
        origins[name] = origin
    unused = {number for number, _ in lines.values()} - used
    return listing._replace(origins=origins), len(unused)


def _origin(listing: Listing, name: str) -> Origin:
    return listing.origins.get(name, Origin())


def _read_speakers(path: str) -> dict[str, tuple[int, str]]:
    """Return the line's number and speaker by id, name or path; a path also as it is in full."""
    lines: dict[str, tuple[int, str]] = {}
    for number, (where, line) in enumerate(numbered_lines(path)):
        words = line.rsplit(maxsplit=1)
        if len(words) != 2:
            raise Codec2EqError(where, "names no speaker", "write: UTTERANCE-OR-PATH SPEAKER")
        key, speaker = words[0].strip(), words[1]
        for name in {key, os.path.abspath(key)}:
            if lines.setdefault(name, (number, speaker))[1] != speaker:
                raise Codec2EqError(
                    where, f"{key} had another speaker in an earlier line", "remove one"
                )
    return lines


# First passes


def first_passes(store: Store, tasks: Iterable[Task]) -> tuple[list[tuple[str, list[Entry]]], int]:
    """Return the speakers that are to be heard, with their recordings.

    Also how many recordings have been added to speakers who were heard without them.
    """
    by_speaker: dict[str, list[Entry]] = defaultdict(list)
    for task in tasks:
        for entry in task.entries:
            if entry.origin.speaker is not None:
                by_speaker[entry.origin.speaker].append(entry)
    to_hear = []
    late = 0
    for speaker, entries in sorted(by_speaker.items()):
        known = _read_first_pass(store, speaker)
        if known is None:
            to_hear.append((speaker, entries))
        else:
            late += len(entries) - len({entry.name for entry in entries} & known["names"])
    return to_hear, late


def hear(
    store: Store,
    options: Options,
    equaliser: Equaliser,
    speaker: str,
    entries: Sequence[Entry],
) -> None:
    """Make the first pass over a speaker's recordings; keep what it learns.

    entries : all of the speaker
    """
    names = [entry.name for entry in entries]
    entries = sorted(entries, key=lambda entry: _hash(entry.name))[:MOST_POOLED]
    pool = [np.empty((0, K), np.float32)]
    left_s = POOL_S
    kept: list[tuple[Entry, Stamp, Heard, RateK]] = []
    for index, entry in enumerate(entries):
        share_s = max(left_s / (len(entries) - index), LEAST_SHARE_S)
        heard = Heard()
        try:
            path = os.path.join(options.base, entry.path)
            found = status_of(path)
            require_file(path, found)
            stamp = Stamp.of(found)
            frames = _hear_one(options, entry, heard, stamp.size <= WHOLE_BYTES)
        except Exception:  # decoders may raise anything; the second pass reports it
            continue
        if frames is None:
            continue
        n_frames, active_s = _share(frames, share_s)
        pool.append(frames.vectors[:n_frames])
        left_s -= active_s
        if stamp.size <= WHOLE_BYTES:
            kept.append((entry, stamp, heard, frames))
        if left_s <= 0:
            break
    if kept:
        store.write(_frames_path(store, speaker), _pack(kept), durable=False)
    learnt = equaliser.learn(np.concatenate(pool))
    state = {name: _as_json(value) for name, value in learnt.state.items()}
    curve = None if learnt.curve is None else _as_json(learnt.curve)
    fields = {"speaker": speaker, "names": sorted(names), "state": state, "curve": curve}
    store.write(_path(store, speaker, ".json"), sealed(json_line(fields)))


def _hear_one(options: Options, entry: Entry, heard: Heard, whole: bool) -> RateK | None:
    """Return frames of an utterance: all, or as many as may be needed."""
    blocks = []
    n_frames = 0
    for block in frames_of(options, entry, heard):
        blocks.append(block)
        n_frames += len(block)
        if not whole and n_frames * options.frame_ms > 4000 * POOL_S:
            break
    return RateK.join(blocks) if blocks else None


def _share(frames: RateK, share_s: float) -> tuple[int, float]:
    """Return how many frames hold share_s of active speech, and how much they hold."""
    if not len(frames):
        return 0, 0.0
    level = frames.mean_db
    loud = np.sort(level)[int(0.95 * (len(level) - 1))]  # np.percentile takes ten times as long
    active = np.cumsum(level > loud - ACTIVE_DB) * frames.frame_ms / 1000
    n_frames = int(np.searchsorted(active, share_s)) + 1
    return min(n_frames, len(frames)), float(active[min(n_frames, len(frames)) - 1])


def _pack(kept: Sequence[tuple[Entry, Stamp, Heard, RateK]]) -> bytes:
    index = [
        [entry.name, *stamp, heard.n_samples, heard.warnings, len(frames)]
        for entry, stamp, heard, frames in kept
    ]
    joined = RateK.join([frames for *_, frames in kept])
    data = io.BytesIO()
    arrays = {name: getattr(joined, name) for name in _ARRAYS}
    np.savez(data, index=np.array(json.dumps(index)), freqs_hz=joined.freqs_hz, **arrays)
    return data.getvalue()


# Second passes


def knowing(store: Store, equaliser: Equaliser, speaker: str) -> Equaliser:
    """Return an equaliser that knows what a speaker's first pass has taught, if there was one."""
    known = _read_first_pass(store, speaker)
    return equaliser if known is None else equaliser.knowing(known["learnt"])


def _as_json(array: NDArray[Any]) -> list[Any]:
    return [array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes().hex()]


def _from_json(value: list[Any]) -> NDArray[Any]:
    dtype, shape, text = value
    if len(dtype) != 3:  # NumPy parses others, and may raise anything
        raise ValueError("no type of numbers")
    return np.frombuffer(bytes.fromhex(text), dtype).reshape(shape)


@functools.lru_cache(maxsize=64)
def _known(path: str, data: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(unsealed(data))
        state = {name: _from_json(value) for name, value in fields["state"].items()}
        curve = None if fields["curve"] is None else _from_json(fields["curve"])
        return {"names": frozenset(fields["names"]), "learnt": Knowledge(state, curve)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # cut: heard again
        return None


def _read_first_pass(store: Store, speaker: str) -> dict[str, Any] | None:
    path = _path(store, speaker, ".json")
    data = store.read(path)
    return None if data is None else _known(path, data)


def frames_kept(
    store: Store, options: Options, entry: Entry, stamp: Stamp
) -> tuple[Heard, RateK] | None:
    """Return the frames of an utterance that its speaker's first pass has kept, if it has."""
    if entry.origin.speaker is None:
        return None
    path = _frames_path(store, entry.origin.speaker)
    try:
        changed_ns = os.stat(path).st_mtime_ns
    except OSError:
        return None
    kept = _load_kept(path, changed_ns).get(entry.name)
    if kept is None or kept[0] != stamp:
        return None
    _, heard, arrays, freqs_hz = kept
    return heard, RateK(**arrays, freqs_hz=freqs_hz, frame_ms=options.frame_ms)


@functools.lru_cache(maxsize=16)
def _load_kept(path: str, changed_ns: int) -> dict[str, tuple[Any, ...]]:
    found = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*_ARRAYS, "freqs_hz")}
            index = json.loads(str(file["index"]))
        start = 0
        for name, size, mtime_ns, n_samples, warnings, n_frames in index:
            rows = {key: arrays[key][start : start + n_frames] for key in _ARRAYS}
            heard = Heard(n_samples, warnings)
            found[name] = (Stamp(size, mtime_ns), heard, rows, arrays["freqs_hz"])
            start += n_frames
    except (
        *(OSError, ValueError, KeyError, EOFError, TypeError, RecursionError),
        *(zipfile.BadZipFile, zlib.error),
    ):  # they are analysed again
        return {}
    return found


def forget_frames(store: Store) -> None:
    """Remove the frames that were kept for the second pass."""
    folder = os.path.join(store.hidden, "speakers")
    for name in os.listdir(folder):
        if name.endswith(".npz"):
            os.unlink(os.path.join(folder, name))


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _path(store: Store, speaker: str, suffix: str) -> str:
    return os.path.join(store.hidden, "speakers", _hash(speaker)[:32] + suffix)


def _frames_path(store: Store, speaker: str) -> str:
    return _path(store, speaker, ".npz")
