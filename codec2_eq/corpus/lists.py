# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lists of recordings: plain ones, Kaldi's wav.scp, and manifests of NeMo and Lhotse.

A line that cannot be understood is an error: a list never yields a path that is not in it.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from codec2_eq.corpus.containers import is_text
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_error

MOST_BYTES = 1 << 32
"""No list is larger: 40 million lines of 100 bytes."""

MOST_RATIO = 100
"""Lists packed with gzip are at most so many times as large unpacked; texts pack to a tenth."""

_CHUNK_BYTES = 1 << 22
_HOLES = (bytes(64), b"\n" * 4096)  # more than separates lines

_PLAIN_BYTES = 1 << 24  # of any small file

_UTF8_REMEDY = "save it as UTF-8, one path per line"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class Item(NamedTuple):
    """An utterance in a list.

    offset, duration : its part of the recording, s; without a duration to the end
    """

    path: str
    id: str | None = None
    offset: float = 0.0
    duration: float | None = None
    speaker: str | None = None


def read_list(path: str) -> list[str]:
    """Read a list of paths, separated by line ends or by zero bytes; `-` is stdin.

    Names of existing files may have line ends in them, if zero bytes separate them.
    Raises Codec2EqError if it cannot be read, is neither UTF-8 nor marked as UTF-16 or UTF-32, or
    mixes the two separators.
    """
    name = "stdin" if path == "-" else path
    text = _decode(name, _read(path))
    if "\0" in text:
        lines = text.removesuffix("\0").split("\0")
        # Wide characters without their mark would come apart at their zero bytes.
        if any(len(line) < 2 or line.strip("\r\n") != line for line in lines):
            raise Codec2EqError(name, "has zero bytes that separate no paths", _UTF8_REMEDY)
        for number, line in enumerate(lines, 1):
            if "\n" in line and not os.path.exists(line):
                raise Codec2EqError(
                    name,
                    f"has both zero bytes and line ends between paths (entry {number} has a line "
                    "end in it and is no existing file)",
                    "separate all paths by line ends, or all by zero bytes",
                )
    else:
        lines = [line.removesuffix("\r") for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if _CONTROL.search(line):
            raise Codec2EqError(
                f"{name}: line {number}", "holds control characters", "name a list of paths"
            )
    return [line for line in lines if line.strip()]


def read_scp(path: str) -> list[Item]:
    """Read Kaldi's wav.scp: on each line an id and the path of its recording.

    Raises Codec2EqError, with the line, for a command (`… |`) in place of a path.
    """
    items: dict[str, Item] = {}
    for where, line in numbered_lines(path):
        key, *target_if_any = line.split(maxsplit=1)
        if not target_if_any:
            raise Codec2EqError(where, "has no path after its id", "write: ID PATH")
        target = target_if_any[0].strip()
        if target.endswith("|") or target.startswith("|"):
            raise Codec2EqError(
                where, "is a pipe", "run its command, and name the file that it writes"
            )
        if key in items:
            raise Codec2EqError(where, f"id {key} occurs a second time", "make ids unique")
        items[key] = Item(target, key)
    return list(items.values())


def read_manifest(path: str) -> list[Item]:
    """Read a manifest of JSON lines, also compressed (`.gz`): NeMo's or Lhotse's recordings.

    Relative paths are first tried from the folder of the manifest.
    Raises Codec2EqError, with the line, for anything else.
    """
    folder = os.path.dirname(os.path.abspath(path))
    items = []
    for where, line in numbered_lines(path):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Codec2EqError(where, "is not JSON", "write one object per line") from error
        if not isinstance(fields, dict):
            raise Codec2EqError(where, "is not a JSON object", "write one object per line")
        items.append(_item(fields, where, folder))
    return items


def _item(fields: dict[str, Any], where: str, folder: str) -> Item:
    source = fields.get("audio_filepath", fields.get("audio_file"))
    if source is None and isinstance(fields.get("sources"), list):
        source = _lhotse_source(fields["sources"], where)
    if not isinstance(source, str) or not source or _CONTROL.search(source) or not is_text(source):
        raise Codec2EqError(where, "names no recording", "give it an audio_filepath")
    beside = os.path.join(folder, source)
    offset = _seconds(fields, "offset", where)
    duration = None
    if offset is not None:
        duration = _seconds(fields, "duration", where)
    return Item(
        beside if os.path.exists(beside) else source,
        _text(fields, "id", where),
        offset or 0.0,
        duration,
        _text(fields, "speaker", where),
    )


def _lhotse_source(sources: list[Any], where: str) -> Any:
    if len(sources) != 1 or not isinstance(sources[0], dict):
        raise Codec2EqError(where, f"has {len(sources)} sources", "give each recording one file")
    if sources[0].get("type") != "file":
        raise Codec2EqError(
            where, f"source of type {sources[0].get('type')!r}", "only files can be read"
        )
    return sources[0].get("source")


def _seconds(fields: dict[str, Any], name: str, where: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1e9:
        raise Codec2EqError(where, f"{name} {value!r}", "expected a number of seconds")
    return float(value)


def _text(fields: dict[str, Any], name: str, where: str) -> str | None:
    value = fields.get(name)
    if value is None or (isinstance(value, str) and is_text(value)):
        return value
    if isinstance(value, int):
        return str(value)
    raise Codec2EqError(where, f"{name} {value!r}", "expected text")


def numbered_lines(path: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, each with where it is, for errors."""
    name = "stdin" if path == "-" else path
    chunks = _read(path, packed=path.endswith(".gz"))
    for number, line in enumerate(_decode(name, chunks).split("\n"), 1):
        where = f"{name}: line {number}"
        if "\0" in line:
            raise Codec2EqError(where, "holds a NUL", "is it another file?")
        if line.strip():
            yield where, line


def _read(path: str, *, packed: bool = False) -> Iterator[bytes]:
    """Yield a list in chunks, so that other files are refused before all of one is in memory."""
    try:
        if path == "-":
            if sys.stdin is None:
                raise Codec2EqError("stdin", "is closed", "give it the list, or name a file")
            yield from iter(lambda: sys.stdin.buffer.read(_CHUNK_BYTES), b"")
            return
        with open(path, "rb") as handle:
            found = os.fstat(handle.fileno())
            if stat.S_ISCHR(found.st_mode) or found.st_size > MOST_BYTES:
                raise Codec2EqError(
                    path, f"is not a list, or one of over {MOST_BYTES:,} bytes", "name a file"
                )
            if packed:
                yield from _unpack(path, handle, found.st_size)
            else:
                yield from iter(lambda: handle.read(_CHUNK_BYTES), b"")
    except OSError as error:
        raise read_error(path, error) from error


def _unpack(name: str, handle: IO[bytes], n_bytes: int) -> Iterator[bytes]:
    import gzip
    import zlib

    most = min(MOST_BYTES, max(_PLAIN_BYTES, MOST_RATIO * n_bytes))
    try:
        with gzip.GzipFile(fileobj=handle) as archive:
            while chunk := archive.read(_CHUNK_BYTES):
                most -= len(chunk)
                if most <= 0:
                    raise Codec2EqError(
                        name,
                        f"unpacks to over {MOST_RATIO} times its own size",
                        "unpack it first, if it is a list",
                    )
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise Codec2EqError(name, f"damaged ({error})", "make or fetch it again") from error


def _decode(name: str, chunks: Iterable[bytes]) -> str:
    decoder: codecs.IncrementalDecoder | None = None
    texts = []
    n_lines = 0
    try:
        for chunk in chunks:
            if decoder is None:
                marked = (e for mark, e in _MARKS if chunk.startswith(mark))
                decoder = codecs.getincrementaldecoder(next(marked, "utf-8"))()
            endless = len(chunk) >= _CHUNK_BYTES and not (b"\n" in chunk or b"\0" in chunk)
            if endless or any(hole in chunk for hole in _HOLES):
                raise Codec2EqError(name, "is not a list: it holds no lines of text", _UTF8_REMEDY)
            texts.append(decoder.decode(chunk))
            n_lines += chunk.count(b"\n")
        if decoder is not None:
            texts.append(decoder.decode(b"", final=True))
    except UnicodeDecodeError as error:
        line = n_lines + error.object.count(b"\n", 0, error.start) + 1
        raise Codec2EqError(f"{name}: line {line}", "is not UTF-8", _UTF8_REMEDY) from error
    return "".join(texts)
