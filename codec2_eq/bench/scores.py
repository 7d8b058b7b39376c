# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results of evaluations: sums per model, filter and speaker, and the tables made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from codec2_eq.bench import evaluation, quality
from codec2_eq.bench.quality import Measures, Sums
from codec2_eq.errors import Codec2EqError

NONE, ORACLE = "none", "oracle"  # the two ends of the scale, always in the table
_BINS = tuple(
    f"{low:g}-{high:g}"
    for low, high in zip(quality.RESIDUAL_EDGES_S, quality.RESIDUAL_EDGES_S[1:], strict=False)
)


@dataclass
class Scores:
    """Sums by (model, shaping, speaker); models in the order in which they were measured."""

    sums: dict[tuple[str, str, str], Sums] = field(default_factory=dict)

    def add(self, case: evaluation.Case, table: Mapping[tuple[str, str], Sums]) -> None:
        """Add what `evaluation.run_case` gave for a recording."""
        for (model, shaping), sums in table.items():
            key = (model, shaping, case.speaker)
            self.sums[key] = self.sums.get(key, Sums()) + sums

    def names(self, which: int) -> list[str]:
        """Models (0), shapings (1) or speakers (2), each once."""
        return list(dict.fromkeys(key[which] for key in self.sums))

    def of(self, model: str, *, shaping: str | None = None, speaker: str | None = None) -> Sums:
        """Sums of a model, over all shapings and speakers unless one is named."""
        return sum(
            (
                sums
                for (m, f, s), sums in self.sums.items()
                if m == model and shaping in (None, f) and speaker in (None, s)
            ),
            Sums(),
        )

    def row(self, model: str, *, shaping: str | None = None, speaker: str | None = None) -> Row:
        """A model's measures with the shares of the gap it closes."""
        own, none, oracle = (
            self.of(name, shaping=shaping, speaker=speaker).measures()
            for name in (model, NONE, ORACLE)
        )
        return Row(
            own,
            f0_closed=quality.closed(none.f0, own.f0, oracle.f0),
            fv_closed=quality.closed(none.fv, own.fv, oracle.fv),
            d_over_oracle=own.d / oracle.d,
        )

    def intervals(self, model: str, *, draws: int = 1000, seed: int = 0) -> dict[str, list[float]]:
        """95 % intervals of F0, Fv and the shares closed, by drawing speakers with replacement."""
        speakers = self.names(2)
        trios = [[self.of(m, speaker=s) for m in (model, NONE, ORACLE)] for s in speakers]
        terms = np.array([[(t.f0, t.fv, t.count) for t in trio] for trio in trios])
        picks = np.random.default_rng(seed).integers(0, len(speakers), (draws, len(speakers)))
        drawn = terms[picks].sum(axis=1)
        means = drawn[..., :2] / drawn[..., 2:]
        own, none, oracle = means[:, 0], means[:, 1], means[:, 2]
        with np.errstate(invalid="ignore", divide="ignore"):
            closed = (none - own) / (none - oracle)
        low, high = np.percentile(np.hstack([own, closed]), (2.5, 97.5), axis=0)
        names = ("f0", "fv", "f0_closed", "fv_closed")
        return {n: [float(a), float(b)] for n, a, b in zip(names, low, high, strict=True)}

    def as_json(self) -> dict[str, Any]:
        """Everything: per model, and within it per shaping and per speaker."""
        models = self.names(0)
        return {
            model: {
                **self.row(model).as_dict(),
                "intervals": self.intervals(model),
                "shapings": {f: self.row(model, shaping=f).as_dict() for f in self.names(1)},
                "speakers": {s: self.row(model, speaker=s).as_dict() for s in self.names(2)},
            }
            for model in models
        }


@dataclass(frozen=True)
class Row:
    """Measures of a model and its place between none (0) and the oracle (1)."""

    measures: Measures
    f0_closed: float
    fv_closed: float
    d_over_oracle: float

    def as_dict(self) -> dict[str, Any]:
        """Flat, for JSON; what was not measured is None."""
        flat = {**asdict(self.measures), **{k: v for k, v in vars(self).items() if k != "measures"}}
        flat["residual"] = [None if np.isnan(r) else r for r in self.measures.residual]
        return flat


def run(
    cases: Iterable[evaluation.Case],
    models: Mapping[str, quality.Equalise],
    quantise: quality.Quantise,
    report: Callable[[str], object] = lambda line: None,
    *,
    change: bool = False,
) -> Scores:
    """Measure all models on all cases.

    change : each segment comes after another speaker and filter, not from a cold start.
    Raises Codec2EqError if there is nothing to measure, or no other speaker.
    """
    scores = Scores()
    cases = list(cases)
    for index, case in enumerate(cases):
        report(f"{case.speaker} {case.name}")
        before = _other_speaker(cases, index) if change else None
        scores.add(case, evaluation.run_case(case, models, quantise, before))
    if not scores.sums:
        raise Codec2EqError("nothing to measure; give recordings")
    return scores


