#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure how many words survive 700C, through microphones and encoders: a rhyme test by machine.

Six voices of espeak-ng and flite say the 300 words of the modified rhyme test, 50 sets of six that
differ in one consonant. A decoded word is understood if, of its set, the voice's own word is the
most like it: in each band of the articulation index the course of the amplitude is correlated, and
the best bands count, the principle of ABC-MRT16 (S. Voran, NTIA). 0 is guessing, 1 every word.

    python scripts/rhyme_test.py                         # each voice's words in one recording
    python scripts/rhyme_test.py --alone --gain -12      # each word in its own, and quiet
    python scripts/rhyme_test.py --noise babble 10 --denoise -m channel_eq:filter codec2:3200
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace

import numpy as np
from make_samples import Clip, speak
from numpy.typing import NDArray

from codec2_eq.audio.pcm import to_s16
from codec2_eq.bench.noise import NOISES, Noise
from codec2_eq.bench.shaping import load_shaping
from codec2_eq.bench.streams import Encode, denoised, load_encoders
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.errors import Codec2EqError
from codec2_eq.stream700c.codec import decode

SETS = """
went sent bent dent tent rent / hold cold told fold sold gold / pat pad pan path pack pass
lane lay late lake lace lame / kit bit fit hit wit sit / must bust gust rust dust just
teak team teal teach tear tease / din dill dim dig dip did / bed led fed red wed shed
pin sin tin fin din win / dug dung duck dud dub dun / sum sun sung sup sub sud
seep seen seethe seek seem seed / not tot got pot hot lot / vest test rest best west nest
pig pill pin pip pit pick / back bath bad bass bat ban / way may say pay day gay
pig big dig wig rig fig / pale pace page pane pay pave / cane case cape cake came cave
shop mop cop top hop pop / coil oil soil toil boil foil / tan tang tap tack tam tab
fit fib fizz fill fig fin / same name game tame came fame / peel reel feel eel keel heel
hark dark mark bark park lark / heave hear heat heal heap heath / cup cut cud cuff cuss cub
thaw law raw paw jaw saw / pen hen men then den ten / puff puck pub pus pup pun
bean beach beat beak bead beam / heat neat feat seat meat beat / dip sip hip tip lip rip
kill kin kit kick king kid / hang sang bang rang fang gang / took cook look hook shook book
mass math map mat man mad / ray raze rate rave rake race / save same sale sane sake safe
fill kill will hill till bill / sill sick sip sing sit sin / bale gale sale tale pale male
wick sick kick lick pick tick / peace peas peak peach peat peal / bun bus but bug buck buff
sag sat sass sack sad sap / fun sun bun gun run nun
"""
VOICES = (
    ("flite", "awb"),
    ("flite", "rms"),
    ("flite", "slt"),
    ("flite", "kal16"),
    ("espeak-ng", "en-us"),
    ("espeak-ng", "en-gb+f3"),
)
METHODS = ("channel_eq", "channel_eq:filter", "channel_eq:2:filter")
MICROPHONES = ("none", "boom", "handset", "mic1", "mic3")

LEVEL_DBFS = -26.0  # of the words, rms; as is usual for telephones
NOISE = 3.0  # rms in units of 16 bits: no recording is without
PAUSE = 2400  # samples between words
MARGIN = 400  # samples of the pauses that belong to a word
MOST_LATE = 640  # samples by which a decoded word may be moved, from half of it too early
QUIETEST = 0.005  # of a word's peak: where it begins and ends
SHIFTS_AT_ONCE = 2  # hops

WINDOW, HOP = 256, 64  # samples
BAND_EDGES_HZ = (
    *(200, 310, 430, 560, 700, 840, 1000, 1150, 1310, 1480, 1660, 1830),
    *(2020, 2240, 2500, 2820, 3200, 3650, 4000),
)  # of the articulation index
BANDS_THAT_COUNT = 12

Samples = NDArray[np.floating]


@dataclass(frozen=True)
class Recording:
    """Words of one voice one after the other, (n,) in 16 bits, and the span of each."""

    samples: Samples
    spans: dict[str, slice]


def read_out(words: dict[str, Samples], seed: int) -> Recording:
    """Put words in a random order into one recording."""
    rng = np.random.default_rng(seed)
    loud = np.sqrt(np.mean(np.concatenate(list(words.values())) ** 2))
    parts: list[Samples] = [np.zeros(PAUSE)]
    spans, at = {}, PAUSE
    for name in rng.permutation(sorted(words)).tolist():
        spans[name] = slice(at - MARGIN, at + len(words[name]) + MARGIN)
        parts += [words[name], np.zeros(PAUSE)]
        at += len(words[name]) + PAUSE
    samples = np.concatenate(parts) * (32768 * 10 ** (LEVEL_DBFS / 20) / loud)
    return Recording(samples + rng.normal(0, NOISE, at), spans)


def trimmed(samples: Samples) -> Samples:
    """Cut the silence before and after a word."""
    loud = np.flatnonzero(np.abs(samples) > QUIETEST * np.abs(samples).max())
    return samples[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN]


