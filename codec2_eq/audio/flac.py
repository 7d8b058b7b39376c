# SPDX-License-Identifier: LGPL-2.1-or-later
"""FLAC files that state fewer samples than they hold: libFLAC stops there in silence.

The header of the last frame shows where that frame begins, and its sum where it ends.
"""

from __future__ import annotations

import re

from codec2_eq.audio.window import FileWindow

_FRAME_START = re.compile(rb"\xff[\xf8\xf9]")
_MOST_FRAME_BYTES = 1 << 17  # looked through from the end
_MOST_HEAD_BYTES = 16  # of a frame
_HEAD_SUM = 0x107  # polynomials
_FRAME_SUM = 0x18005
_BLOCKS = (0, 192, 576, 1152, 2304, 4608, 0, 0, *(1 << n for n in range(8, 16)))  # samples, by code
_LENGTH = slice(18, 26)  # of a file, with other fields in its first 28 bits
_MOST_SAMPLES = (1 << 36) - 1
_MOST_TRIED = 4  # heads of frames; there is one but for a rare coincidence


def restated(data: FileWindow) -> bytes:
    """Return the first bytes of a FLAC file with the length that its last frame shows.

    Empty if the file does not state too little, or ends with something else than a frame.
    """
    head = data[0 : _LENGTH.stop]
    fields = int.from_bytes(head[_LENGTH], "big")
    stated = fields & _MOST_SAMPLES
    if not head.startswith(b"fLaC") or not stated:  # libFLAC then reads to the end
        return b""
    most_block = int.from_bytes(head[10:12], "big")
    tail = data[max(0, len(data) - _MOST_FRAME_BYTES) : len(data)]
    n_tried = 0
    for match in reversed(list(_FRAME_START.finditer(tail))):
        n_samples = _frame_end(tail[match.start() : match.start() + _MOST_HEAD_BYTES], most_block)
        if n_samples == stated or n_tried == _MOST_TRIED:
            break
        if stated < n_samples <= _MOST_SAMPLES:
            n_tried += 1
            if not _remainder(tail[match.start() :], _FRAME_SUM):
                return head[: _LENGTH.start] + (fields - stated + n_samples).to_bytes(8, "big")
    return b""


def _frame_end(head: bytes, most_block: int) -> int:
    """Return the number of the sample behind a frame, 0 if this is the head of none."""
    head = head.ljust(_MOST_HEAD_BYTES, b"\0")
    size, rate = divmod(head[2], 16)
    n_ones = 8 - (head[4] ^ 0xFF).bit_length()  # as in UTF-8: how many bytes the number has
    at = 4 + max(1, n_ones)
    number = head[4] & (0x7F >> n_ones)
    for byte in head[5:at]:
        number = number << 6 | byte & 0x3F
    if size in (6, 7):
        n_block = int.from_bytes(head[at : (at := at + size - 5)], "big") + 1
    else:
        n_block = _BLOCKS[size]
    at += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if n_ones == 1 or not n_block or _remainder(head[: at + 1], _HEAD_SUM):
        return 0
    return (number if head[1] & 1 else number * most_block) + n_block


def _remainder(data: bytes, polynomial: int) -> int:
    """Divide data by a polynomial: their sum, or 0 if they end with it."""
    n_bits = polynomial.bit_length() - 1
    value = 0
    for byte in data:
        value ^= byte << n_bits - 8
        for _ in range(8):
            value <<= 1
            if value >> n_bits:
                value ^= polynomial
    return value
