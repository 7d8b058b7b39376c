# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page to look at and listen to: what equalisers do to recordings, and how 700C then sounds.

One HTML file that needs nothing else: pictures and sound lie within it. The same command gives the
same bytes, so that two pages can be compared. (Within one process all decoders draw their random
phases from one generator, so there a second page sounds alike, but has other samples.)
"""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import FULL_SCALE
from codec2_eq.audio.stream import CLIPPED_SHARE, stream_audio
from codec2_eq.audio.wav import WavWriter
from codec2_eq.bench.measures import speech_activity
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.equalisers.equaliser import (
    Equaliser,
    available_models,
    load_equaliser,
    model_names,
)
from codec2_eq.errors import Codec2EqError, require_extra
from codec2_eq.extraction import extract
from codec2_eq.files import PathLike, display_name, open_output
from codec2_eq.libcodec2 import codebook_700c
from codec2_eq.records import RateK
from codec2_eq.stream700c.codec import FrameEncoder, decode
from codec2_eq.stream700c.frames import FRAME_MS
from codec2_eq.vq.quantiser import Quantiser, VqStatistics, zero_mean

DEFAULT_MODELS = ("none", "700c", "cmn", "mean_removal", "channel_eq")
"""Equalisers that are shown unless others are asked for; of those that are there."""

DEFAULT_SECONDS = 12.0
"""How much of a recording is shown and heard [s]: a page should open quickly."""

SECONDS_LIMIT = 600.0
"""Longest part of a recording that can be shown [s]: no picture has more pixels."""

SOUND_BYTES_LIMIT = 64 << 20
"""Sound on one page; more is slow to open in any browser. Later recordings come without."""

_READ_S = 0.5  # how much is read at a time: what is read beyond the cut is wasted
_TEMPLATE = "page.html.j2"

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one equaliser makes of one recording.

    model : as it was asked for
    shapes : (n, K) equalised vectors, mean removed, dB
    distortion : D on the frames with speech, dB^2 per band; distortion_all : on all frames
    band_error_db : (K,) root mean square error of the quantiser in each band, on speech
    spectrum_db : (K,) mean of the shapes on speech; off_db : its rms distance from the
        codebook's mean
    decoded : int16 at 8 kHz, what a 700C decoder makes of the stream
    """

    model: str
    shapes: Floats
    distortion: float
    distortion_all: float
    band_error_db: Floats
    spectrum_db: Floats
    off_db: float
    decoded: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording, as far as it is shown.

    name : as messages have it;  rate_hz, channels : of the file
    duration_s : of the whole file, None if its header does not tell
    clipped_share : share of the samples at full scale
    samples : (m,) int16 at 8 kHz;  frames : its rate-K vectors at 40 ms
    active : (n,) bool, frames that hold speech, at least one
    before : (n, K) shapes, mean removed, dB
    """

    name: str
    rate_hz: float
    channels: int
    duration_s: float | None
    is_cut: bool
    clipped_share: float
    samples: NDArray[np.int16]
    frames: RateK
    active: NDArray[np.bool_]
    before: Floats
    outcomes: tuple[Outcome, ...]

    @property
    def shown_s(self) -> float:
        """How much of it is shown, s."""
        return len(self.samples) / RATE_HZ

    @property
    def facts(self) -> dict[str, str]:
        """What there is to know of it, in words for people."""
        voiced = self.frames.voiced & self.active
        f0_hz = self.frames.f0_hz[voiced]
        clipped = f"{self.clipped_share:.2%} of the samples"
        if self.clipped_share > CLIPPED_SHARE:
            clipped += ": distorted, its spectra too"
        return {
            "Length": self._length(),
            "File": f"{self.rate_hz:g} Hz, {_plural(self.channels, 'channel')}",
            "Level (full scale is 0 dB)": _level(self.samples),
            "At full scale": clipped,
            "Speech": f"{self.active.mean():.0%} of the time",
            "Voiced": f"{voiced.sum() / self.active.sum():.0%} of the speech",
            "Median pitch": f"{np.median(f0_hz):.0f} Hz" if f0_hz.size else "no voiced speech",
        }

    def _length(self) -> str:
        if not self.is_cut:
            return f"{self.shown_s:.2f} s"
        whole = "more" if self.duration_s is None else f"{self.duration_s:.2f} s"
        return f"the first {self.shown_s:.2f} s of {whole}"


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


# ------------------------------------------------------------------------------- the page


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
            f"{seconds:g} seconds of each recording: from {FRAME_MS / 1000} to {SECONDS_LIMIT:g} "
            "can be shown"
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
    """Return those of `DEFAULT_MODELS` that are there."""
    there = model_names()
    return [name for name in DEFAULT_MODELS if name in there]


def _failure(path: PathLike, error: Codec2EqError) -> Failure:
    """Keep a failure by the name of its file, which need not be said twice."""
    name = display_name(path)
    return Failure(_printable(name), _printable(error.about(name)))


# ------------------------------------------------------------------------- one recording


def examine(
    path: PathLike,
    equalisers: dict[str, Equaliser],
    *,
    seconds: float = DEFAULT_SECONDS,
    channel: int | str = "mix",
    raw: bool = False,
) -> Recording:
    """Analyse the first seconds of a recording, and equalise and code it with each model.

    Raises Codec2EqError if it cannot be read, is shorter than one frame or silent.
    """
    limit = round(seconds * RATE_HZ)
    with stream_audio(path, channel=channel, raw=raw, block_s=_READ_S) as stream:
        audio = _first(stream, limit + 1)
        samples = np.clip(np.rint(audio[:limit]), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        frames = extract(audio[:limit], frame_ms=FRAME_MS, full_scale=FULL_SCALE)
        if not len(frames):
            raise Codec2EqError(
                stream.name, f"{len(audio) / RATE_HZ:.3f} s long, at least {FRAME_MS} ms needed"
            )
        active = speech_activity(frames.mean_db)
        if not active.any():
            raise Codec2EqError(
                stream.name,
                f"silence in its first {len(samples) / RATE_HZ:.2f} s",
                "show a recording of speech",
            )
        outcomes = tuple(_outcome(*item, frames, active) for item in equalisers.items())
        return Recording(
            name=_printable(stream.name),
            rate_hz=stream.rate,
            channels=stream.channels,
            duration_s=stream.duration_s,
            is_cut=len(audio) > limit,
            clipped_share=stream.clipped_share,
            samples=samples,
            frames=frames,
            active=active,
            before=zero_mean(frames.vectors),
            outcomes=outcomes,
        )


def _first(blocks: Iterable[Floats], n_samples: int) -> Floats:
    """Join blocks (m,) up to n_samples; what follows is not read."""
    parts = [np.empty(0, np.float32)]
    n_held = 0
    for block in blocks:
        parts.append(block)
        n_held += len(block)
        if n_held >= n_samples:
            break
    return np.concatenate(parts)[:n_samples]


def _outcome(model: str, equaliser: Equaliser, frames: RateK, active: NDArray[np.bool_]) -> Outcome:
    quantiser = Quantiser(codebook_700c())
    shapes = zero_mean(equaliser(frames.vectors))
    quantised, indexes = quantiser.quantise(shapes)
    on_speech, on_all = VqStatistics(quantiser), VqStatistics(quantiser)
    on_speech.add(shapes[active], quantised[active], indexes[active])
    on_all.add(shapes, quantised, indexes)
    error = (shapes - quantised)[active]
    spectrum_db = shapes[active].mean(axis=0)
    return Outcome(
        model=_printable(model),
        shapes=shapes,
        distortion=on_speech.distortion,
        distortion_all=on_all.distortion,
        band_error_db=np.sqrt(np.mean(error**2, axis=0)),
        spectrum_db=spectrum_db,
        off_db=float(np.sqrt(np.mean((spectrum_db - CODEBOOK_MEAN_DB) ** 2))),
        decoded=decode(FrameEncoder(equaliser).process(frames)),
    )


def _level(samples: NDArray[np.int16]) -> str:
    """Tell the level of samples that are not all zero."""
    values = samples / FULL_SCALE
    rms_db, peak_db = 10 * np.log10([np.mean(values**2), np.max(values**2)])
    return f"{rms_db:.1f} dB rms, peak {peak_db:z.1f} dB"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _printable(name: str) -> str:
    """Return a file's name as UTF-8 can hold it: on Linux it may be any bytes."""
    return os.fsencode(name).decode("utf-8", "replace")


