# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech to 700C streams and back: encoder and decoder, and each of them run once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import C2_MAGIC, FRAME_MS, HOP_MS, RATE_HZ, SAMPLES_PER_FRAME, STAGE_SHAPE
from codec2_eq.codec2.library import BYTES_PER_FRAME, Decoder700C, codebook_700c
from codec2_eq.equalisers.equaliser import Equaliser, equaliser_at
from codec2_eq.equalisers.names import ENCODER_MODEL
from codec2_eq.equalisers.passes import begin
from codec2_eq.equalisers.stream import State
from codec2_eq.errors import Codec2EqError, OneThread
from codec2_eq.extraction import LOOK_AHEAD_MS, Extractor, Fitter, check_knots, extract_blocks
from codec2_eq.records import RateK, whole_groups
from codec2_eq.stream700c._pitch_code import encode_pitch
from codec2_eq.stream700c.flattener import flatten
from codec2_eq.stream700c.frames import (
    HEADER_BYTES,
    TELLING_BYTES,
    cut_header,
    cut_stream,
    header_length,
    pack_frames,
    require_packed,
)
from codec2_eq.stream700c.level import LevelGains, level_correction_db, nearest_steps
from codec2_eq.vq.quantiser import Quantiser, VqStatistics


class FrameEncoder:
    """Rate-K frames to 700C frames, block by block.

    equaliser : a loaded one, or its name or path
    level : "keep" or "auto", see `codec2_eq.stream700c.level`
    knots : "pick" or "fit", see `codec2_eq.Extractor`. By default "keep" and "pick" for `none` and
        `700c`, which then give the bytes of c2enc, and "auto" and "fit" for all others
    codebooks : two (512, 20) arrays in place of Codec 2's own; the decoder needs them too
    frame_ms, harmonics : the frames to give it: 10 ms apart to fit knots to, otherwise 40 ms; and
        whether with `harmonics_db`
    stream : of the equaliser; may be replaced by one that knows the station, before the first frame
    statistics : `VqStatistics` of the frames so far
    dropped_samples : length of the partial last frame that `encode_blocks` left out
    """

    def __init__(
        self,
        equaliser: Equaliser | str | Path = ENCODER_MODEL,
        *,
        level: str | None = None,
        knots: str | None = None,
        codebooks: Sequence[np.ndarray] | None = None,
    ) -> None:
        equaliser = equaliser_at(FRAME_MS, equaliser)
        own = equaliser.codec2s_own
        level = level or ("keep" if own else "auto")
        knots = check_knots(knots or ("pick" if own else "fit"), FRAME_MS)
        self.frame_ms = FRAME_MS if knots == "pick" else HOP_MS
        self.harmonics = not own
        self._step = FRAME_MS // self.frame_ms
        self._held: RateK | None = None  # frames of less than 40 ms
        self._fitter = (
            None if knots == "pick" else Fitter(FRAME_MS, knots, any_level=level == "auto")
        )
        self.equaliser = equaliser
        self.stream = equaliser.stream()
        self._quantiser = Quantiser(_check_codebooks(codebooks))
        self._corrected = not own or (not equaliser.does_nothing and level == "auto")
        look_ahead = 0 if knots == "pick" else LOOK_AHEAD_MS[knots] // FRAME_MS
        self._gains = LevelGains(level, self._step, look_ahead)
        self.statistics = VqStatistics(self._quantiser)
        self.dropped_samples = 0

    def process(self, frames: RateK) -> bytes:
        """Return the bits of the frames that are settled by the next ones, 4 bytes each 40 ms."""
        if frames.frame_ms != self.frame_ms:
            raise Codec2EqError(
                f"frames {frames.frame_ms} ms apart", f"expected {self.frame_ms} ms"
            )
        frames, self._held = whole_groups(self._held, frames, self._step)
        if self.harmonics:
            frames = flatten(frames, self.stream, self._step)
        self._gains.hear(frames.mean_db, frames.voiced)
        return self._encode(self._fitter.process(frames) if self._fitter else frames)

    def flush(self) -> bytes:
        """Return the bits of the frames still held at the end of the input."""
        return self._encode(self._fitter.flush()) if self._fitter else b""

    def _encode(self, frames: RateK) -> bytes:
        if not len(frames):
            return b""
        shapes = frames.vectors - frames.mean_db[:, None]
        if not self.harmonics and not self.equaliser.does_nothing:
            shapes = self.stream.process(frames.vectors)
        pitch_codes = encode_pitch(frames.wo, frames.voiced)
        quantised, indexes = self._quantiser.quantise(shapes)
        energy_db = frames.mean_db + self._gains.settle(len(frames))
        if self._corrected:
            energy_db += level_correction_db(shapes, quantised, pitch_codes)
        self.statistics.add(shapes, quantised, indexes)
        return pack_frames(indexes, nearest_steps(energy_db), pitch_codes)


