# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of a corpus: what there is, what goes together, and how it is written as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from codec2_eq.codec2 import FRAME_MS_CHOICES
from codec2_eq.corpus.containers import LAYOUTS
from codec2_eq.errors import Codec2EqError
from codec2_eq.vectors.record import FORMATS

KIND = "codec2_eq corpus"


@dataclass(frozen=True)
class Options:
    """Everything that the contents of a corpus depend on besides the recordings."""

    base: str
    model: str
    model_sha256: str
    frame_ms: int
    layout: str
    format: str
    channel: str
    raw: bool
    version: str
    knots: str = "pick"
    passes: int = 1
    speakers: str = ""
    records: bool = False
    before_floor: bool = False

    @property
    def is_tree(self) -> bool:
        """Whether each utterance has a file of its own."""
        return self.layout == "tree"


def check_options(options: Options) -> None:
    """Raise Codec2EqError for options that are unknown or exclude each other."""
    layout, format = options.layout, options.format
    if layout not in LAYOUTS:
        raise Codec2EqError(f"layout {layout!r}", f"expected one of {', '.join(LAYOUTS)}")
    if format not in FORMATS:
        raise Codec2EqError(f"format {format!r}", f"expected one of {', '.join(FORMATS)}")
    if layout != "tree" and format != "f32":
        raise Codec2EqError(f"format {format}", f"{layout} are .f32", "choose layout tree for it")
    if options.records and layout != "shards":
        raise Codec2EqError(
            f"records in layout {layout}", "are kept beside shards", "in a tree, choose format npz"
        )
    # Frames that are fitted, or kept by a first pass, have no harmonics.
    if options.before_floor and (options.knots != "pick" or options.speakers):
        what = f"knots {options.knots!r}" if options.knots != "pick" else "speakers"
        raise Codec2EqError(
            "before_floor", f"cannot be combined with {what}", "leave one of them out"
        )


def check_channel(channel: int | str) -> str:
    """Return the channel as text; raise Codec2EqError if it is none."""
    text = str(channel)
    if text != "mix" and not (text.isdecimal() and len(text) < 10 and int(text)):
        raise Codec2EqError(f"channel {text[:40]!r}", "expected 'mix' or a number from 1")
    return text


# As JSON


def options_fields(options: Options) -> dict[str, Any]:
    """Return options as JSON has them."""
    return {"kind": KIND, **asdict(options)}


def options_text(options: Options) -> bytes:
    """Return options as the file holds them, for people to read."""
    return json.dumps(options_fields(options), indent=1).encode() + b"\n"


_CHOICES: dict[str, tuple[Any, ...]] = {
    "layout": LAYOUTS,
    "format": FORMATS,
    "frame_ms": FRAME_MS_CHOICES,
}


def parse_options(fields: Any) -> Options:
    """Return options from JSON; raise ValueError for anything else."""
    if not isinstance(fields, dict) or fields.get("kind") != KIND:
        raise ValueError("of another kind")
    own = {name: value for name, value in fields.items() if name != "kind"}
    kinds = Options.__annotations__
    for name, value in own.items():
        if (
            name not in kinds
            or type(value).__name__ != kinds[name]
            or value not in _CHOICES.get(name, (value,))
        ):
            raise ValueError(f"{name} {str(value)[:40]!r}")
    if not os.path.isabs(own.get("base", os.sep)):
        raise ValueError(f"base {own['base'][:40]!r}")
    try:
        return Options(**own)
    except TypeError as error:
        raise ValueError(str(error)) from error
