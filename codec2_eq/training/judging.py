# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured of `channel_eq`: after each epoch, and for its card and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from codec2_eq import pictures
from codec2_eq.bench.cases import Case, distortion, run_case
from codec2_eq.bench.measures import (
    RESIDUAL_EDGES_S,
    Equalise,
    Measures,
    Quantise,
    Sums,
    closed,
    quantise_700c,
    score,
)
from codec2_eq.equalisers.network import Network

NAME = "channel_eq"
PICTURES = ("loss", "convergence")


def judge(network: Network, cases: Sequence[Case]) -> Measures:
    """Measure a network on all segments, speakers and filters together."""
    quantise = quantise_700c()
    return sum((sums for _, sums in _scores(network, cases, quantise)), Sums()).measures()


def _scores(
    network: Network, cases: Sequence[Case], quantise: Quantise
) -> Iterator[tuple[str, Sums]]:
    for case in cases:
        for name, vectors in case.shaped.items():
            yield name, score(network, vectors, case.reference, quantise)


def figures(
    network: Network, cases: Sequence[Case], classic: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Figures of the card: the measures, shares closed, and the classic samples' mean D."""
    quantise = quantise_700c()
    total: dict[str, Sums] = {}
    for case in cases:
        models: dict[str, Equalise] = {NAME: network, "none": lambda vectors: vectors}
        for (model, _), sums in run_case(case, models, quantise).items():
            total[model] = total.get(model, Sums()) + sums
    found = {model: sums.measures() for model, sums in total.items()}
    own, none, oracle = found[NAME], found["none"], found["oracle"]
    told: dict[str, Any] = {
        "canonical_error_db2": round(own.canonical_error, 2),
        "shape_error_db2": round(own.shape_error, 2),
        "d_db2": round(own.d, 2),
        "canonical_closed": round(
            closed(none.canonical_error, own.canonical_error, oracle.canonical_error), 3
        ),
        "shape_closed": round(closed(none.shape_error, own.shape_error, oracle.shape_error), 3),
        "d_over_oracle": round(own.d / oracle.d, 3),
        "variance_ratio": round(own.variance_ratio, 3),
        "slope": round(own.slope, 3),
        "residual_db2": [round(r, 1) for r in own.residual],
    }
    if classic:
        distortions = [distortion(network(v), quantise) for v in classic.values()]
        told["classic_d_db2"] = round(float(np.mean(distortions)), 2)
    return told


def draw(
    network: Network, cases: Sequence[Case], history: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Return the pictures: the figures of each epoch, and what is left of the shaping over time."""
    measures = judge(network, cases)
    figure, (axis,) = pictures.panels("channel_eq: what is left of the shaping", 1)
    edges = RESIDUAL_EDGES_S
    axis.stairs(measures.residual, edges, color=pictures.COLOURS[0], linewidth=1.8)
    axis.set(
        xlabel="speech heard since a cold start [s]", ylabel="residual [dB$^2$]", ylim=(0, None)
    )
    return {
        "loss": pictures.loss_curves("channel_eq: training", history, "dB$^2$"),
        "convergence": figure,
    }
