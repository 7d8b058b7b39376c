# SPDX-License-Identifier: LGPL-2.1-or-later
"""The only access to the installed libcodec2: its tables, its encoder as an oracle, its decoder.

Tables are read out of the library that the package pycodec2 carries, so none is copied here.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import MAX_AMP, SAMPLES_PER_FRAME, STAGE_SHAPE, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.system import flush_c_streams, open_descriptors

MODE_700C = 700
"""pycodec2's name for the 700C mode."""

BYTES_PER_FRAME = 4
"""28 bits and 4 zero bits."""

_NLP_FIR_TAPS = 48
"""Taps of the low pass of the pitch estimator; codec2 NLP_NTAP."""

_FEATURE_FLOATS = 1 + K + K + MAX_AMP
_MODEL_RECORD = np.dtype(
    [
        ("wo", "<f4"),
        ("n_harm", "<i4"),
        ("amplitudes", "<f4", MAX_AMP + 1),
        ("phases", "<f4", MAX_AMP + 1),
        ("voiced", "<i4"),
    ]
)

_MISSING = (
    "libcodec2",
    "not found in pycodec2 nor on this system, needed for its codebooks and its decoder",
    "pip install pycodec2",
)

# The codebooks are globals of the library: while one thread has its own loaded, none may read.
_tables_lock = threading.RLock()


class _Codebook(ctypes.Structure):
    """One entry of libcodec2's lists of codebooks, which end with k == 0."""

    _fields_ = [
        ("k", ctypes.c_int),
        ("log2m", ctypes.c_int),
        ("m", ctypes.c_int),
        ("cb", ctypes.POINTER(ctypes.c_float)),
    ]


@dataclass(frozen=True, eq=False)
class OracleFrames:
    """What libcodec2's own 700C encoder computed, one row per 40 ms.

    mean_db : (n,) float32, mean of the rate-K vector
    shapes : (n, 20) float32 dB, mean removed and, with `eq`, equalised: what the VQ was given
    quantised : (n, 20) float32 dB, the vector the VQ chose
    wo : (n,) float32 rad/sample;  n_harm : (n,) int32;  voiced : (n,) bool
    amplitudes : (n, 161) float32, linear; column m is harmonic m, 0 outside 1..n_harm
    quantised_amplitudes : (n, 160) float32, `quantised` resampled to harmonics 0..159; only
        1..n_harm are defined
    bits : the stream, 4 bytes a frame;  variance : what ``c2enc --var`` prints, dB^2
    """

    mean_db: NDArray[np.float32]
    shapes: NDArray[np.float32]
    quantised: NDArray[np.float32]
    wo: NDArray[np.float32]
    n_harm: NDArray[np.int32]
    voiced: NDArray[np.bool_]
    amplitudes: NDArray[np.float32]
    quantised_amplitudes: NDArray[np.float32]
    bits: bytes
    variance: float


def codebook_700c() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return both stages of Codec 2's 700C vector quantiser, each (512, 20) float32 in dB."""
    stages = _read_tables("newamp1vq_cb")
    if [s.shape for s in stages] != [STAGE_SHAPE] * 2:
        raise Codec2EqError(
            "libcodec2",
            f"700C codebooks of shapes {[s.shape for s in stages]}, expected two of (512, 20)",
            "install pycodec2 4.1 or later",
        )
    return stages[0].copy(), stages[1].copy()


def energy_codebook() -> NDArray[np.float32]:
    """Return the levels of 700C's energy quantiser, (16,) float32 in dB, ascending."""
    return _read_tables("newamp1_energy_cb")[0][:, 0].copy()


def nlp_fir() -> NDArray[np.float32]:
    """Return the low pass of the pitch estimator, (48,) float32."""
    try:
        taps = (ctypes.c_float * _NLP_FIR_TAPS).in_dll(library(), "nlp_fir")
    except ValueError as exc:
        raise _no_symbol("nlp_fir") from exc
    return np.array(taps, dtype=np.float32)


