# SPDX-License-Identifier: LGPL-2.1-or-later
"""The curve that a filter has removed, as a table or a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from codec2_eq.analysis import band_centres_hz
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import PathLike, require_writable, write_text

SUFFIXES = (".csv", ".json", ".png")


def require_curve_file(path: PathLike, *, force: bool = False) -> None:
    """Raise Codec2EqError if a curve cannot be written there: before the work."""
    if _suffix(path) not in SUFFIXES:
        raise Codec2EqError(
            os.fspath(path), "not a format for curves", "name it .csv, .json or .png"
        )
    if _suffix(path) == ".png":
        from codec2_eq.pictures import require_picture_file

        require_picture_file(path, force=force)
    require_writable(path, force=force)


def write_curve(path: PathLike, curve_db: NDArray[Any], *, model: str, force: bool = False) -> None:
    """Write the curve removed at each band, (20,) dB; the suffix selects .csv, .json or .png.

    Raises Codec2EqError as `require_curve_file` does.
    """
    hz = [round(float(f), 1) for f in band_centres_hz()]
    removed_db = [round(float(db), 2) for db in curve_db]
    if _suffix(path) == ".png":
        _draw(Path(path), hz, removed_db, model=model, force=force)
    elif _suffix(path) == ".json":
        content = {"model": model, "freqs_hz": hz, "removed_db": removed_db}
        write_text(path, json.dumps(content) + "\n", force=force)
    else:
        rows = [f"{f},{db}\n" for f, db in zip(hz, removed_db, strict=True)]
        write_text(path, "".join(["freq_hz,removed_db\n", *rows]), force=force)


def _suffix(path: PathLike) -> str:
    return os.path.splitext(os.fspath(path))[1].lower()


def _draw(path: Path, hz: list[float], removed_db: list[float], *, model: str, force: bool) -> None:
    from codec2_eq.pictures import COLOURS, panels, save_picture

    figure, (axis,) = panels(f"Removed by {model}", 1)
    axis.plot(hz, removed_db, color=COLOURS[0], marker="o", linewidth=1.6)
    axis.set_xlabel("frequency [Hz]")
    axis.set_ylabel("microphone and voice [dB]")
    save_picture(figure, path, force=force)
