# SPDX-License-Identifier: LGPL-2.1-or-later
"""Describe files by their content: vectors, networks, states, codebooks, streams, audio."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from codec2_eq.codec2 import C2_MAGIC, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import (
    OutputFile,
    PathLike,
    display_name,
    is_pipe,
    open_input,
    read_bytes,
)

Facts = dict[str, Any]

ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")

MAX_PIPED_BYTES = 1 << 30
"""Most that is read of a pipe: it may have no end."""

_READ_BYTES = 1 << 20

MAX_CODEBOOK_ENTRIES = 65536
"""Zero-mean rows up to this many, a power of two of them, are taken for a codebook."""


def describe_file(path: PathLike, *, format: str | None = None, raw: bool = False) -> Facts:
    """Return the facts about a file by name; "kind" comes first.

    path : `-` is stdin; a pipe is read to its end first, which must come within MAX_PIPED_BYTES
    format : of vectors, if the suffix does not determine it
    raw : headerless 16-bit mono 8 kHz audio, whatever it looks like
    Raises Codec2EqError if the file cannot be read or is none of the kinds.
    """
    if os.fspath(path) == "-" or is_pipe(path):
        with _spooled(path) as name:
            try:
                return _describe(name, format, raw)
            except Codec2EqError as error:
                raise error.of(display_name(path)) from error
    return _describe(os.fspath(path), format, raw)


@contextlib.contextmanager
def _spooled(path: PathLike) -> Iterator[str]:
    """Copy a pipe to a temporary file, and yield that file's name."""
    name = display_name(path)
    n_bytes = 0
    with (
        open_input(path) as handle,
        tempfile.NamedTemporaryFile(prefix="codec2_eq-") as spool,
        OutputFile(spool.fileno(), name=spool.name, closefd=False) as copy,
    ):
        while data := read_bytes(handle, name, _READ_BYTES):
            n_bytes += len(data)
            if n_bytes > MAX_PIPED_BYTES:
                raise Codec2EqError(
                    name,
                    f"does not end within {MAX_PIPED_BYTES:,} bytes, the most read of a pipe",
                    "store it in a file, and name that",
                )
            copy.write(data)
        yield spool.name


def _describe_corpus(name: str) -> Facts:
    from codec2_eq.corpus import open_corpus

    corpus = open_corpus(name)
    options = corpus.options
    facts: Facts = {
        "kind": "corpus",
        "utterances": len(corpus),
        "failures": len(corpus.failures),
        "warnings": sum(utterance.warning is not None for utterance in corpus),
        "hours": round(sum(utterance.duration for utterance in corpus) / 3600, 3),
        "frames": corpus.n_frames,
        "bands": K,
        "frame_ms": options.frame_ms,
        "knots": options.knots,
        "model": options.model,
        "passes": options.passes,
        "layout": options.layout,
        "format": options.format,
        "records": options.records,
        "version": options.version,
    }
    speakers = {utterance.speaker for utterance in corpus} - {None}
    if speakers:
        facts["speakers"] = len(speakers)
    if options.model_sha256:
        facts["model_sha256"] = options.model_sha256
    return facts


def _describe(name: str, format: str | None, raw: bool) -> Facts:
    if raw:
        return _describe_audio(name, raw=True)
    if os.path.isdir(name):
        return _describe_corpus(name)
    with open_input(name) as handle:
        head = handle.read(16)
    suffix = os.path.splitext(name)[1].lower()
    if head[:4] in ZIP_MAGICS and suffix not in (".npy", ".f32"):
        members = _members(name)
        if "meta.npy" in members:
            return _describe_state(name) or _describe_network(name)
        if "config.json" in members:
            return {"kind": "Keras model", "remedy": f"pass it to -m: codec2-eq run -m {name}"}
        return _describe_vectors(name, "npz")
    if suffix == ".c2" or head.startswith(C2_MAGIC):
        from codec2_eq.stream700c.frames import describe_stream

        return describe_stream(name)
    if format or suffix in (".f32", ".npy", ".npz", ".mlfeat"):
        return _describe_vectors(name, format)
    if head.startswith(b"\x93NUMPY"):
        return _describe_vectors(name, "npy")
    return _describe_audio(name)


def _members(name: str) -> set[str]:
    try:
        with zipfile.ZipFile(name) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise Codec2EqError(
            name,
            f"starts like a ZIP archive but is not one ({error}): cut or damaged",
            "make or fetch it again",
        ) from error


def _describe_state(name: str) -> Facts | None:
    """Return the facts of what an equaliser has learnt, None if it is something else."""
    from codec2_eq.equalisers.archive import NoArchive, read_archive
    from codec2_eq.equalisers.state_file import FILTER_PREFIX, FORMAT

    try:
        meta, arrays = read_archive(name)
    except NoArchive:
        return None
    if meta.get("format") != FORMAT:
        return None
    of_filter = any(key.startswith(FILTER_PREFIX) for key in arrays)
    return {
        "kind": f"state of {'a filter' if of_filter else 'an equaliser'}, for --load-state",
        **{key: meta[key] for key in ("model", "frame_ms", "sha256") if meta.get(key)},
    }


def _describe_network(name: str) -> Facts:
    from codec2_eq.equalisers.network import load_network

    network = load_network(name)
    return {
        "kind": "network",
        "name": network.name,
        "layers": ", ".join(layer.kind for layer in network.layers),
        "inputs": network.inputs,
        "outputs": network.outputs,
        "frame_ms": network.frame_ms,
        "sha256": network.sha256,
        **{key: network.card[key] for key in ("does", "data", "figures") if key in network.card},
    }


def _describe_vectors(name: str, format: str | None) -> Facts:
    from codec2_eq.vectors.reader import VectorReader

    n_frames, total, squares = 0, np.zeros(K), 0.0
    low, high, mean_off = np.inf, -np.inf, 0.0
    reader = VectorReader(name, format=format)
    stated = {"frame_ms": reader.frame_ms, "model": reader.model}
    once = {key: value for key, value in stated.items() if value is not None}
    for record in reader:
        rows = record.vectors.astype(np.float64)
        row_means = rows.mean(axis=1)
        n_frames += len(rows)
        total += rows.sum(axis=0)
        squares += float(((rows - row_means[:, None]) ** 2).sum())
        mean_off = max(mean_off, float(np.abs(row_means).max()))
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
    zero_mean = mean_off < 0.01
    is_codebook = zero_mean and 1 < n_frames <= MAX_CODEBOOK_ENTRIES and n_frames.bit_count() == 1
    facts: Facts = {
        "kind": "codebook, or vectors without their mean"
        if is_codebook
        else "vectors without their mean"
        if n_frames and zero_mean
        else "vectors",
        "frames": n_frames,
        "bands": K,
        **once,
    }
    if "frame_ms" in facts:
        facts["duration_s"] = n_frames * facts["frame_ms"] / 1000
    if n_frames:
        facts["lowest_db"], facts["highest_db"] = low, high
        facts["spread_db"] = float(np.sqrt(squares / (n_frames * K)))  # about each row's mean
        facts["mean_vector_db"] = (total / n_frames).tolist()
    return facts


def _describe_audio(name: str, *, raw: bool = False) -> Facts:
    from codec2_eq.audio.stream import stream_audio

    with stream_audio(name, raw=raw) as audio:
        facts = {
            "kind": "audio",
            "rate_hz": audio.rate,
            "channels": audio.channels,
            "duration_s": audio.duration_s,
        }
    return facts