def oracle_mlfeat(
    samples: NDArray[np.int16], *, eq: bool = False, codebooks: Sequence[np.ndarray] | None = None
) -> OracleFrames:
    """Encode with libcodec2's own 700C encoder and return its intermediate values.

    samples : (n,) int16 at 8 kHz; a partial last frame is dropped
    eq : switch on Codec 2's front equaliser, as ``c2enc --eq``
    codebooks : two (512, 20) arrays in place of its own, as ``c2enc --loadcb``
    Raises Codec2EqError if pycodec2 is missing.
    """
    import tempfile

    samples = np.ascontiguousarray(samples, dtype=np.int16)
    if samples.ndim != 1:
        raise Codec2EqError(f"samples of shape {samples.shape}", "expected one channel")
    n_frames = len(samples) // SAMPLES_PER_FRAME
    frames = samples[: n_frames * SAMPLES_PER_FRAME].reshape(n_frames, SAMPLES_PER_FRAME)
    with tempfile.TemporaryDirectory() as folder, _tables_lock, _loaded(codebooks):
        codec = _open_codec()
        codec.eq_700c(int(eq))
        names = [Path(folder, "features"), Path(folder, "models")]
        codec.open_mlfeat(*(bytearray(os.fsencode(name) + b"\0") for name in names))
        bits = b"".join(codec.encode(frame) for frame in frames)
        variance = float(codec.get_var())
        _close_streams(folder)
        features = np.fromfile(names[0], dtype="<f4").reshape(n_frames, _FEATURE_FLOATS)
        models = np.fromfile(names[1], dtype=_MODEL_RECORD)
    return _parse_oracle(features, models, bits, variance)


class Decoder700C:
    """libcodec2's decoder of 700C frames, with its state; frames may come in any pieces.

    Unvoiced frames get random phases from a generator that all decoders of a process share, so
    two decodes of one stream sound alike but differ in their samples.

    codebooks : two (512, 20) arrays in place of libcodec2's own (the stream's encoder used them)
    """

    def __init__(self, codebooks: Sequence[np.ndarray] | None = None):
        self._codec = _open_codec()
        self._codebooks = codebooks

    def decode(self, frames: bytes) -> NDArray[np.int16]:
        """Return the speech of whole frames: 320 samples for each 4 bytes, int16 at 8 kHz."""
        if len(frames) % BYTES_PER_FRAME:
            raise Codec2EqError(
                f"{len(frames)} bytes",
                f"700C frames have {BYTES_PER_FRAME} bytes each",
                "give whole frames",
            )
        if not frames:
            return np.zeros(0, dtype=np.int16)
        with _tables_lock, _loaded(self._codebooks):
            return np.concatenate(
                [
                    self._codec.decode(frames[i : i + BYTES_PER_FRAME])
                    for i in range(0, len(frames), BYTES_PER_FRAME)
                ]
            )


def through_mode(samples: NDArray[np.int16], mode: int) -> NDArray[np.int16]:
    """Return what a listener hears of speech (n,) at 8 kHz through a mode of Codec 2, whole frames.

    mode : its bits per second, as 3200
    Raises Codec2EqError if there is no such mode.
    """
    try:
        codec = _open_codec(mode)
    except KeyError as error:
        raise Codec2EqError(f"Codec 2 {mode}", "no such mode", "try 3200 or 1300") from error
    size = codec.samples_per_frame()
    starts = range(0, len(samples) - size + 1, size)
    frames = [codec.decode(codec.encode(samples[i : i + size])) for i in starts]
    return np.concatenate([samples[:0], *frames])


def _open_codec(mode: int = MODE_700C) -> Any:
    try:
        import pycodec2
    except ImportError as exc:
        raise Codec2EqError(*_MISSING) from exc
    return pycodec2.Codec2(mode)


