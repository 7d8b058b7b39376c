# SPDX-License-Identifier: LGPL-2.1-or-later
"""A recording's curve, levels and spectrum in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codec2_eq.inspection.measurements import Measurements
from codec2_eq.inspection.meters import HUM_HARMONICS, LEVEL_EDGES_DBFS
from codec2_eq.pictures import COLOURS, panels

LOWEST_DBFS = -90.0
LOWEST_HZ = 30.0


def draw(measured: Measurements) -> Any:
    """Return a matplotlib figure of three panels; needs the extra `report`."""
    figure, axes = panels(measured.name, 3)
    draw_into(axes, measured)
    return figure


def draw_into(axes: Sequence[Any], measured: Measurements) -> None:
    """Draw the curve, the levels and the spectrum into three matplotlib axes."""
    for axis, drawn in zip(axes, (_curve, _levels, _spectrum), strict=True):
        drawn(axis, measured)


def _curve(axis: Any, f: Measurements) -> None:
    axis.plot(f.freqs_hz, f.mean_curve_db, color=COLOURS[1], label="as recorded")
    axis.plot(f.freqs_hz, f.equalised_curve_db, color=COLOURS[0], label="equalised")
    axis.set(title="mean shape of active speech", xlabel="frequency [Hz]", ylabel="dB")
    axis.legend(frameon=False)


def _levels(axis: Any, f: Measurements) -> None:
    share = 100 * f.level_counts / max(1, f.level_counts.sum())
    axis.stairs(share, LEVEL_EDGES_DBFS, fill=True, color=COLOURS[0], alpha=0.6)
    lines = ((f.active_dbfs, "speech"), (f.noise_dbfs, "noise"), (f.peak_dbfs, "peak"))
    for row, (level, word) in enumerate(lines, 1):  # so that the words do not overlap
        axis.axvline(max(level, LOWEST_DBFS), color=COLOURS[1], linewidth=1)
        axis.annotate(
            word,
            (max(level, LOWEST_DBFS), 1),
            (2, -12 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
        )
    axis.set(title="levels of 20 ms", xlabel="dBFS", ylabel="% of the time")
    axis.set_xlim(LOWEST_DBFS, 3)
    shown = share[LEVEL_EDGES_DBFS[:-1] >= LOWEST_DBFS]  # digital silence would dwarf it
    axis.set_ylim(0, max(1.0, 1.3 * shown.max(initial=0)))


def _spectrum(axis: Any, f: Measurements) -> None:
    shown = f.spectrum_hz >= LOWEST_HZ
    hz = f.spectrum_hz[shown]
    axis.semilogx(hz, f.speech_spectrum_db[shown], color=COLOURS[0], label="speech")
    axis.semilogx(hz, f.quiet_spectrum_db[shown], color=COLOURS[2], label="pauses")
    for edge in (f.low_edge_hz, f.high_edge_hz):
        if edge is not None:
            axis.axvline(edge, color=COLOURS[1], linestyle="--", label=f"edge at {edge:.0f} Hz")
    if f.hum_hz is not None:
        for line in f.hum_hz * np.arange(1, HUM_HARMONICS + 1):
            axis.axvline(line, color=COLOURS[3], linewidth=0.8)
        axis.plot([], [], color=COLOURS[3], label=f"hum of {f.hum_hz:.0f} Hz")
    axis.set(title="spectrum", xlabel="frequency [Hz]", ylabel="dBFS a bin")
    axis.legend(frameon=False)
