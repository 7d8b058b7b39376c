# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codec2_eq.bench.measures import RESIDUAL_EDGES_S
from codec2_eq.bench.scores import Scores
from codec2_eq.bench.shaping import BAND_HZ


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