def _parse_oracle(
    features: np.ndarray, models: np.ndarray, bits: bytes, variance: float
) -> OracleFrames:
    harmonic = np.arange(MAX_AMP + 1)
    defined = (harmonic >= 1) & (harmonic <= models["n_harm"][:, None])
    return OracleFrames(
        mean_db=features[:, 0].copy(),
        shapes=features[:, 1:21].copy(),
        quantised=features[:, 21:41].copy(),
        wo=models["wo"].copy(),
        n_harm=models["n_harm"].copy(),
        voiced=models["voiced"] != 0,
        amplitudes=np.where(defined, models["amplitudes"], np.float32(0)),
        quantised_amplitudes=features[:, 41:].copy(),
        bits=bits,
        variance=variance,
    )


def _close_streams(folder: str) -> None:
    """Write out and close the C streams that libcodec2 opened below `folder`.

    It does neither itself, not even when the codec is destroyed: records would be missing, and
    every call would cost two file descriptors.
    """
    flush_c_streams()
    for descriptor, target in open_descriptors():
        if target.startswith(os.path.realpath(folder) + os.sep):
            os.close(descriptor)


@contextmanager
def _loaded(codebooks: Sequence[np.ndarray] | None) -> Iterator[None]:
    """Put `codebooks` in the place of libcodec2's own for as long as the lock is held."""
    if codebooks is None:
        yield
        return
    originals = codebook_700c()
    arrays = [np.ascontiguousarray(c, dtype=np.float32) for c in codebooks]
    shapes = [a.shape for a in arrays]
    if shapes != [o.shape for o in originals]:
        raise Codec2EqError(f"codebooks of shapes {shapes}", "a 700C stream needs two of (512, 20)")
    try:
        _write_tables(arrays)
        yield
    finally:
        _write_tables(originals)


def _write_tables(arrays: Sequence[np.ndarray]) -> None:
    for stage, array in zip(_table_structs("newamp1vq_cb"), arrays, strict=True):
        ctypes.memmove(stage.cb, array.ctypes.data, array.nbytes)


@functools.cache
def _read_tables(symbol: str) -> list[NDArray[np.float32]]:
    """Copy a list of codebooks, each (m, k) float32; kept, so that `_loaded` cannot change it."""
    with _tables_lock:
        return [
            np.frombuffer(ctypes.string_at(s.cb, 4 * s.m * s.k), np.float32).reshape(s.m, s.k)
            for s in _table_structs(symbol)
        ]


def _table_structs(symbol: str) -> list[_Codebook]:
    try:
        first = _Codebook.in_dll(library(), symbol)
    except ValueError as exc:
        raise _no_symbol(symbol) from exc
    structs = []
    address = ctypes.addressof(first)
    while (struct := _Codebook.from_address(address)).k != 0:
        structs.append(struct)
        address += ctypes.sizeof(_Codebook)
    return structs


def _no_symbol(symbol: str) -> Codec2EqError:
    return Codec2EqError(
        "libcodec2",
        f"this build does not export {symbol}",
        "pip install pycodec2, whose libcodec2 does",
    )


@functools.cache
def library() -> ctypes.CDLL:
    """Open libcodec2 without importing pycodec2, which costs a start-up of its own.

    The symbols of a library's dependencies are found through it, so the file of the pycodec2
    extension serves as the handle, and leads to the very copy which pycodec2 itself runs.
    """
    for path in _candidates():
        try:
            opened = ctypes.CDLL(path)
            _Codebook.in_dll(opened, "newamp1vq_cb")
        except (OSError, ValueError):
            continue
        return opened
    raise Codec2EqError(*_MISSING)


def _candidates() -> Iterator[str]:
    spec = importlib.util.find_spec("pycodec2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = [p for p in Path(folder).glob("pycodec2*") if p.suffix in (".so", ".pyd")]
        yield from sorted(map(str, found))
    from ctypes.util import find_library  # these two are slow to import, and rarely needed
    from importlib import metadata

    try:
        files = metadata.files("pycodec2") or []
    except metadata.PackageNotFoundError:
        files = []
    yield from (str(f.locate()) for f in files if f.name.startswith("libcodec2"))
    if system := find_library("codec2"):
        yield system
