# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables of scores, as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from codec2_eq.bench.measures import RESIDUAL_EDGES_S
from codec2_eq.bench.scores import Scores
from codec2_eq.bench.streams import LEARNT_S, UNSHAPED, HeardScores
from codec2_eq.bench.words import WordScores

_BINS = tuple(f"{low:g}-{high:g}" for low, high in pairwise(RESIDUAL_EDGES_S))


def overall_table(scores: Scores) -> str:
    """One line per model: measures, shares closed with intervals, convergence, honesty."""
    head = [
        "model",
        "D",
        "canonical_error",
        "closed",
        "",
        "shape_error",
        "closed",
        "",
        "var",
        "slope",
        *_BINS,
    ]
    rows = []
    for model in scores.names(0):
        row, span = scores.row(model), scores.intervals(model)
        m = row.measures
        rows.append(
            [
                model,
                f"{m.d:.2f}",
                f"{m.canonical_error:.2f}",
                _percent(row.canonical_closed),
                _span(span["canonical_closed"]),
                f"{m.shape_error:.2f}",
                _percent(row.shape_closed),
                _span(span["shape_closed"]),
                f"{m.variance_ratio:.3f}",
                f"{m.slope:.3f}",
                *("-" if np.isnan(r) else f"{r:.1f}" for r in m.residual),
            ]
        )
    return _table(head, rows)


def detail_table(scores: Scores, which: str) -> str:
    """Canonical and shape error of every model, a line per "shaping" or per "speaker"."""
    models = scores.names(0)
    kinds = ("canonical_error", "shape_error")
    head = [which, *(f"{model} {kind}" for kind in kinds for model in models)]
    rows = []
    for name in scores.names(1 if which == "shaping" else 2):
        found = [scores.of(model, **{which: name}).measures() for model in models]
        rows.append(
            [
                name,
                *(f"{m.canonical_error:.1f}" for m in found),
                *(f"{m.shape_error:.1f}" for m in found),
            ]
        )
    return _table(head, rows)


def classic_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Samples x models, D and shape error, with their means, as Codec 2's author does."""
    models = list(next(iter(found.values())))
    head = ["sample", *(f"{m} {kind}" for kind in ("D", "shape_error") for m in models)]
    rows = [
        [
            name,
            *(f"{row[m]['d']:.2f}" for m in models),
            *(f"{row[m]['shape_error']:.2f}" for m in models),
        ]
        for name, row in found.items()
    ]
    means = [
        [np.mean([row[m][k] for row in found.values()]) for m in models]
        for k in ("d", "shape_error")
    ]
    rows.append(["mean", *(f"{v:.2f}" for part in means for v in part)])
    return _table(head, rows)


def heard_table(scores: HeardScores) -> str:
    """One line per encoder: H and its parts, unshaped and over the filters, with intervals."""
    parts = ("H", "95 %", "level", "shape", f"from {LEARNT_S:g} s")
    head = ["encoder", *(f"{where} {part}" for where in ("unshaped", "filters") for part in parts)]
    rows = []
    for encoder in scores.names(0):
        row = [encoder]
        for shapings in ([UNSHAPED], scores.shapings()):
            found, span = scores.of(encoder, shapings), scores.interval(encoder, shapings)
            row += [
                f"{found.all.total:.2f}",
                f"({span[0]:.1f}..{span[1]:.1f})",
                f"{found.all.level:.2f}",
                f"{found.all.shape:.2f}",
                f"{found.learnt.total:.2f}",
            ]
        rows.append(row)
    return _table(head, rows)


def heard_detail_table(scores: HeardScores, which: str) -> str:
    """H of every encoder, a line per "shaping" or, over all filters, per "speaker"."""
    encoders = scores.names(0)
    rows = []
    for name in scores.names(1 if which == "shaping" else 2):
        place = ([name],) if which == "shaping" else (scores.shapings(), [name])
        rows.append([name, *(f"{scores.of(e, *place).all.total:.1f}" for e in encoders)])
    return _table([which, *encoders], rows)


def words_table(scores: WordScores) -> str:
    """Word error rates with intervals: a line per encoder, a column per filter."""
    encoders, shapings = (list(dict.fromkeys(names)) for names in zip(*scores.errors, strict=True))
    rows = []
    for encoder in encoders:
        row = [encoder]
        for shaping in shapings:
            low, high = scores.interval(encoder, shaping)
            rate = scores.rate(encoder, shaping)
            row.append(f"{100 * rate:.1f}% ({100 * low:.0f}..{100 * high:.0f})")
        rows.append(row)
    return _table(["encoder", *shapings], rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _span(ends: Sequence[float]) -> str:
    return f"({100 * ends[0]:.0f}..{100 * ends[1]:.0f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    lines = []
    for line in (head, *rows):
        cells = [
            line[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_csv(figures: Mapping[str, Any]) -> str:
    """Nested figures as CSV: a row for each group, named by its keys from the outside in.

    figures : dictionaries within each other, the innermost with numbers; lists are left out
    """
    rows = {"/".join(way): numbers for way, numbers in _groups(figures, ())}
    columns = list(dict.fromkeys(name for numbers in rows.values() for name in numbers))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["of", *columns])
    writer.writerows([way, *(numbers.get(c) for c in columns)] for way, numbers in rows.items())
    return text.getvalue()


def _groups(
    figures: Mapping[str, Any], way: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, float]]]:
    if numbers := {n: v for n, v in figures.items() if isinstance(v, (int, float))}:
        yield way, numbers
    for name, inner in figures.items():
        if isinstance(inner, Mapping):
            yield from _groups(inner, (*way, name))
