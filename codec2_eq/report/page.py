# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page to look at and listen to: what equalisers do to recordings, and how 700C then sounds.

One HTML file that needs nothing else: pictures and sound lie within it. The same command gives the
same bytes, so that two pages can be compared. (Within one process all decoders draw their random
phases from one generator, so there a second page sounds alike, but has other samples.)
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.writer import WavWriter
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.equalisers.equaliser import (
    Equaliser,
    available_models,
    load_equaliser,
    model_names,
)
from codec2_eq.errors import Codec2EqError, require_extra
from codec2_eq.files import PathLike, display_name, open_output
from codec2_eq.report.examine import DEFAULT_SECONDS, Outcome, Recording, examine, printable
from codec2_eq.stream700c.frames import FRAME_MS

DEFAULT_MODELS = ("none", "700c", "cmn", "channel_eq")
"""Equalisers that are shown by default, if available."""

SECONDS_LIMIT = 600.0
"""Longest part of a recording that can be shown [s]: no picture has more pixels."""

SOUND_BYTES_LIMIT = 64 << 20
"""Most sound on one page; more opens slowly in any browser. Later recordings have none."""

_TEMPLATE = "page.html.j2"
_STREAMS = {"none": "c2enc", "700c": "c2enc --eq"}
"""Whose bytes the streams of these equalisers are."""

_FIGURES: dict[str, Callable[[Outcome], str]] = {
    "H [dB²]": lambda outcome: f"{outcome.heard.total:.1f}",
    "of it level": lambda outcome: f"{outcome.heard.level:.1f}",
    "of it shape": lambda outcome: f"{outcome.heard.shape:.1f}",
    "D on speech [dB²]": lambda outcome: f"{outcome.distortion:.2f}",
    "D on all frames [dB²]": lambda outcome: f"{outcome.distortion_all:.2f}",
    "mean spectrum off the codebook's [dB]": lambda outcome: f"{outcome.off_db:.1f}",
}


@dataclass(frozen=True)
class Failure:
    """A recording that could not be examined, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """What a page holds; the counts are of recordings."""

    recordings: int
    failures: tuple[Failure, ...]
    models: tuple[str, ...]
    n_bytes: int
    silent: int  # recordings whose sound was left out


def write_report(
    inputs: Sequence[PathLike],
    output: PathLike,
    *,
    models: Sequence[str] | None = None,
    seconds: float = DEFAULT_SECONDS,
    channel: int | str = "mix",
    raw: bool = False,
    force: bool = False,
    on_failure: Callable[[Failure], None] = lambda failure: None,
) -> Summary:
    """Examine recordings and write the page; it appears only when it is whole.

    inputs : audio files, - for stdin;  output : the page, - for stdout
    models : equalisers by name or path (default: `DEFAULT_MODELS`)
    seconds : how much of each recording is shown;  channel, raw : as for `stream_audio`
    on_failure : called for each recording that fails; the others go on
    Raises Codec2EqError for an unknown model, an output that exists, or if the extra is missing.
    """
    if not FRAME_MS / 1000 <= seconds <= SECONDS_LIMIT:
        raise Codec2EqError(
            f"{seconds:g} seconds of each recording",
            f"from {FRAME_MS / 1000} to {SECONDS_LIMIT:g} can be shown",
        )
    require_extra("report", "report", "jinja2", "matplotlib")
    names = tuple(dict.fromkeys(models or default_models()))
    equalisers = {name: load_equaliser(name, frame_ms=FRAME_MS) for name in names}
    with open_output(output, force=force) as out:
        entries: list[Recording | Failure] = []
        for path in inputs:
            try:
                entry: Recording | Failure = examine(
                    path, equalisers, seconds=seconds, channel=channel, raw=raw
                )
            except Codec2EqError as error:
                entry = _failure(path, error)
                on_failure(entry)
            entries.append(entry)
        page = _render(entries, equalisers, seconds)
        out.write(page.content)
    failures = tuple(entry for entry in entries if isinstance(entry, Failure))
    n_good = len(entries) - len(failures)
    return Summary(n_good, failures, names, len(page.content), page.silent)


def default_models() -> list[str]:
    """Return those of `DEFAULT_MODELS` that are available."""
    there = model_names()
    return [name for name in DEFAULT_MODELS if name in there]


def _failure(path: PathLike, error: Codec2EqError) -> Failure:
    """Keep a failure by the name of its file, which need not be said twice."""
    name = display_name(path)
    return Failure(printable(name), printable(error.about(name)))


@dataclass(frozen=True)
class _Page:
    content: bytes
    silent: int


@dataclass(frozen=True)
class _Player:
    """A sound: what it is, and a data URI."""

    label: str
    uri: str


@dataclass(frozen=True)
class _Section:
    """One recording as the template shows it; no players if the page has enough sound."""

    recording: Recording
    heat_maps: Any
    spectra: Any
    microphone: Any
    players: list[_Player]


def _render(
    entries: Sequence[Recording | Failure], equalisers: dict[str, Equaliser], seconds: float
) -> _Page:
    from importlib.metadata import version
    from importlib.resources import files

    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("codec2_eq.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    sections = _sections([entry for entry in entries if isinstance(entry, Recording)])
    text = environment.from_string(template).render(
        sections=sections,
        failures=[entry for entry in entries if isinstance(entry, Failure)],
        models=_describe(equalisers),
        means=_means([section.recording for section in sections]),
        figures=_FIGURES,
        seconds=seconds,
        version=version("codec2_eq"),
    )
    return _Page(text.encode(), sum(not section.players for section in sections))


def _sections(recordings: Sequence[Recording]) -> list[_Section]:
    from codec2_eq.report.pictures import heat_maps, microphone, spectra

    sections = []
    n_left = SOUND_BYTES_LIMIT
    for recording in recordings:
        sounds = _players(recording)
        n_left -= sum(len(sound.uri) for sound in sounds)
        sections.append(
            _Section(
                recording,
                heat_maps(recording),
                spectra(recording),
                microphone(recording),
                sounds if n_left >= 0 else [],
            )
        )
    return sections


def _players(recording: Recording) -> list[_Player]:
    decoded = [
        _Player(_heard_as(outcome.model), _wav_uri(outcome.decoded))
        for outcome in recording.outcomes
    ]
    return [_Player("original, 8 kHz", _wav_uri(recording.samples)), *decoded]


def _heard_as(model: str) -> str:
    """Name a stream by its equaliser, and by the encoder whose bytes it has."""
    return f"700C, {model}" + (f" (the stream of {_STREAMS[model]})" if model in _STREAMS else "")


def _wav_uri(samples: NDArray[np.int16]) -> str:
    """Return speech at 8 kHz as a data URI."""
    content = io.BytesIO()
    wav = WavWriter(content, rate=RATE_HZ)
    wav.write(samples)
    wav.finish()
    return "data:audio/wav;base64," + b64encode(content.getvalue()).decode()


def _describe(equalisers: dict[str, Equaliser]) -> list[dict[str, str]]:
    """Say what each model does and, for a network, the hash of its weights."""
    does = {facts.name: facts.does for facts in available_models()}
    return [
        {
            "name": printable(name),
            "does": does.get(name, f"the network {equaliser.name}"),
            "sha256": equaliser.sha256,
        }
        for name, equaliser in equalisers.items()
    ]


def _means(recordings: Sequence[Recording]) -> list[float]:
    """Return the mean of H over the recordings, each counted alike, for each model."""
    table = [[outcome.heard.total for outcome in r.outcomes] for r in recordings]
    return list(np.mean(table, axis=0)) if table else []
