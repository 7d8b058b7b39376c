# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filters that shape real speech in the time domain, as microphones and rooms do.

A filter is a gain curve, dB against Hz, realised as a minimum-phase impulse response. It does not
delay the speech, so frames before and after shaping line up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codec2_eq.audio.resample import check_rate
from codec2_eq.codec2 import RATE_HZ, K
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import open_input, read_error

N_TAPS = 1024  # 128 ms: the lowest corner used, 80 Hz, has died away
N_FFT = 8 * N_TAPS  # fine enough that the cepstrum's aliasing stays below 0.05 dB
MOST_LIST_BYTES = 1 << 20  # of a list of filters
MOST_RESPONSE_S = 30.0  # longer than any hall rings
PAD_S = 0.01  # of silence around a response, for the resampler's own to ring in
LOWEST_HZ = 60.0  # curves are held constant below: no speech, and log2(0) is infinite
BAND_HZ = 700 * (10 ** (np.linspace(283, 2072, K) / 2595) - 1)  # where vectors sample a curve
OCTAVES = np.log2(BAND_HZ / 1000)
CURVE_FLOOR_DB = -70.0  # a true zero has no minimum-phase partner

# ITU-T Recommendation P.48 (11/88), table 1: nominal sending sensitivity of the intermediate
# reference system, dB rel. 1 V/Pa, at the third octaves and the edges the table adds.
P48_SEND_HZ = (
    100, 125, 160, 200, 250, 300, 315, 400, 500, 600, 630,
    800, 1000, 1250, 1600, 2000, 2500, 3000, 3150, 3500, 4000,
)  # fmt: skip
P48_SEND_DB = (
    -45.8, -36.1, -25.6, -19.2, -14.3, -11.3, -10.8, -8.4, -6.9, -6.3, -6.1,
    -4.9, -3.7, -2.3, -0.6, 0.3, 1.8, 1.5, 1.8, -7.3, -37.2,
)  # fmt: skip

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Shaping:
    """A named filter: its impulse response at 8 kHz, taps from time zero."""

    name: str
    taps: np.ndarray

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Shape speech; the level stays, so that only the spectrum changes.

        samples : (n,) at 8 kHz, int16 scale. Not modified.
        Returns (n,) float32 of the same rms value, or lower where int16 would clip.
        """
        from scipy.signal import oaconvolve

        plain = np.asarray(samples, dtype=np.float64)
        if plain.size == 0:
            return plain.astype(np.float32)
        shaped = oaconvolve(plain, self.taps)[: plain.size]
        power = np.dot(shaped, shaped)
        if power > 0:
            shaped *= np.sqrt(np.dot(plain, plain) / power)
        peak = np.abs(shaped).max()
        if peak > 32767:
            shaped *= 32767 / peak
        return shaped.astype(np.float32)

    def gain_db(self, freqs_hz: np.ndarray) -> np.ndarray:
        """Gain at each of `freqs_hz`, dB."""
        phase = -2j * np.pi / RATE_HZ * np.outer(freqs_hz, np.arange(self.taps.size))
        return 20 * np.log10(np.abs(np.exp(phase) @ self.taps) + 1e-16)


def minimum_phase(curve: Curve) -> np.ndarray:
    """Impulse response at 8 kHz with the gain `curve` (dB of Hz) and the least delay.

    The log magnitude's cepstrum is folded onto positive time, which leaves the magnitude and
    gives the phase of the causal, causally invertible filter.
    Source: Oppenheim and Schafer, Discrete-Time Signal Processing, homomorphic systems.
    """
    freqs = np.fft.rfftfreq(N_FFT, 1 / RATE_HZ)
    gain_db = np.maximum(curve(np.maximum(freqs, LOWEST_HZ)), CURVE_FLOOR_DB)
    cepstrum = np.fft.irfft(gain_db * (np.log(10) / 20))
    cepstrum[1 : N_FFT // 2] *= 2
    cepstrum[N_FFT // 2 + 1 :] = 0
    return np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:N_TAPS]


def tilt(db_per_octave: float) -> Curve:
    """Straight line over log frequency, 0 dB at 1 kHz."""
    return lambda hz: db_per_octave * np.log2(hz / 1000)


def high_pass(corner_hz: float, order: int = 2) -> Curve:
    """Butterworth high pass, 6 `order` dB per octave."""
    return lambda hz: -10 * np.log10(1 + (corner_hz / hz) ** (2 * order))


def low_pass(corner_hz: float, order: int = 2) -> Curve:
    """Butterworth low pass, 6 `order` dB per octave."""
    return lambda hz: -10 * np.log10(1 + (hz / corner_hz) ** (2 * order))


def shelf(corner_hz: float, gain_db: float, *, high: bool) -> Curve:
    """Gain above (`high`) or below a corner; half of it is reached at the corner."""
    sign = -2.0 if high else 2.0
    return lambda hz: gain_db / (1 + (hz / corner_hz) ** sign)


def bell(centre_hz: float, gain_db: float, octaves: float) -> Curve:
    """A Gaussian hump (or dip) over log frequency, `octaves` wide at half its height."""
    return lambda hz: gain_db * 0.5 ** ((2 * np.log2(hz / centre_hz) / octaves) ** 2)


def handset() -> Curve:
    """The sending side of a telephone handset: ITU-T P.48 IRS, interpolated over log frequency."""
    table_hz = np.log(P48_SEND_HZ)
    return lambda hz: np.interp(np.log(hz), table_hz, P48_SEND_DB)


def random_microphone(seed: int | np.random.Generator) -> Curve:
    """An imaginary microphone: band edges, a tilt, and up to four resonances."""
    rng = np.random.default_rng(seed)
    parts = [
        tilt(rng.normal(0, 1.5)),
        high_pass(rng.uniform(70, 300), int(rng.integers(1, 3))),
        low_pass(rng.uniform(2800, 5000), int(rng.integers(1, 4))),
    ]
    for _ in range(int(rng.integers(2, 5))):
        centre = 150 * 2 ** rng.uniform(0, 4.6)
        parts.append(bell(centre, rng.normal(0, 6), rng.uniform(0.4, 1.6)))
    return cascade(*parts)


def cascade(*curves: Curve) -> Curve:
    """Filters one after the other."""
    return lambda hz: np.sum([curve(hz) for curve in curves], axis=0)


CURVES: dict[str, Curve] = {
    "tilt-6": tilt(-6),
    "tilt-3": tilt(-3),
    "tilt+3": tilt(3),
    "tilt+6": tilt(6),
    "highpass": high_pass(400),
    "lowpass": low_pass(2000),
    "bass+10": shelf(500, 10, high=False),
    "bass-10": shelf(500, -10, high=False),
    "treble+10": shelf(1800, 10, high=True),
    "treble-10": shelf(1800, -10, high=True),
    "scoop": bell(1000, -12, 1.5),
    "presence": bell(2500, 10, 1.2),
    "boom": bell(250, 14, 1.2),
    "handset": handset(),
    **{f"mic{seed}": random_microphone(seed) for seed in range(1, 5)},
}
"""The filters of the standard bench by name, in the table's order."""

