# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures of scores."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np

from codec2_eq.bench.measures import RESIDUAL_EDGES_S
from codec2_eq.bench.scores import Scores
from codec2_eq.bench.shaping import BAND_HZ
from codec2_eq.bench.streams import LEARNT_S, HeardScores
from codec2_eq.pictures import COLOURS

_COLOURS = (*COLOURS, "#555555", "#000000", "#56b4e9", "#7b3294", "#8c564b")


def draw(scores: Scores, spectra: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """Draw canonical error by shaping, residual by time, mean spectra before and after.

    spectra : by shaping, the mean shape that the filter made and the mean that the last model
    made of it, (K,) dB each. Returns a matplotlib figure.
    """
    from codec2_eq import pictures

    figure, (dots, lines, curves) = pictures.panels("Removing spectral shaping", 3)
    shapings = scores.names(1)
    for colour, model in zip(cycle(_COLOURS), scores.names(0), strict=False):
        errors = [scores.of(model, shaping=f).measures().canonical_error for f in shapings]
        dots.plot(errors, range(len(errors)), "o", color=colour, label=model, markersize=5)
        residual = scores.of(model).measures().residual
        lines.stairs(residual, RESIDUAL_EDGES_S, baseline=None, color=colour, label=model)
    dots.set_yticks(range(len(shapings)), shapings)
    dots.invert_yaxis()
    dots.set_xlabel("canonical error [dB$^2$]")
    dots.legend(frameon=False, fontsize=8)
    lines.set(xlabel="speech heard since a cold start [s]", ylabel="residual [dB$^2$]")
    for before, after in spectra.values():
        curves.plot(BAND_HZ, before, color="#b8b8b8", linewidth=1)
        curves.plot(BAND_HZ, after, color=pictures.COLOURS[0], linewidth=1)
    curves.set(xscale="log", xlabel="frequency [Hz]", ylabel="mean shape, grey before [dB]")
    curves.set_xticks([250, 500, 1000, 2000], ["250", "500", "1000", "2000"])
    curves.minorticks_off()
    return figure


def draw_heard(scores: HeardScores) -> Any:
    """Draw H per shaping, and its level and shape parts over the filters.

    Returns a matplotlib figure.
    """
    from codec2_eq import pictures

    figure, (lines, bars) = pictures.panels("What is heard of 700C streams", 2)
    encoders, shapings = scores.names(0), scores.names(1)
    for colour, encoder in zip(cycle(_COLOURS), encoders, strict=False):
        heard = [scores.of(encoder, [shaping]).all.total for shaping in shapings]
        lines.plot(heard, range(len(shapings)), "o-", color=colour, label=encoder, linewidth=0.8)
    lines.set_yticks(range(len(shapings)), shapings)
    lines.invert_yaxis()
    lines.set_xlabel("H [dB$^2$]")
    above: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 3, "frameon": False}
    lines.legend(fontsize=7, **above)
    found = [scores.of(encoder, scores.shapings()) for encoder in encoders]
    places = np.arange(len(encoders))
    level = np.array([passages.all.level for passages in found])
    bars.barh(places, level, color=pictures.COLOURS[1], label="level")
    bars.barh(
        places,
        [passages.all.shape for passages in found],
        left=level,
        color=pictures.COLOURS[0],
        label="shape",
    )
    learnt = [passages.learnt.total for passages in found]
    bars.plot(learnt, places, "k|", markersize=14, label=f"from {LEARNT_S:g} s on")
    bars.set_yticks(places, encoders)
    bars.invert_yaxis()
    bars.set_xlabel("H over the filters [dB$^2$]")
    bars.legend(fontsize=7, **above)
    return figure
