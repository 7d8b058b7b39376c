# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codec2_eq.bench.measures import RESIDUAL_EDGES_S
from codec2_eq.bench.scores import Scores
from codec2_eq.bench.shaping import BAND_HZ
from codec2_eq.bench.streams import LEARNT_S, HeardScores


def draw(scores: Scores, spectra: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """Draw canonical error by shaping, residual by time, mean spectra before and after.

    spectra : by shaping, the mean shape that the filter made and the mean that the last model
    made of it, (K,) dB each. Returns a matplotlib figure.
    """
    from codec2_eq import pictures

    figure, (bars, lines, curves) = pictures.panels("Removing spectral shaping", 3)
    models = scores.names(0)
    for i, model in enumerate(models):
        canonical_error = [
            scores.of(model, shaping=f).measures().canonical_error for f in scores.names(1)
        ]
        places = np.arange(len(canonical_error)) + (i + 0.5) / len(models) * 0.8 - 0.4
        colour = (*pictures.COLOURS, "#555555", "#000000")[i % 7]
        bars.barh(places, canonical_error, 0.8 / len(models), color=colour, label=model)
        residual = scores.of(model).measures().residual
        lines.stairs(residual, RESIDUAL_EDGES_S, color=colour, label=model)
    bars.set_yticks(range(len(scores.names(1))), scores.names(1))
    bars.set_xlabel("canonical error [dB$^2$]")
    bars.legend(frameon=False)
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
    for i, encoder in enumerate(encoders):
        colour = (*pictures.COLOURS, "#555555", "#000000")[i % 7]
        heard = [scores.of(encoder, [shaping]).all.total for shaping in shapings]
        style = "--" if i // 7 % 2 else "-"
        lines.plot(heard, range(len(shapings)), style, marker="o", color=colour, label=encoder)
    lines.set_yticks(range(len(shapings)), shapings)
    lines.invert_yaxis()
    lines.set_xlabel("H [dB$^2$]")
    lines.legend(frameon=False, fontsize=7)
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
    bars.legend(frameon=False)
    return figure
