# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ways to spoil a file: of its bytes, of the arrays in an archive, of JSON, and made-up headers."""

from __future__ import annotations

import io
import json
import struct
import tarfile
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


TITLES: tuple[bytes, ...] = (
    b"ID3\3\0\0\0\0\0\12" + bytes(10),
    b"ID3\4\0\x10\0\0\0\12" + bytes(10) + b"3DI\4\0\x10\0\0\0\12",
    b"TAG" + bytes(125),
    b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0xA0000000) + bytes(8),
    b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0x80000000) + bytes(8),
    b"LIST" + struct.pack("<I", 3) + b"abc",
    bytes(700),
)
"""What programs put before, between and behind recordings."""


def join(data: bytes, other: bytes, rng: Rng) -> bytes:
    """Join recordings, some of them cut, with titles of all kinds around them."""
    parts: list[bytes] = []
    for _ in range(int(rng.integers(1, 4))):
        whole = data if rng.random() < 0.7 else other
        cut = whole[: -int(rng.integers(1, 200))] if rng.random() < 0.2 else whole
        parts += [TITLES[int(rng.integers(0, len(TITLES)))] * int(rng.integers(0, 2)), cut]
    parts.append(TITLES[int(rng.integers(0, len(TITLES)))] * int(rng.integers(0, 3)))
    return b"".join(parts)


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


def spoil_keras(data: bytes, rng: Rng) -> bytes:
    """Spoil the description in a Keras model, or any member."""
    files = {}
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        files = {name: source.read(name) for name in source.namelist()}
    name = sorted(files)[int(rng.integers(0, len(files)))]
    if name.endswith(".json"):
        files[name] = spoil_json(files[name], rng)
    elif rng.random() < 0.3:
        del files[name]
    else:
        files[name] = bytes(80 << 20) if rng.random() < 0.02 else spoil_bytes(files[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(info, content)
    return out.getvalue()


def _spoil_member(content: bytes, rng: Rng) -> bytes:
    match int(rng.integers(0, 6)):
        case 5 if b"<U" not in content[:128]:
            return _reshape(content, rng)
        case 0:
            return b""
        case 1:
            return spoil_bytes(content, rng)
        case 2 if b"<U" in content[:128]:
            return _respell(content, rng)
        case 3 if rng.random() < 0.02:
            return content[:128] + bytes(80 << 20)
    return spoil_npy(content, rng)


def _reshape(content: bytes, rng: Rng) -> bytes:
    """Give an array another shape of as many numbers, or fewer or no numbers."""
    array = np.atleast_1d(np.load(io.BytesIO(content)))
    shapes = [(-1,), (1, -1), (-1, 1), (*array.shape, 1), array.shape[::-1]]
    changed = array.reshape(shapes[int(rng.integers(0, len(shapes)))])
    changed = [changed, changed[:0], changed[:-1], changed.astype("<f8")][int(rng.integers(0, 4))]
    out = io.BytesIO()
    np.save(out, changed)
    return out.getvalue()


def spoil_folder(data: bytes, rng: Rng) -> bytes:
    """Spoil one file of a folder that is packed as a tar, or remove it."""
    files = unpack(data)
    names = sorted(files)
    state = [name for name in names if ".codec2-eq" in name or name.endswith((".json", ".jsonl"))]
    name = str(rng.choice(state if rng.random() < 0.7 else names))
    if rng.random() < 0.05:
        del files[name]
    elif rng.random() < 0.1:
        files[name] = bytes(len(files[name]) // int(rng.integers(1, 3)))
    elif rng.random() < 0.5 and name.endswith((".json", ".jsonl")) and files[name]:
        files[name] = spoil_json(files[name], rng)
    else:
        files[name] = spoil_bytes(files[name], rng)
    return pack(files)


def pack(files: dict[str, bytes]) -> bytes:
    """Return files, by their paths in a folder, as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of a tar by their paths."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        return {each.name: archive.extractfile(each).read() for each in members}  # type: ignore[union-attr]


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
    node[key] = (
        VALUES[int(rng.integers(0, len(VALUES)))] if rng.random() < 0.5 else _like(below, rng)
    )


def _like(value: Any, rng: Rng) -> Any:
    """Return another value of the same type, which no check of types would find."""
    match value:
        case bool():
            return not value
        case int():
            return value + int(rng.choice([-1, 1, 3, -value, value, 10**6]))
        case float():
            return value + float(rng.choice([-1, 1, 0.01, -value, 1e6]))
        case str():
            others = (value[:-1], value + "x", value.upper(), value[::-1], f"s0/{value}", "a.wav")
            return others[int(rng.integers(0, len(others)))]
        case list():
            return [value[::-1], value[:-1], value + value[-1:]][int(rng.integers(0, 3))]
        case dict():
            return dict(list(value.items())[:-1])
    return value


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