class StreamEncoder:
    """Speech to 700C frames, chunk by chunk; the same bytes for any chunks.

    Parameters
    ----------
    equaliser, level, knots, codebooks, rate, full_scale
        As for `encode`.

    Examples
    --------
    >>> samples = np.zeros(8000, np.int16)
    >>> encoder = ce.StreamEncoder("none")
    >>> bits = b"".join(encoder.process(block) for block in np.array_split(samples, 7))
    >>> bits + encoder.flush() == ce.encode(samples, model="none")
    True
    """

    def __init__(
        self,
        equaliser: Equaliser | str | Path = ENCODER_MODEL,
        *,
        rate: float = RATE_HZ,
        level: str | None = None,
        knots: str | None = None,
        codebooks: Sequence[np.ndarray] | None = None,
        full_scale: float = 1.0,
    ) -> None:
        self._encoder = FrameEncoder(equaliser, level=level, knots=knots, codebooks=codebooks)
        self._extractor = Extractor(
            rate,
            frame_ms=self._encoder.frame_ms,
            harmonics=self._encoder.harmonics,
            full_scale=full_scale,
            declip=self._encoder.harmonics,
        )
        self.statistics = self._encoder.statistics
        self._alone = OneThread("StreamEncoder")

    def process(self, samples: NDArray[Any]) -> bytes:
        """Return the frames, of 4 bytes, that the next (n,) int16 or float samples settle."""
        with self._alone:
            return self._encoder.process(self._extractor.process(samples))

    def flush(self) -> bytes:
        """Return the frames still held; a partial frame is dropped."""
        with self._alone:
            return self._encoder.process(self._extractor.flush()) + self._encoder.flush()


