# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures of a report, as SVG that suits a light and a dark page.

All recordings and models share one scale of colours, so that pictures can be compared.
"""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.inspection.picture import draw_into
from codec2_eq.pictures import TICK_BANDS

if TYPE_CHECKING:
    from codec2_eq.report.examine import Outcome, Recording

SHAPE_COLOURS: Any = {"cmap": "viridis", "vmin": -25, "vmax": 30}
"""Of shapes [dB]: from the 1st to the 99th percentile of speech, about."""

REMOVED_LIMIT_DB = 15
"""Of what an equaliser took away [dB]: where the colours are full; nothing has no colour."""

# lines that stay apart on white, on black and for the colour-blind; after them they repeat
_COLOURS = ("#8a8a8a", "#2f8fdd", "#d9730d", "#12a37a", "#c9619f", "#a8860b")
_DASHES: Any = ("-", "--", "-.", ":", (0, (8, 2, 1, 2, 1, 2)))  # lines may lie on each other
_INK = "#0a0b0c"  # becomes the colour of the page's text
_WIDTH_IN = 10.5
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "text.color": _INK,
    "text.parse_math": False,  # a model's path may hold dollars
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "codec2_eq",  # the same picture has the same bytes
}
_SVG_STYLE = (
    "<style>svg{color:#1d1d1f}@media(prefers-color-scheme:dark){svg{color:#e4e4e6}}"
    "text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif!important}</style>"
)


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, and what it shows in words."""

    uri: str
    alt: str


def heat_maps(recording: Recording) -> Picture:
    """Draw shapes over time, before and after each equaliser, and what was taken away."""
    changed = [outcome for outcome in recording.outcomes if outcome.model != "none"]
    with _style():
        figure = _figure(1.6 + 1.35 * (1 + len(changed)))
        axes = figure.subplots(1 + len(changed), 2, sharex=True, squeeze=False)
        image = _draw_map(axes[0, 0], recording, recording.before, "before", SHAPE_COLOURS)
        _draw_level(axes[0, 1], recording)
        _add_scale(figure, image, axes[:, 0], "shape [dB]")
        for (left, right), outcome in zip(axes[1:], changed, strict=True):
            _draw_map(left, recording, outcome.shapes, f"after {outcome.model}", SHAPE_COLOURS)
            removed = recording.before - outcome.shapes
            title = f"taken away by {outcome.model}"
            image = _draw_map(right, recording, removed, title, _removed_colours())
        if changed:
            _add_scale(figure, image, axes[:, 1], "taken away [dB]")
        for axis in axes[-1]:
            axis.set_xlabel("time [s]")
            axis.tick_params(labelbottom=True)
        uri = _svg_uri(figure)
    return Picture(uri, _tell_heat_maps(recording, changed))


def spectra(recording: Recording) -> Picture:
    """Draw mean spectra of the speech over the codebook's, and the quantiser's error by band."""
    bands = np.arange(len(CODEBOOK_MEAN_DB))
    with _style():
        figure = _figure(3.4)
        left, right = figure.subplots(1, 2)
        left.plot(
            bands,
            CODEBOOK_MEAN_DB,
            color=_INK,
            alpha=0.18,
            linewidth=9,
            solid_capstyle="round",
            label="mean of the codebook",
        )
        for index, outcome in enumerate(recording.outcomes):
            line = {
                "color": _COLOURS[index % len(_COLOURS)],
                "linestyle": _DASHES[index % len(_DASHES)],
                "linewidth": 1.8,
                "label": "none (before)" if outcome.model == "none" else outcome.model,
            }
            left.plot(bands, outcome.spectrum_db, **line)
            right.plot(bands, outcome.band_error_db, **line)
        _label_spectrum(left, recording, "mean spectrum of the speech", "shape [dB]")
        _label_spectrum(right, recording, "error of the quantiser by band", "rms error [dB]")
        right.set_ylim(bottom=0)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
        uri = _svg_uri(figure)
    return Picture(uri, _tell_spectra(recording))


def microphone(recording: Recording) -> Picture:
    """Draw what `check` draws: the curve before and after channel_eq, levels, the spectrum."""
    with _style():
        figure = _figure(3.6)
        draw_into(figure.subplots(1, 3), recording.measured)
        uri = _svg_uri(figure)
    return Picture(uri, _tell_microphone(recording))


# ------------------------------------------------------------------------------ drawing


def _style() -> Any:
    import matplotlib.style

    return matplotlib.style.context(["default", _STYLE])  # whatever the user's own style is