# ------------------------------------------------------------------------------- as HTML


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
        means=_mean_distortions([section.recording for section in sections]),
        seconds=seconds,
        version=version("codec2_eq"),
    )
    return _Page(text.encode(), sum(not section.players for section in sections))


def _sections(recordings: Sequence[Recording]) -> list[_Section]:
    from codec2_eq.report.pictures import heat_maps, spectra

    sections = []
    n_left = SOUND_BYTES_LIMIT
    for recording in recordings:
        sounds = _players(recording)
        n_left -= sum(len(sound.uri) for sound in sounds)
        sections.append(
            _Section(
                recording, heat_maps(recording), spectra(recording), sounds if n_left >= 0 else []
            )
        )
    return sections


def _players(recording: Recording) -> list[_Player]:
    decoded = [
        _Player(f"700C, {outcome.model}", _wav_uri(outcome.decoded))
        for outcome in recording.outcomes
    ]
    return [_Player("original, 8 kHz", _wav_uri(recording.samples)), *decoded]


def _wav_uri(samples: NDArray[np.int16]) -> str:
    """Return speech at 8 kHz as a data URI."""
    content = io.BytesIO()
    wav = WavWriter(content, rate=RATE_HZ)
    wav.write(samples)
    wav.finish()
    return "data:audio/wav;base64," + b64encode(content.getvalue()).decode()


def _describe(equalisers: dict[str, Equaliser]) -> list[dict[str, str]]:
    """Tell of each model what it does and, of a network, the hash of its weights."""
    does = {facts.name: facts.does for facts in available_models()}
    return [
        {
            "name": _printable(name),
            "does": does.get(name, f"the network {equaliser.name}"),
            "sha256": equaliser.sha256,
        }
        for name, equaliser in equalisers.items()
    ]


def _mean_distortions(recordings: Sequence[Recording]) -> list[float]:
    """Return the mean of D over the recordings, each counted alike, for each model."""
    table = [[outcome.distortion for outcome in r.outcomes] for r in recordings]
    return list(np.mean(table, axis=0)) if table else []
