# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may be asked of a corpus, and what not at once."""

from __future__ import annotations

from codec2_eq.corpus.store import LAYOUTS, Options
from codec2_eq.errors import Codec2EqError
from codec2_eq.vectors.record import FORMATS


def check_before_floor(options: Options) -> None:
    """Raise Codec2EqError if frames have no harmonics to be equalised before their floor."""
    if options.before_floor and (options.knots != "pick" or options.speakers):
        what = f"knots {options.knots!r}" if options.knots != "pick" else "speakers"
        raise Codec2EqError("before_floor", f"cannot be with {what}", "leave one of them out")


def check_records(layout: str, records: bool) -> bool:
    """Return whether records are kept; raise Codec2EqError where they cannot be."""
    if records and layout != "shards":
        raise Codec2EqError(
            f"records in layout {layout}", "are kept beside shards", "in a tree, choose format npz"
        )
    return records


def check_format(layout: str, format: str) -> str:
    """Return the format of files; raise Codec2EqError if that layout has none such."""
    if layout not in LAYOUTS:
        raise Codec2EqError(f"layout {layout!r}", f"expected one of {', '.join(LAYOUTS)}")
    if format not in FORMATS:
        raise Codec2EqError(f"format {format!r}", f"expected one of {', '.join(FORMATS)}")
    if layout != "tree" and format != "f32":
        raise Codec2EqError(f"format {format}", f"{layout} are .f32", "choose layout tree for it")
    return format


def check_channel(channel: int | str) -> str:
    """Return the channel as text; raise Codec2EqError if it is none."""
    text = str(channel)
    if text != "mix" and not (text.isdecimal() and len(text) < 10 and int(text)):
        raise Codec2EqError(f"channel {text[:40]!r}", "expected 'mix' or a number from 1")
    return text