def _figure(height_in: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")


def _draw_map(
    axis: Any, recording: Recording, values: np.ndarray, title: str, colours: dict[str, Any]
) -> Any:
    """Draw (n, K) values as an image, one pixel per band and frame; return it."""
    n_frames, n_bands = values.shape
    image = axis.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        interpolation="none",
        extent=(0, n_frames * recording.frames.frame_ms / 1000, -0.5, n_bands - 0.5),
        **colours,
    )
    axis.set_title(title)
    _name_bands(axis.yaxis, recording, TICK_BANDS[::2])
    axis.set_ylabel("Hz")
    return image


def _removed_colours() -> dict[str, Any]:
    """Blue to red, through the colour of the page: a light middle would glare on a dark one."""
    from matplotlib.colors import LinearSegmentedColormap

    steps = [(0, "#2a78d0ff"), (0.5, "#2a78d000"), (0.5, "#d63f3600"), (1, "#d63f36ff")]
    cmap = LinearSegmentedColormap.from_list("removed", steps)
    return {"cmap": cmap, "vmin": -REMOVED_LIMIT_DB, "vmax": REMOVED_LIMIT_DB}


def _draw_level(axis: Any, recording: Recording) -> None:
    """Draw the mean of each vector, shaded where it counts as speech."""
    mean_db = recording.frames.mean_db
    edges = np.arange(len(mean_db) + 1) * recording.frames.frame_ms / 1000
    axis.stairs(mean_db, edges, baseline=None, color=_COLOURS[1], linewidth=1)
    axis.fill_between(
        edges[:-1],
        0,
        1,
        where=recording.active,
        step="post",
        color=_INK,
        alpha=0.1,
        linewidth=0,
        transform=axis.get_xaxis_transform(),
    )
    axis.set_title("level of the frames; shaded: speech")
    axis.set_ylabel("mean [dB]")


def _add_scale(figure: Any, image: Any, axes: Any, label: str) -> None:
    figure.colorbar(
        image,
        ax=list(axes),
        location="bottom",
        aspect=60,
        fraction=0.05,
        extend="both",
        label=label,
    )


def _label_spectrum(axis: Any, recording: Recording, title: str, unit: str) -> None:
    axis.set_title(title)
    _name_bands(axis.xaxis, recording, TICK_BANDS)
    axis.set_xlabel("centre of the band [Hz]")
    axis.set_ylabel(unit)
    axis.grid(color=_INK, alpha=0.12, linewidth=0.6)


def _name_bands(axis: Any, recording: Recording, bands: tuple[int, ...]) -> None:
    """Mark some bands of a matplotlib x or y axis with their centres in Hz."""
    axis.set_ticks(bands, [f"{recording.frames.freqs_hz[band]:.0f}" for band in bands])


def _svg_uri(figure: Any) -> str:
    """Return a figure as a data URI: in the colour of the page's text, and always the same."""
    drawn = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    head_end = svg.index(">") + 1
    svg = svg[:head_end] + _SVG_STYLE + svg[head_end:]
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode()


# ------------------------------------------------------------------------------ in words


def _tell_heat_maps(recording: Recording, changed: list[Outcome]) -> str:
    shown = f"Spectral shapes of {recording.name} over {recording.shown_s:.1f} s, 20 bands"
    if not changed:
        return f"{shown}, as extracted; level of the frames."
    told = []
    for outcome in changed:
        removed = (recording.before - outcome.shapes)[recording.active].mean(axis=0)
        high, low = int(removed.argmax()), int(removed.argmin())
        told.append(
            f"{outcome.model} takes away {removed[high]:+.1f} dB at "
            f"{recording.frames.freqs_hz[high]:.0f} Hz and {removed[low]:+.1f} dB at "
            f"{recording.frames.freqs_hz[low]:.0f} Hz"
        )
    return f"{shown}, before and after. On average of the speech {'; '.join(told)}."


def _tell_spectra(recording: Recording) -> str:
    told = [f"{outcome.model} {outcome.off_db:.1f} dB" for outcome in recording.outcomes]
    return (
        f"Mean spectra of the speech of {recording.name}. Distance from the mean of the codebook: "
        f"{', '.join(told)}. Beside them the error of the quantiser in each band."
    )


def _tell_microphone(recording: Recording) -> str:
    f = recording.measured
    bass, mid, treble = f.tone_db
    return (
        f"Mean shape of the speech of {recording.name}, as recorded and equalised; how often each "
        f"level occurs, with the speech at {f.active_dbfs:.0f} dB, the noise at "
        f"{f.noise_dbfs:.0f} dB and the peak at {f.peak_dbfs:.0f} dB of full scale; spectra of "
        f"speech and pauses. Microphone and voice: bass {bass:+.0f}, mid {mid:+.0f}, "
        f"treble {treble:+.0f} dB."
    )
