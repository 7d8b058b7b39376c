# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bits of Codec 2 700C: frames of 4 bytes each 40 ms, with or without a header.

Bits of a frame, most significant first: 9 + 9 of the two stages of the vector quantiser, 4 of the
energy, 6 of the pitch (0 is unvoiced), 4 zeros; natural binary. A ``.c2`` file begins with 7 bytes:
C0 DE C2, version of Codec 2 (major, minor), mode, flags.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.codec2 import C2_MAGIC, FRAME_MS
from codec2_eq.codec2.library import BYTES_PER_FRAME
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, display_name, open_input, read_bytes
from codec2_eq.stream700c.level import energy_levels_db

HEADER_BYTES = 7
TELLING_BYTES = 112
"""Bytes that are enough to tell whether a stream holds frames or single bits."""

_BITS_PER_FRAME = 28
_READ_BYTES = 1 << 20
MODE_700C = 8
"""Mode in the header; codec2 CODEC2_MODE_700C."""

HEADER = C2_MAGIC + bytes([1, 0, MODE_700C, 0])
"""Header of the ``.c2`` files written here: version 1.0, since which 700C has not changed."""

_AUDIO_STARTS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
"""Files given to the decoder by mistake; no frame begins so, for its last 4 bits are 0."""

_MODE_NAMES = {
    0: "3200",
    1: "2400",
    2: "1600",
    3: "1400",
    4: "1300",
    5: "1200",
    8: "700C",
    10: "450",
    11: "450PWB",
}


def header_length(data: bytes, *, required: bool, name: str) -> int:
    """Return the length of the header at the start of a stream, 0 if there is none.

    Raises Codec2EqError if one is required and missing or cut, or is of another mode.
    """
    if not data.startswith(C2_MAGIC):
        if required:
            raise Codec2EqError(
                name,
                f"does not begin with {C2_MAGIC.hex(' ').upper()}, so it is no .c2 file",
                "for frames without header use another suffix",
            )
        return 0
    if len(data) < HEADER_BYTES:
        raise cut_header(name)
    mode = data[5]
    if mode != MODE_700C:
        mode_name = _MODE_NAMES.get(mode, f"number {mode}")
        raise Codec2EqError(name, f"mode {mode_name}, only 700C can be decoded here", "use c2dec")
    return HEADER_BYTES


def require_packed(start: bytes, name: str) -> None:
    """Raise Codec2EqError if the first bytes behind a header are bits or soft bits, not frames.

    Those are what modems exchange; in frames the last 4 bits of 32 are 0. Nor may it be audio.
    """
    if start.startswith(_AUDIO_STARTS):
        raise Codec2EqError(name, "is audio, not a 700C stream", "encode it first")
    values = set(start)
    bits = np.frombuffer(start[: len(start) // 4 * 4], "<f4")
    spare = np.frombuffer(start, np.uint8)[3 : len(start) // 4 * 4 : 4] & 15
    if len(start) < _BITS_PER_FRAME or not spare.any():
        return
    if values <= {0, 1}:
        kind, option = "one bit a byte", "--bitperchar"
    elif ((bits == 1) | (bits == -1)).all():
        kind, option = "one soft bit in 4 bytes", "--softdec"
    elif len(start) >= TELLING_BYTES and np.mean(spare > 0) > 0.5:
        kind, option = "one soft bit a byte, or no 700C frames at all", "--softdec or --bitperchar"
    elif len(values) == 2:  # text, or 0 and 255
        kind, option = "one bit a byte", "--bitperchar"
    else:
        return
    raise Codec2EqError(
        name, f"holds {kind}", f"encode without {option}, or decode it with c2dec 700C {option}"
    )


def cut_header(name: str) -> Codec2EqError:
    """Return the error of a stream that ends within its header."""
    return Codec2EqError(
        name, f"ends within its header of {HEADER_BYTES} bytes", "get the file again"
    )


def cut_stream(name: str, left_over: int) -> Codec2EqError:
    """Return the error of a stream that ends within a frame."""
    return Codec2EqError(
        name,
        f"ends {left_over} bytes into a frame of {BYTES_PER_FRAME}: the stream is cut",
        "pass --partial to decode the frames before that",
    )


def pack_frames(
    indexes: NDArray[np.integer], energies: NDArray[np.integer], pitch_codes: NDArray[np.integer]
) -> bytes:
    """Pack (n, 2) VQ indexes, (n,) energy indexes and (n,) pitch codes to frames, 4 bytes each."""
    words = indexes[:, 0].astype(">u4") << 23
    words |= indexes[:, 1].astype(np.uint32) << 14
    words |= energies.astype(np.uint32) << 10
    words |= pitch_codes.astype(np.uint32) << 4
    return words.astype(">u4").tobytes()


def unpack_frames(frames: bytes) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return VQ indexes (n, 2), energy indexes (n,) and pitch codes (n,) of whole frames."""
    words = np.frombuffer(frames, ">u4").astype(np.uint32)
    indexes = np.stack([words >> 23, words >> 14 & 511], axis=1).astype(np.int32)
    return indexes, (words >> 10 & 15).astype(np.int32), (words >> 4 & 63).astype(np.int32)


def describe_stream(path: PathLike) -> dict[str, Any]:
    """Return what a .c2 file holds, by name of the fact.

    Raises Codec2EqError if it has no header of a 700C stream; a cut one is described.
    """
    name = display_name(path)
    energy_counts = np.zeros(16, np.int64)
    n_bytes = n_voiced = 0
    with open_input(path) as handle:
        head = read_bytes(handle, name, HEADER_BYTES)
        header_length(head, required=True, name=name)
        while data := read_bytes(handle, name, _READ_BYTES):
            if not n_bytes:
                require_packed(data[:TELLING_BYTES], name)
            whole = len(data) // BYTES_PER_FRAME * BYTES_PER_FRAME
            _, energies, pitch_codes = unpack_frames(data[:whole])
            energy_counts += np.bincount(energies, minlength=16)
            n_voiced += int(np.count_nonzero(pitch_codes))
            n_bytes += len(data)
    n_frames, left_over = divmod(n_bytes, BYTES_PER_FRAME)
    facts = {
        "kind": "Codec 2 stream",
        "mode": "700C",
        "version": f"{head[3]}.{head[4]}",
        "frames": n_frames,
        "duration_s": n_frames * FRAME_MS / 1000,
    }
    if left_over:
        facts["cut_bytes"] = left_over  # of a last frame of BYTES_PER_FRAME
    if n_frames:
        levels_db = energy_levels_db()[energy_counts > 0]
        facts["voiced_percent"] = 100 * n_voiced / n_frames
        facts["lowest_energy_db"] = float(levels_db.min())
        facts["highest_energy_db"] = float(levels_db.max())
        facts["top_step_percent"] = 100 * float(energy_counts[15]) / n_frames
    return facts
