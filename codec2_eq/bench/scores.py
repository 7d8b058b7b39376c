# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results of evaluations: sums per model, filter and speaker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from codec2_eq.bench.cases import Case, distortion, run_case
from codec2_eq.bench.measures import (
    Equalise,
    Measures,
    Quantise,
    Reference,
    Sums,
    closed,
    measure,
)
from codec2_eq.errors import Codec2EqError

NONE, ORACLE = "none", "oracle"  # the two ends of the scale, always in the table


@dataclass
class Scores:
    """Sums by (model, shaping, speaker); models in the order in which they were measured."""

    sums: dict[tuple[str, str, str], Sums] = field(default_factory=dict)

    def add(self, case: Case, table: Mapping[tuple[str, str], Sums]) -> None:
        """Add what `cases.run_case` gave for a recording."""
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
            canonical_closed=closed(
                none.canonical_error, own.canonical_error, oracle.canonical_error
            ),
            shape_closed=closed(none.shape_error, own.shape_error, oracle.shape_error),
            d_over_oracle=own.d / oracle.d,
        )

    def intervals(self, model: str, *, draws: int = 1000, seed: int = 0) -> dict[str, list[float]]:
        """95 % intervals of both errors and shares closed: speakers drawn with replacement."""
        speakers = self.names(2)
        trios = [[self.of(m, speaker=s) for m in (model, NONE, ORACLE)] for s in speakers]
        terms = np.array(
            [[(t.canonical_error, t.shape_error, t.count) for t in trio] for trio in trios]
        )
        picks = np.random.default_rng(seed).integers(0, len(speakers), (draws, len(speakers)))
        drawn = terms[picks].sum(axis=1)
        means = drawn[..., :2] / drawn[..., 2:]
        own, none, oracle = means[:, 0], means[:, 1], means[:, 2]
        with np.errstate(invalid="ignore", divide="ignore"):
            closed = (none - own) / (none - oracle)
        low, high = np.percentile(np.hstack([own, closed]), (2.5, 97.5), axis=0)
        names = ("canonical_error", "shape_error", "canonical_closed", "shape_closed")
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
    canonical_closed: float
    shape_closed: float
    d_over_oracle: float

    def as_dict(self) -> dict[str, Any]:
        """Flat, for JSON; what was not measured is None."""
        flat = {**asdict(self.measures), **{k: v for k, v in vars(self).items() if k != "measures"}}
        flat["residual"] = [None if np.isnan(r) else r for r in self.measures.residual]
        return flat


def run(
    cases: Iterable[Case],
    models: Mapping[str, Equalise],
    quantise: Quantise,
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
        scores.add(case, run_case(case, models, quantise, before))
    if not scores.sums:
        raise Codec2EqError("", "nothing to measure", "give recordings")
    return scores


def _other_speaker(cases: Sequence[Case], index: int) -> Case:
    """The next case of another speaker."""
    for case in [*cases[index + 1 :], *cases[:index]]:
        if case.speaker != cases[index].speaker:
            return case
    raise Codec2EqError(
        "", "there is one speaker, and a change needs two", "give recordings of another"
    )


def classic_scores(
    samples: Mapping[str, np.ndarray],
    models: Mapping[str, Equalise],
    quantise: Quantise,
) -> dict[str, dict[str, dict[str, float]]]:
    """D over whole files and shape error over speech of each classic sample, unshaped, by model.

    samples : vectors by name, mean included.
    Raises Codec2EqError, naming the sample, where one holds no speech.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, vectors in samples.items():
        try:
            reference = Reference.of(vectors, quantise)
        except Codec2EqError as error:
            raise error.of(name) from error
        found[name] = {}
        for model, equalise in models.items():
            output = equalise(vectors)
            measures = measure(output, reference, quantise).measures()
            found[name][model] = {
                "d": distortion(output, quantise),
                "shape_error": measures.shape_error,
            }
    return found