def played(recording: Recording, encoder: Encode, *, alone: bool) -> Samples:
    """Encode and decode, all at once or each word with half of its pauses; (n,)."""

    def through(speech: NDArray[np.int16]) -> NDArray[np.int16]:
        made = encoder(speech)
        return decode(made) if isinstance(made, bytes) else made

    samples = to_s16(recording.samples)
    if not alone:
        return through(samples).astype(float)
    out = np.zeros(len(samples))
    for span in recording.spans.values():
        around = slice(span.start - PAUSE // 2 + MARGIN, span.stop + PAUSE // 2 - MARGIN)
        heard = through(samples[around])[: around.stop - around.start]
        out[around.start : around.start + len(heard)] = heard
    return out


def amplitudes(samples: Samples) -> Samples:
    """Give the amplitude in each band over time, (frames, bands)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2
    freqs_hz = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    band_of = np.searchsorted(BAND_EDGES_HZ, freqs_hz, side="right") - 1
    in_band = band_of[:, None] == np.arange(len(BAND_EDGES_HZ) - 1)
    return np.sqrt(power @ in_band)


def course(frames: Samples) -> Samples:
    """Remove mean and level from amplitudes in each band."""
    frames = frames - frames.mean(axis=-2, keepdims=True)
    return frames / np.maximum(np.sqrt((frames**2).sum(axis=-2, keepdims=True)), 1e-9)


def likeness(word: Samples, heard: Samples) -> float:
    """Correlate a word's course with what was heard, at the shift at which they agree best."""
    word = word[: len(heard)]
    places = range(0, len(heard) - len(word) + 1, SHIFTS_AT_ONCE)
    shifted = course(np.stack([heard[at : at + len(word)] for at in places]))
    bands = (word * shifted).sum(axis=1)
    best = bands[bands.mean(axis=1).argmax()]
    return float(np.sort(best)[-BANDS_THAT_COUNT:].mean())


def understood(recording: Recording, heard: Samples, sets: list[list[str]]) -> float:
    """Give the share of words that are understood, 0 for guessing."""
    heard = np.append(heard, np.zeros(len(recording.samples) + MOST_LATE))
    known = {
        word: course(amplitudes(recording.samples[span])) for word, span in recording.spans.items()
    }
    right = []
    for words in sets:
        for word in words:
            span = recording.spans[word]
            late = amplitudes(heard[max(0, span.start - MOST_LATE // 2) : span.stop + MOST_LATE])
            right.append(word == max(words, key=lambda other: likeness(known[other], late)))
    chance = 1 / len(sets[0])
    return float((np.mean(right) - chance) / (1 - chance))


def main(argv: list[str] | None = None) -> int:
    """Parse, speak, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--alone", action="store_true", help="make each word a recording of its own"
    )
    parser.add_argument("--gain", type=float, default=0.0, metavar="DB", help="make words louder")
    parser.add_argument("--noise", nargs=2, metavar=("KIND", "DB"), help="add car, babble or white")
    parser.add_argument("--denoise", action="store_true", help="reduce noise first, as filter does")
    parser.add_argument(
        "-m", "--models", nargs="+", default=METHODS, help="as for evaluate --heard"
    )
    parser.add_argument("--shapings", nargs="+", default=MICROPHONES, help="filters of the bench")
    args = parser.parse_args(argv)
    if args.noise and args.noise[0] not in NOISES:
        parser.error(f"--noise {args.noise[0]}: choose one of {', '.join(NOISES)}")
    sets = [words.split() for line in SETS.strip().splitlines() for words in line.split("/")]
    names = sorted({word for words in sets for word in words})
    encoders = load_encoders(args.models)
    shapings = [load_shaping(name) for name in args.shapings]
    recordings = []
    for seed, (program, voice) in enumerate(VOICES):
        print(f"\r{voice:10}", end="", file=sys.stderr, flush=True)
        spoken = {n: trimmed(speak(Clip(n, program, voice, n), RATE_HZ)) for n in names}
        recordings.append(read_out(spoken, seed))
    print("\r" + 10 * " ", end="\r", file=sys.stderr, flush=True)
    noise = Noise(args.noise[0], float(args.noise[1])) if args.noise else None
    noisy = [noise(r.samples) if noise else r.samples for r in recordings]
    shaped = {}
    for shaping in shapings:
        made = [shaping(samples) * 10 ** (args.gain / 20) for samples in noisy]
        shaped[shaping.name] = list(map(denoised, made)) if args.denoise else made
    print(f"{'encoder':20}" + "".join(f"{name:>9}" for name in shaped))
    for name, encoder in encoders.items():
        print(f"{name:20}", end="", flush=True)
        for versions in shaped.values():
            scores = []
            for recording, samples in zip(recordings, versions, strict=True):
                heard = played(replace(recording, samples=samples), encoder, alone=args.alone)
                scores.append(understood(recording, heard, sets))
            print(f"{np.mean(scores):9.3f}", end="", flush=True)
        print()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Codec2EqError as error:
        sys.exit(f"rhyme_test: error: {error}")
