# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults found in the measurements, each with one line of advice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from codec2_eq.inspection.measurements import Measurements

QUIET_DBFS = -42.0
LOUD_DBFS = -10.0
"""Levels of active speech between which neither noise of the converter nor clipping is near."""

SILENT_DBFS = -75.0
CLIPPED_SHARE = 2e-4
OFFSET_SHARE = 0.02
"""Of full scale."""

HUM_BELOW_SPEECH_DB = 40.0
SNR_DB = 20.0
LOW_EDGE_HZ = 300.0
HIGH_EDGE_HZ = 3000.0
"""The band of a telephone: a narrower one loses words."""

TONE_DB = 12.0
"""Between the strongest and the weakest of bass, mid and treble: more than voices differ by."""


@dataclass(frozen=True)
class Fault:
    """One thing to change.

    name : a fixed word for programs. found : what was found. advice : what to do.
    """

    name: str
    found: str
    advice: str


def find_faults(measurements: Measurements) -> list[Fault]:
    """Return what should be changed about a recording, the worst first; empty if all is well."""
    silent = next(_silence(measurements), None)
    if silent is not None or measurements.antiphase is not None:  # the mix means nothing
        return [*([silent] if silent else []), *_channels(measurements)]
    return [fault for look in _LOOKS for fault in look(measurements)]


def _silence(f: Measurements) -> Iterator[Fault]:
    if f.antiphase is None and f.active_dbfs < SILENT_DBFS:
        yield Fault(
            "silence",
            f"no speech: the loudest parts reach {f.active_dbfs:.0f} dBFS",
            "check the cable, the mute switch and which input is recorded",
        )


def _channels(f: Measurements) -> Iterator[Fault]:
    for channel in f.silent_channels:
        yield Fault(
            "silent-channel",
            f"channel {channel} of {f.channels} is silent",
            f"record mono, or pass --channel {1 if channel != 1 else 2}",
        )
    if f.antiphase is not None:
        first, second = f.antiphase
        yield Fault(
            "antiphase",
            f"channels {first} and {second} are in antiphase and cancel in the mix",
            f"turn the polarity of one, or pass --channel {first}",
        )


def _clipping(f: Measurements) -> Iterator[Fault]:
    if f.clipped_share > CLIPPED_SHARE:
        yield Fault(
            "clipping",
            f"{100 * f.clipped_share:.2g} % of the samples lie on flat tops at "
            f"{f.peak_dbfs:.1f} dBFS",
            "turn the input gain down until peaks stay 6 dB below full scale",
        )


def _level(f: Measurements) -> Iterator[Fault]:
    if f.active_dbfs < QUIET_DBFS:
        yield Fault(
            "quiet",
            f"speech is at {f.active_dbfs:.0f} dBFS",
            f"turn the input gain up by about {round(-26 - f.active_dbfs)} dB",
        )
    elif f.active_dbfs > LOUD_DBFS:
        yield Fault(
            "loud",
            f"speech is at {f.active_dbfs:.0f} dBFS",
            f"turn the input gain down by about {round(f.active_dbfs + 26)} dB",
        )


def _hum(f: Measurements) -> Iterator[Fault]:
    if f.hum_hz is not None and f.hum_dbfs > f.active_dbfs - HUM_BELOW_SPEECH_DB:
        yield Fault(
            "hum",
            f"hum of {f.hum_hz:.0f} Hz, {f.active_dbfs - f.hum_dbfs:.0f} dB below the speech",
            "look for a ground loop or an unscreened cable, or put a high pass at 150 Hz",
        )


def _noise(f: Measurements) -> Iterator[Fault]:
    if f.snr_db < SNR_DB:
        yield Fault(
            "noise",
            f"noise only {f.snr_db:.0f} dB below the speech",
            "speak closer to the microphone, or put noise reduction first (filter --denoise)",
        )


def _offset(f: Measurements) -> Iterator[Fault]:
    if abs(f.offset) > OFFSET_SHARE:
        yield Fault(
            "offset",
            f"DC offset of {100 * f.offset:+.1f} % of full scale",
            "couple the input by a capacitor, or put a high pass at 20 Hz",
        )


def _band(f: Measurements) -> Iterator[Fault]:
    if f.low_edge_hz is not None and f.low_edge_hz > LOW_EDGE_HZ:
        yield Fault(
            "low-cut",
            f"nothing below {f.low_edge_hz:.0f} Hz",
            f"set the low cut to {LOW_EDGE_HZ / 2:.0f} Hz or less",
        )
    if f.high_edge_hz is not None and f.high_edge_hz < HIGH_EDGE_HZ:
        yield Fault(
            "high-cut",
            f"nothing above {f.high_edge_hz:.0f} Hz",
            f"open the filter to {HIGH_EDGE_HZ:.0f} Hz or more; no equaliser brings back what "
            "is gone",
        )


def _tone(f: Measurements) -> Iterator[Fault]:
    settings = dict(zip(("bass", "mid", "treble"), f.tone_db, strict=True))
    if max(settings.values()) - min(settings.values()) > TONE_DB:
        knobs = ", ".join(f"{name} {-round(db):+d} dB" for name, db in settings.items())
        yield Fault(
            "tone",
            "microphone and voice together are far from flat",
            f"set {knobs}, or use an equaliser (encode does, filter for other encoders)",
        )


_LOOKS: tuple[Callable[[Measurements], Iterator[Fault]], ...] = (
    _channels,
    _clipping,
    _level,
    _hum,
    _noise,
    _offset,
    _band,
    _tone,
)