def encode_blocks(
    blocks: Iterable[NDArray[np.float32]],
    encoder: FrameEncoder,
    *,
    jobs: int = 1,
    passes: int = 1,
    state: State | None = None,
) -> Iterator[bytes]:
    """Encode mono 8 kHz blocks in the scale of int16 as they come; `jobs` threads analyse.

    passes, state : as for `codec2_eq.equalisers.passes.begin`; with 2 passes all is heard first
    """
    n_samples = 0

    def counted() -> Iterator[NDArray[np.float32]]:
        nonlocal n_samples
        for block in blocks:
            n_samples += len(block)
            yield block

    frames = extract_blocks(
        counted(), frame_ms=encoder.frame_ms, harmonics=encoder.harmonics, jobs=jobs
    )
    passages = _passages(frames, FRAME_MS // encoder.frame_ms)
    with begin(encoder.equaliser, passages, passes=passes, state=state) as (stream, heard):
        encoder.stream = stream
        for passage in heard:
            if bits := encoder.process(passage.frames):
                yield bits
    yield encoder.flush()
    encoder.dropped_samples = n_samples % SAMPLES_PER_FRAME


class _Passage(NamedTuple):
    """Whole 40 ms of frames, and the vectors of them that an equaliser hears."""

    vectors: NDArray[np.float32]
    frames: RateK


def _passages(blocks: Iterable[RateK], step: int) -> Iterator[_Passage]:
    held = None
    for block in blocks:
        frames, held = whole_groups(held, block, step)
        yield _Passage(frames.vectors[step - 1 :: step], frames)


def encode(
    samples: NDArray[Any],
    rate: float = RATE_HZ,
    *,
    model: Equaliser | str | Path = ENCODER_MODEL,
    level: str | None = None,
    knots: str | None = None,
    codebooks: Sequence[np.ndarray] | None = None,
    full_scale: float = 1.0,
) -> bytes:
    """Encode a whole recording as headerless 700C frames; a partial last frame is dropped.

    Parameters
    ----------
    samples : ndarray of shape (n,)
        int16, or float of the given full scale.
    rate : float
        Sample rate, Hz.
    model : Equaliser, str or path
        An equaliser, or its name or path.
    level : {"keep", "auto"}, optional
        Of the speech; by default "keep" for `none` and `700c`, otherwise "auto".
    knots : {"pick", "fit"}, optional
        See `Extractor`; by default "pick" for `none` and `700c`, otherwise "fit".
    codebooks : sequence of ndarray, optional
        Two of shape (512, 20), dB, in place of Codec 2's own; the decoder needs them too.
    full_scale : float
        Value of a float sample at full scale.

    Returns
    -------
    bytes
        4 for each frame; a ``.c2`` file has `HEADER` before them.

    Examples
    --------
    >>> samples = np.zeros(8000, np.int16)
    >>> bits = ce.encode(samples, model="700c")  # as c2enc 700C --eq
    >>> len(bits)
    100
    """
    encoder = StreamEncoder(
        model, rate=rate, level=level, knots=knots, codebooks=codebooks, full_scale=full_scale
    )
    return encoder.process(samples) + encoder.flush()


def decode(
    stream: bytes, *, codebooks: Sequence[np.ndarray] | None = None, partial: bool = False
) -> NDArray[np.int16]:
    """Decode a 700C stream, with or without header.

    Parameters
    ----------
    stream : bytes
        The stream.
    codebooks : sequence of ndarray, optional
        Those the stream was encoded with, if not Codec 2's own.
    partial : bool
        Decode what is whole of a cut stream rather than refuse it.

    Returns
    -------
    ndarray of int16, shape (n,)
        Speech at 8 kHz.

    Raises
    ------
    Codec2EqError
        If the stream is of another mode, or cut.

    Examples
    --------
    >>> bits = ce.encode(np.zeros(8000, np.int16), model="none")
    >>> ce.decode(bits).shape
    (8000,)
    """
    decoder = StreamDecoder(codebooks=codebooks)
    speech = decoder.process(stream)
    left_over = decoder.flush()
    if left_over and not partial:
        raise cut_stream("stream", left_over)
    return speech


class StreamDecoder:
    """700C stream to speech, in any pieces; a header at the start is checked and skipped.

    Parameters
    ----------
    codebooks : sequence of ndarray, optional
        Those the stream was encoded with, if not Codec 2's own.
    header : bool, optional
        Whether there must be one; by default it is recognised, and `has_header` says so.
    name : str
        Of the stream, for errors.

    Examples
    --------
    >>> bits = ce.encode(np.zeros(8000, np.int16), model="none")
    >>> decoder = ce.StreamDecoder()
    >>> speech = [decoder.process(bits[:10]), decoder.process(bits[10:])]
    >>> sum(map(len, speech)), decoder.flush()
    (8000, 0)
    """

    def __init__(
        self,
        *,
        codebooks: Sequence[np.ndarray] | None = None,
        header: bool | None = None,
        name: str = "stream",
    ) -> None:
        checked = None if codebooks is None else _check_codebooks(codebooks)
        self._decoder = Decoder700C(checked)
        self._header = header
        self._name = name
        self._held = b""
        self._start = b""  # of the frames, to see whether they are any
        self._begun = header is False
        self.has_header = False
        self._alone = OneThread("StreamDecoder")

    def process(self, data: bytes) -> NDArray[np.int16]:
        """Return the speech of the frames that the next bytes complete, int16 at 8 kHz.

        Raises Codec2EqError for a stream of another mode or kind, and what is not bytes.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise Codec2EqError(
                f"stream of type {type(data).__name__}", "bytes expected", "read the file first"
            )
        with self._alone:
            return self._process(data)

    def _process(self, data: bytes) -> NDArray[np.int16]:
        if not self._begun:
            data = self._held + data
            if C2_MAGIC.startswith(data[: len(C2_MAGIC)]) and len(data) < HEADER_BYTES:
                self._held = data
                return np.zeros(0, dtype=np.int16)
            n_header = header_length(data, required=bool(self._header), name=self._name)
            self._held, data = b"", data[n_header:]
            self.has_header = n_header > 0
            self._begun = True
        if len(self._start) < TELLING_BYTES:
            self._start += data[:TELLING_BYTES]
            if len(self._start) >= TELLING_BYTES:
                require_packed(self._start[:TELLING_BYTES], self._name)
        held = self._held + data
        whole = len(held) - len(held) % BYTES_PER_FRAME
        self._held = held[whole:]
        return self._decoder.decode(held[:whole])

    def flush(self) -> int:
        """End the stream; return how many bytes of a partial last frame are left over.

        Raises Codec2EqError if it ended within its header.
        """
        if not self._begun:
            if self._header or len(self._held) >= len(C2_MAGIC):
                raise cut_header(self._name)
            self._begun = True
        if len(self._start) < TELLING_BYTES:
            require_packed(self._start, self._name)
        return len(self._held)


def _check_codebooks(codebooks: Sequence[np.ndarray] | None) -> Sequence[np.ndarray]:
    if codebooks is None:
        return codebook_700c()
    shapes = [np.shape(c) for c in codebooks]
    if shapes != [STAGE_SHAPE] * 2:
        raise Codec2EqError(
            f"codebooks of shapes {shapes}",
            "700C has bits for two stages of (512, 20)",
            "train them with --sizes 512,512",
        )
    return codebooks
