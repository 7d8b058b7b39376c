# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ways to spoil a file: of its bytes, of the arrays in an archive, of JSON, and made-up headers."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import Any

import numpy as np

Rng = np.random.Generator

NUMBERS: tuple[int, ...] = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    10**6,
    2**31 - 1,
    2**31,
)
NUMBERS += (2**32 - 1, 2**32 - 8, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""Numbers at whose edges arithmetic goes wrong."""

SHAPES: tuple[str, ...] = (
    "(50, 20)",
    "(2147483648, 20)",
    "(9223372036854775807, 20)",
    "(18446744073709551616, 20)",
)
SHAPES += ("(1e400,)", "(-1, 20)", "(100000000000, 0)", "(4096, 100000000)", "()", "('a',)", "5")
SHAPES += ("(20,)", "(10, 20, 1)", "(0, 20)", "(4294967296, 4294967296)", "(True, 20)", "(20L,)")
DTYPES: tuple[str, ...] = (
    "'<f4'",
    "'>f4'",
    "'<f2'",
    "'<f8'",
    "'<f16'",
    "'|O'",
    "'<U0'",
    "'<U9'",
    "'<M8[s]'",
    "'|V4'",
)
DTYPES += ("[('a','<f4')]", "'<c8'", "None", "b'x'", "'|b1'", "'<i4'", "'<U268435456'", "'S4'")
VALUES: tuple[Any, ...] = (None, True, -1, 0, 0.5, 1e308, float("nan"), float("inf"), 2**70, "")
VALUES += ("x", "\ud800", "\x1b]0;t\x07", "../../x", "a\0b", "9" * 5000, [], [1], {}, {"a": 1})
"""What may stand anywhere in JSON."""


def spoil_bytes(data: bytes, rng: Rng) -> bytes:
    """Change, cut, insert, repeat or overwrite a few bytes, at the beginning more often."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        reach = len(out) if rng.random() < 0.4 else min(len(out), 200)
        at = int(rng.integers(0, reach + 1))
        width = int(rng.choice([1, 2, 4, 8]))
        match int(rng.integers(0, 8)):
            case 0:
                out[at : at + 1] = bytes([rng.integers(0, 256)])
            case 1:
                del out[at:]
            case 2:
                out[at:at] = rng.bytes(int(rng.integers(1, 40)))
            case 3:
                del out[at : at + int(rng.integers(1, 40))]
            case 4:
                out[at:at] = out[at : at + int(rng.integers(1, 400))]
            case 5:
                number = int(rng.choice(np.array(NUMBERS, object))) % (1 << 8 * width)
                order: Any = "little" if rng.random() < 0.5 else "big"
                out[at : at + width] = number.to_bytes(width, order)
            case 6:
                out[at : at + width] = bytes(width)
            case 7:
                out[at : at + 1] = bytes(
                    [out[at] ^ 1 << int(rng.integers(0, 8))] if at < len(out) else b""
                )
    return bytes(out)


def splice(data: bytes, other: bytes, rng: Rng) -> bytes:
    """Join the beginning of one file and the end of another, or both whole."""
    if rng.random() < 0.3:
        return data + other
    return data[: rng.integers(0, len(data) + 1)] + other[rng.integers(0, len(other) + 1) :]


def npy_header(rng: Rng) -> bytes:
    """Return the head of an array of any type and shape."""
    descr, shape = rng.choice(DTYPES), rng.choice(SHAPES)
    order = rng.choice(["True", "False", "0"])
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    if rng.random() < 0.05:
        text = rng.choice([b"(", b"9", b"-", b"["]).tobytes().strip(b"\0") * 9999
    version = int(rng.choice([1, 2, 3]))
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def spoil_npy(data: bytes, rng: Rng) -> bytes:
    """Put another header before the rows of an array."""
    return npy_header(rng) + data[128:]


def spoil_archive(data: bytes, rng: Rng) -> bytes:
    """Spoil one member of a ZIP archive, drop it or blow it up; its sums are right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        names = source.namelist()
        chosen = names[int(rng.integers(0, len(names)))]
        method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
        with zipfile.ZipFile(out, "w", method) as target:
            for name in names:
                content = source.read(name)
                if name == chosen:
                    content = _spoil_member(content, rng)
                if content:
                    info = zipfile.ZipInfo(name)  # without the time of day
                    info.compress_type = method
                    target.writestr(info, content)
    return out.getvalue()


def _spoil_member(content: bytes, rng: Rng) -> bytes:
    match int(rng.integers(0, 5)):
        case 0:
            return b""
        case 1:
            return spoil_bytes(content, rng)
        case 2 if b"<U" in content[:128]:
            return _respell(content, rng)
        case 3 if rng.random() < 0.02:
            return content[:128] + bytes(80 << 20)
    return spoil_npy(content, rng)


def _respell(content: bytes, rng: Rng) -> bytes:
    """Spoil the JSON in an array of text."""
    start = 10 + int.from_bytes(content[8:10], "little")
    text = content[start:].decode("utf-32-le", "replace").rstrip("\0")
    try:
        text = spoil_json(text.encode(), rng).decode("utf-8", "surrogatepass")
    except ValueError:
        text = text[::-1]
    out = io.BytesIO()
    np.save(out, np.array(text))
    return out.getvalue()


def spoil_json(data: bytes, rng: Rng) -> bytes:
    """Replace, drop or nest a value somewhere in the JSON of one line."""
    lines = data.splitlines() or [b"{}"]
    if lines[0] == b"{":  # one object over many lines
        lines = [json.dumps(json.loads(data)).encode()]
    at = int(rng.integers(0, len(lines)))
    tree = [json.loads(lines[at])]
    _spoil_node(tree, rng)
    if rng.random() < 0.02:
        lines[at] = b"[" * 100_000
    else:
        lines[at] = json.dumps(tree[0]).encode()
    return b"\n".join(lines) + b"\n"


def _spoil_node(node: Any, rng: Rng) -> None:
    """Walk down to a random value and put another in its place."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[int(rng.integers(0, len(keys)))]
        below = node[key]
        if not (isinstance(below, (dict, list)) and below) or rng.random() < 0.2:
            break
        node = below
    node[key] = VALUES[int(rng.integers(0, len(VALUES)))]


def made_up_wav(rng: Rng) -> bytes:
    """Return a WAV file of random but well-formed chunks."""
    number = lambda *choices: int(rng.choice(np.array(choices, object)))  # noqa: E731
    bits = number(0, 1, 8, 12, 16, 20, 24, 32, 40, 64, 65535)
    channels = number(0, 1, 2, 3, 255, 65535)
    align = number(0, 1, 2, 3, 4, 6, 8, channels * bits // 8 & 0xFFFF, 65535)
    rate = number(0, 1, 7999, 8000, 8001, 11025, 44100, 192000, 9_999_999, 2**32 - 1)
    tag = number(1, 3, 6, 7, 2, 0x11, 0x31, 0x55, 0xFFFE)
    form = struct.pack("<HHIIHH", tag, channels, rate, 0, align, bits)
    out = b""
    for _ in range(number(1, 2, 3, 5)):
        name = [b"fmt ", b"data", b"LIST", b"JUNK", b"ds64", b"fact", b"RIFF"][number(*range(7))]
        body = form if name == b"fmt " else rng.bytes(number(0, 1, 8, 28, 999, 4000))
        size = len(body) if rng.random() < 0.7 else number(*NUMBERS) & 0xFFFFFFFF
        out += name + struct.pack("<I", size) + body
    magic = [b"RIFF", b"RF64", b"BW64", b"RIFX"][number(0, 0, 0, 1, 2, 3)]
    head = b"WAVEfmt " + struct.pack("<I", 16) + form if rng.random() < 0.8 else b"WAVE"
    return magic + struct.pack("<I", number(*NUMBERS) & 0xFFFFFFFF) + head + out
