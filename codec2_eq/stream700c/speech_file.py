# SPDX-License-Identifier: LGPL-2.1-or-later
"""700C streams decoded to files of speech."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.stream import RAW_SUFFIXES
from codec2_eq.audio.writer import open_audio_output
from codec2_eq.codec2 import RATE_HZ, SAMPLES_PER_FRAME
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, display_name, is_pipe, is_stdout, open_input
from codec2_eq.stream700c.codec import StreamDecoder
from codec2_eq.stream700c.frames import cut_stream

_READ_BYTES = 1 << 16


def decode_file(
    path: PathLike,
    output: PathLike,
    *,
    codebooks: Sequence[np.ndarray] | None = None,
    partial: bool = False,
    force: bool = False,
) -> tuple[int, int]:
    """Decode a stream, or stdin (`-`), to a .wav file, or to raw 16-bit samples (`-` is stdout).

    A name that ends in .c2 must have a header; in any other stream one is recognised. A header
    without frames is what `encode` makes of less than a frame of speech: no error.
    codebooks, partial : as for `decode`;  force : overwrite
    Returns the number of frames, and of bytes of a partial last one that were left out.
    Raises Codec2EqError if the stream is empty, cut, of another mode, or no .c2 file.
    """
    name = display_name(path)
    decoder = StreamDecoder(
        codebooks=codebooks, name=name, header=True if name.lower().endswith(".c2") else None
    )
    n_samples = 0
    with open_input(path) as source, _open_speech(output, force) as write:
        while data := source.read1(_READ_BYTES):
            speech = decoder.process(data)
            write(speech)
            n_samples += len(speech)
        left_over = decoder.flush()
        if left_over and not partial:
            raise cut_stream(name, left_over)
        if not n_samples and not decoder.has_header:
            raise Codec2EqError(name, "holds no frame", "is it a 700C stream?")
    return n_samples // SAMPLES_PER_FRAME, left_over


@contextmanager
def _open_speech(path: PathLike, force: bool) -> Iterator[Callable[[NDArray[np.int16]], object]]:
    """Open a file for 8 kHz mono speech: .wav, or raw for stdout and the suffixes of raw audio."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in (".wav", *RAW_SUFFIXES) and not (is_stdout(path) or is_pipe(path)):
        raise Codec2EqError(
            os.fspath(path),
            f"suffix '{suffix}' names no speech format to write",
            f"use .wav, or {', '.join(RAW_SUFFIXES)} for raw 16-bit samples",
        )
    raw = suffix != ".wav"
    with open_audio_output(
        path, rate=RATE_HZ, channels=1, sample_format="s16", raw=raw, force=force
    ) as writer:
        yield writer.write