SHAPINGS = tuple(CURVES)


def load_shaping(name: str) -> Shaping:
    """A filter by name ("boom", "mic17", "none") or from a file with its impulse response.

    Any `micN` is a microphone drawn with seed N. Raises Codec2EqError for a name that is neither.
    """
    if name == "none":
        return Shaping(name, np.ones(1))
    if _is_name(name):
        curve = CURVES[name] if name in CURVES else random_microphone(int(name[3:]))
        return Shaping(name, minimum_phase(curve))
    if Path(name).is_file():
        return impulse_response(name)
    raise Codec2EqError(
        name, "neither a shaping nor a file", f"shapings: none, micN, {', '.join(SHAPINGS)}"
    )


def impulse_response(path: str | Path) -> Shaping:
    """A measured impulse response, first channel, any rate; its leading silence is cut off."""
    import soundfile
    import soxr

    try:
        with open(path, "rb") as handle, soundfile.SoundFile(handle) as file:
            rate = file.samplerate
            check_rate(rate, str(path))
            taps = file.read(int(rate * MOST_RESPONSE_S) + 1, dtype="float64", always_2d=True)
    except OSError as error:
        raise read_error(str(path), error) from error
    except soundfile.LibsndfileError as error:
        raise Codec2EqError(
            path, f"not an impulse response ({error.error_string})", "give a WAV file"
        ) from error
    if len(taps) > rate * MOST_RESPONSE_S:
        raise Codec2EqError(
            path, f"is longer than {MOST_RESPONSE_S:g} s", "give an impulse response, not speech"
        )
    mono = taps[:, 0]
    if np.isfinite(mono).all() and rate != RATE_HZ:
        mono = soxr.resample(np.pad(mono, int(rate * PAD_S)), rate, RATE_HZ)
    if not mono.any() or not np.isfinite(mono).all():
        raise Codec2EqError(
            path,
            "impulse response is empty, silent or not finite in its first channel",
            "give a recording of one",
        )
    onset = int(np.flatnonzero(np.abs(mono) > 0.1 * np.abs(mono).max())[0])
    return Shaping(Path(path).stem, mono[max(onset - 8, 0) :])


def read_shapings(path: str | Path) -> list[Shaping]:
    """The filters named in a text file, one name or impulse response per line; `#` comments.

    Paths count from the file's own folder; names of filters go before names of files. Files are
    named by their stems, or as they are listed where another filter has that name.
    Raises Codec2EqError if none is named, one is named twice, or it is not text.
    """
    folder = Path(path).parent
    with open_input(path) as handle:
        text = handle.read(MOST_LIST_BYTES + 1).decode("utf-8", errors="replace")
    if len(text) > MOST_LIST_BYTES or "\N{REPLACEMENT CHARACTER}" in text or "\0" in text:
        raise Codec2EqError(
            path, "not UTF-8 text", "list the filters in a text file, one name or file per line"
        )
    listed = [line.split("#")[0].strip() for line in text.splitlines()]
    listed = [name for name in listed if name]
    if not listed:
        raise Codec2EqError(path, "names no shaping", "one name or file per line")
    twice = next((name for name, count in Counter(listed).items() if count > 1), None)
    if twice:
        raise Codec2EqError(path, f"names {twice} twice", "once is enough")
    try:
        shapings = [_shaping_from(folder, name) for name in listed]
    except Codec2EqError as error:
        raise error.of(f"{path}: {error.subject}") from error
    count = Counter(shaping.name for shaping in shapings)
    return [
        shaping if count[shaping.name] == 1 else replace(shaping, name=name)
        for shaping, name in zip(shapings, listed, strict=True)
    ]


def _shaping_from(folder: Path, name: str) -> Shaping:
    if not _is_name(name) and (folder / name).is_file():
        return impulse_response(folder / name)
    return load_shaping(name)


def _is_name(name: str) -> bool:
    seed = name.removeprefix("mic")
    return name in ("none", *SHAPINGS) or (name != seed and seed.isdecimal() and len(seed) < 20)