def _other_speaker(cases: Sequence[evaluation.Case], index: int) -> evaluation.Case:
    """The next case of another speaker."""
    for case in [*cases[index + 1 :], *cases[:index]]:
        if case.speaker != cases[index].speaker:
            return case
    raise Codec2EqError("one speaker only, and a change needs two; give recordings of another")


# ----------------------------------------------------------------------------------- tables


def overall_table(scores: Scores) -> str:
    """One line a model: measures, shares closed with intervals, convergence, honesty."""
    head = ["model", "D", "F0", "closed", "", "Fv", "closed", "", "var", "slope", *_BINS]
    rows = []
    for model in scores.names(0):
        row, span = scores.row(model), scores.intervals(model)
        m = row.measures
        rows.append(
            [
                model,
                f"{m.d:.2f}",
                f"{m.f0:.2f}",
                _percent(row.f0_closed),
                _span(span["f0_closed"]),
                f"{m.fv:.2f}",
                _percent(row.fv_closed),
                _span(span["fv_closed"]),
                f"{m.variance_ratio:.3f}",
                f"{m.slope:.3f}",
                *(f"{r:.1f}" for r in m.residual),
            ]
        )
    return _table(head, rows)


def detail_table(scores: Scores, which: str) -> str:
    """F0 and Fv of every model, a line per "shaping" or per "speaker"."""
    models = scores.names(0)
    head = [which, *(f"{model} F0" for model in models), *(f"{model} Fv" for model in models)]
    rows = []
    for name in scores.names(1 if which == "shaping" else 2):
        found = [scores.of(model, **{which: name}).measures() for model in models]
        rows.append([name, *(f"{m.f0:.1f}" for m in found), *(f"{m.fv:.1f}" for m in found)])
    return _table(head, rows)


def classic_scores(
    samples: Mapping[str, np.ndarray],
    models: Mapping[str, quality.Equalise],
    quantise: quality.Quantise,
) -> dict[str, dict[str, dict[str, float]]]:
    """D over whole files and Fv over speech of each classic sample, unshaped, by model.

    samples : vectors by name, mean included.
    Raises Codec2EqError, naming the sample, where one holds no speech.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, vectors in samples.items():
        try:
            reference = quality.Reference.of(vectors, quantise)
        except Codec2EqError as error:
            raise Codec2EqError(f"{name}: {error}") from error
        found[name] = {}
        for model, equalise in models.items():
            output = equalise(vectors)
            measures = quality.measure(output, reference, quantise).measures()
            found[name][model] = {"d": evaluation.distortion(output, quantise), "fv": measures.fv}
    return found


def classic_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Samples x models, D and Fv, with their means, as Codec 2's author prints such tables."""
    models = list(next(iter(found.values())))
    head = ["sample", *(f"{m} D" for m in models), *(f"{m} Fv" for m in models)]
    rows = [
        [name, *(f"{row[m]['d']:.2f}" for m in models), *(f"{row[m]['fv']:.2f}" for m in models)]
        for name, row in found.items()
    ]
    means = [[np.mean([row[m][k] for row in found.values()]) for m in models] for k in ("d", "fv")]
    rows.append(["mean", *(f"{v:.2f}" for part in means for v in part)])
    return _table(head, rows)


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


# --------------------------------------------------------------------------------- pictures


def draw(scores: Scores, spectra: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """Draw F0 per shaping, the residual against time, and mean spectra before and after.

    spectra : by shaping, the mean shape that the filter made and the mean that the last model
    made of it, (K,) dB each. Returns a matplotlib figure.
    """
    from codec2_eq import pictures

    figure, (bars, lines, curves) = pictures.panels("Removing spectral shaping", 3)
    models = scores.names(0)
    for i, model in enumerate(models):
        f0 = [scores.of(model, shaping=f).measures().f0 for f in scores.names(1)]
        places = np.arange(len(f0)) + (i + 0.5) / len(models) * 0.8 - 0.4
        colour = (*pictures.COLOURS, "#555555", "#000000")[i % 7]
        bars.barh(places, f0, 0.8 / len(models), color=colour, label=model)
        residual = scores.of(model).measures().residual
        lines.stairs(residual, quality.RESIDUAL_EDGES_S, color=colour, label=model)
    bars.set_yticks(range(len(scores.names(1))), scores.names(1))
    bars.set_xlabel("F0 [dB$^2$]")
    bars.legend(frameon=False)
    lines.set(xlabel="speech heard since a cold start [s]", ylabel="residual [dB$^2$]")
    for before, after in spectra.values():
        curves.plot(evaluation.BAND_HZ, before, color="#b8b8b8", linewidth=1)
        curves.plot(evaluation.BAND_HZ, after, color=pictures.COLOURS[0], linewidth=1)
    curves.set(xscale="log", xlabel="frequency [Hz]", ylabel="mean shape, grey before [dB]")
    curves.set_xticks([250, 500, 1000, 2000], ["250", "500", "1000", "2000"])
    curves.minorticks_off()
    return figure
