# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures: of vectors over time, and of a training, its losses, examples and errors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codec2_eq.codec2 import FRAME_MS, K
from codec2_eq.errors import Codec2EqError, require_extra
from codec2_eq.files import PathLike, atomic_output, require_writable
from codec2_eq.records import RateK

# five lines that stay apart on screen, on paper and for the colour-blind (after Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b")
DOTS_PER_INCH = 110
TICK_BANDS = (0, 3, 6, 9, 12, 15, 19)  # those that axes name
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "font.size": 10,
}


def require_picture_file(path: PathLike, *, force: bool = False) -> None:
    """Raise Codec2EqError if a picture cannot be drawn or written there: before the work."""
    name = os.fspath(path)
    if os.path.splitext(name)[1].lower() != ".png":
        raise Codec2EqError(name, "pictures are written as PNG", "name it .png")
    require_extra(name, "report", "matplotlib", "PIL")
    require_writable(path, force=force)


def save_picture(figure: Any, path: Path, *, force: bool = False) -> None:
    """Write a matplotlib figure as PNG; whole or not at all."""
    with atomic_output(path, force=force) as stream:
        figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)


def panels(title: str, count: int, **options: Any) -> tuple[Any, Sequence[Any]]:
    """Make a figure with `count` panels side by side; no display is needed."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6 * max(count, 1.6), 4.2), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes = figure.subplots(1, count, squeeze=False, **options)[0]
    return figure, axes


def plot(
    frames: RateK | np.ndarray,
    *,
    axis: Any = None,
    frame_ms: int = FRAME_MS,
    limits_db: tuple[float, float] | None = None,
) -> Any:
    """Draw vectors over time, low bands at the bottom, levels in colours.

    Parameters
    ----------
    frames : RateK or ndarray of shape (n, K)
        What to draw, in dB; n from 1.
    axis : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot.
    frame_ms : {10, 20, 40}
        Time between the rows of an array, ms.
    limits_db : tuple of float, optional
        Levels of the darkest and the brightest colour, dB; by default those of the vectors.

    Returns
    -------
    matplotlib.axes.Axes
        ``axis.figure.savefig("vectors.png")`` saves it.

    Raises
    ------
    Codec2EqError
        If matplotlib (extra `report`) is not installed, or there is nothing to draw.

    Examples
    --------
    >>> axis = ce.plot(ce.extract_file("samples/espeak_male_1.wav"))
    >>> axis.get_xlabel()
    'time [s]'
    """
    require_extra("plot", "report", "matplotlib")
    bands: list[object] = list(range(K))
    if isinstance(frames, RateK):
        bands = [f"{frequency:.0f} Hz" for frequency in frames.freqs_hz]
        frame_ms, frames = frames.frame_ms, frames.vectors
    rows = np.asarray(frames)
    if rows.ndim != 2 or rows.shape[1] != K or not len(rows):
        raise Codec2EqError(
            f"vectors {rows.shape}", f"expected (n, {K}), n from 1", "see ce.extract"
        )
    if axis is None:
        from matplotlib import pyplot

        axis = pyplot.subplots(figsize=(7, 2.8), layout="constrained")[1]
    low_db, high_db = limits_db or (None, None)
    image = axis.imshow(
        rows.T,
        origin="lower",
        aspect="auto",
        extent=(0, len(rows) * frame_ms / 1000, -0.5, K - 0.5),
        vmin=low_db,
        vmax=high_db,
    )
    axis.set(xlabel="time [s]", ylabel="band")
    axis.set_yticks(TICK_BANDS, [bands[band] for band in TICK_BANDS])
    axis.figure.colorbar(image, ax=axis, label="dB")
    return axis


def loss_curves(title: str, curves: Mapping[str, Sequence[float]], unit: str) -> Any:
    """Draw one line per curve over the epochs, both on logarithmic scales."""
    figure, (axis,) = panels(title, 1)
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        epochs = np.arange(1, len(values) + 1)
        axis.loglog(epochs, values, color=colour, label=name, linewidth=1.6)
    axis.set_xlabel("epoch")
    axis.set_ylabel(f"loss [{unit}]")
    axis.legend(frameon=False)
    return figure


def before_and_after(
    title: str,
    positions: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    wanted: np.ndarray,
    *,
    xlabel: str,
    xticks: Sequence[float],
) -> Any:
    """Draw vectors at the input (left) and output (right) of an equaliser, one colour each.

    before, after, wanted : (n, K) dB with n up to 5; positions : (K,).
    """
    figure, (left, right) = panels(title, 2, sharey=True)
    left.set_xticks(xticks)
    right.set_xticks(xticks)
    for colour, row_before, row_after, row_wanted in zip(
        COLOURS, before, after, wanted, strict=False
    ):
        left.plot(positions, row_before, color=colour, linewidth=1.6)
        left.axhline(row_before.mean(), color=colour, linewidth=1, linestyle=":")
        right.plot(positions, row_wanted, color=colour, linewidth=1)
        right.plot(positions, row_after, "o", color=colour, markersize=4)
    left.plot([], [], color="#555555", linewidth=1, linestyle=":", label="mean of the vector")
    right.plot([], [], "o", color="#555555", markersize=4, label="network")
    right.plot([], [], color="#555555", linewidth=1, label="exact")
    low, high = left.get_ylim()
    left.set_ylim(low - 0.12 * (high - low), high)  # room for the legend
    for axis, name, place in ((left, "in", "lower left"), (right, "out", "upper right")):
        axis.set_title(name, loc="left")
        axis.set_xlabel(xlabel)
        axis.legend(loc=place, frameon=False)
    left.set_ylabel("level [dB]")
    return figure


def error_histograms(title: str, errors: Mapping[str, Mapping[str, np.ndarray]], unit: str) -> Any:
    """Draw one panel per kind of error, in it one outline per data set, as shares of the data."""
    figure, axes = panels(title, len(errors))
    for axis, (kind, sets) in zip(axes, errors.items(), strict=True):
        limit = max(np.percentile(np.abs(values), 99.8) for values in sets.values())
        edges = np.linspace(-limit, limit, 61)
        for colour, (name, values) in zip(COLOURS, sets.items(), strict=False):
            rms = np.sqrt(np.mean(np.square(values, dtype=float)))
            counts = np.histogram(values, edges)[0] / values.size
            label = f"{name}: {rms:.3g} {unit} rms"
            axis.stairs(100 * counts, edges, color=colour, linewidth=1.4, label=label)
            axis.stairs(100 * counts, edges, color=colour, fill=True, alpha=0.15)
        axis.set_title(kind, loc="left")
        axis.set_xlabel(f"error [{unit}]")
        axis.set_ylim(0, axis.get_ylim()[1] * 1.2)  # room for the legend
        axis.legend(loc="upper left", frameon=False)
    axes[0].set_ylabel("share [%]")
    return figure
