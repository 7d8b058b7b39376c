# SPDX-License-Identifier: LGPL-2.1-or-later
"""Word error rates: what a small recogniser makes of 700C streams, a second measure beside H.

pocketsphinx hears each sentence and names the likeliest of a closed list, that of all sentences;
its model is of English and comes with its package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pcm import to_s16
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.shaping import Shaping
from codec2_eq.bench.speech import MANIFEST, find_speech, manifest_rows
from codec2_eq.bench.streams import Encode, with_unshaped
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.corpus.lists import numbered_lines
from codec2_eq.errors import Codec2EqError
from codec2_eq.stream700c.codec import decode

ORIGINAL = "original"
MODEL_RATE_HZ = 16000  # of pocketsphinx's English model
PAUSE_S = 0.2  # before and after each sentence, for the recogniser and the codec to settle

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class Sentence:
    """A recording and the words that are said in it, in lower case."""

    path: Path
    words: tuple[str, ...]


class Recogniser:
    """The likeliest of a closed list of sentences.

    sentences : the words of each, all in the pronouncing dictionary
    """

    def __init__(self, sentences: Iterable[Sequence[str]]) -> None:
        from pocketsphinx import Decoder, get_model_path

        listed = sorted({" ".join(words) for words in sentences})
        grammar = f"#JSGF V1.0;\ngrammar list;\npublic <list> = {' | '.join(listed)};\n"
        self._decoder = Decoder(
            hmm=get_model_path("en-us/en-us"),
            dict=str(dictionary_path()),
            lm=None,
            loglevel="FATAL",
        )
        self._decoder.add_jsgf_string("list", grammar)
        self._decoder.activate_search("list")

    def __call__(self, samples: Samples) -> list[str]:
        """Words heard in speech, (n,) at 8 kHz; none where nothing on the list is likely."""
        import soxr

        wide = to_s16(soxr.resample(samples.astype(np.float32), RATE_HZ, MODEL_RATE_HZ))
        self._decoder.start_utt()
        self._decoder.process_raw(wide.tobytes(), full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return heard.hypstr.split() if heard else []


def dictionary_path() -> Path:
    """The pronouncing dictionary that comes with pocketsphinx."""
    from pocketsphinx import get_model_path

    return Path(get_model_path("en-us/cmudict-en-us.dict"))


def known_sentences(
    texts: Mapping[Path, str], report: Callable[[str], object] = lambda line: None
) -> list[Sentence]:
    """Sentences whose words are all in the recogniser's dictionary.

    report : called with a line for each sentence that is left out
    Raises Codec2EqError if fewer than two different ones are left.
    """
    with open(dictionary_path(), encoding="utf-8") as lines:
        known = {line.split("(")[0].split()[0] for line in lines if line.strip()}
    found = []
    for path, text in texts.items():
        words = tuple(
            re.findall(r"[a-z']+", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
        )
        unknown = [word for word in words if word not in known]
        if unknown or not words:
            report(
                f"{path}: left out, the recogniser does not know {', '.join(unknown) or 'its text'}"
            )
        else:
            found.append(Sentence(path, words))
    if len({sentence.words for sentence in found}) < 2:
        raise Codec2EqError(
            "transcripts", "name fewer than two different sentences", "give recordings with texts"
        )
    return found


def texts_of(inputs: Sequence[str | Path], use: str | None) -> dict[Path, str]:
    """Texts in the manifests of fetched speech, by recording.

    Raises Codec2EqError if there are none.
    """
    folders = [Path(entry) for entry in inputs if (Path(entry) / MANIFEST).is_file()]
    texts = {
        folder / row["path"]: str(row["text"])
        for folder in folders
        for row in manifest_rows(folder, use)
        if row.get("text")
    }
    if not texts:
        raise Codec2EqError(
            "recordings",
            f"none for use {use!r} has a text",
            "pass --transcripts FILE, or --use train for the English of tuxpaint",
        )
    return texts


def read_transcripts(
    path: str | Path, inputs: Sequence[str | Path], use: str | None
) -> dict[Path, str]:
    """Texts from lines `path-or-id text`; an id is a recording's name without its suffix.

    Paths count from the file's folder or from here.

    Raises Codec2EqError, with the line, for one without text, or of no recording of `inputs`.
    """
    recordings = [p for paths in find_speech(inputs, use).values() for p in paths]
    by_name = {name: p for p in recordings for name in (str(p.resolve()), p.name, p.stem)}
    texts = {}
    for where, line in numbered_lines(str(path)):
        name, _, text = line.strip().partition(" ")
        places = (Path(path).parent / name, Path(name))
        found = next(
            filter(None, map(by_name.get, (name, *(str(p.resolve()) for p in places)))), None
        )
        if found is None or not text.strip():
            what = "names no recording that was given" if found is None else "has no text"
            raise Codec2EqError(where, what, "lines are a path or an id, then the text")
        texts[found] = text
    return texts


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words to insert, delete or replace to turn what was said into what was heard."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        above, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


@dataclass
class WordScores:
    """Errors in each sentence by (encoder, shaping), beside the number of words said."""

    said: NDArray[np.int64]
    errors: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)

    def rate(self, encoder: str, shaping: str) -> float:
        """Word error rate."""
        return float(self.errors[encoder, shaping].sum() / self.said.sum())

    def interval(
        self, encoder: str, shaping: str, *, less: str | None = None, draws: int = 1000
    ) -> list[float]:
        """95 % interval of the rate, or of its difference to another encoder's, over sentences."""
        errors = self.errors[encoder, shaping]
        if less:
            errors = errors - self.errors[less, shaping]
        picks = np.random.default_rng(0).integers(0, len(errors), (draws, len(errors)))
        rates = errors[picks].sum(axis=1) / self.said[picks].sum(axis=1)
        return [float(end) for end in np.percentile(rates, (2.5, 97.5))]

    def as_json(self) -> dict[str, Any]:
        """Rates and intervals per encoder and shaping; `over_first` is beside the first encoder."""
        encoders = list(dict.fromkeys(encoder for encoder, _ in self.errors))
        first = next((name for name in encoders if name != ORIGINAL), ORIGINAL)
        found: dict[str, Any] = {}
        for encoder, shaping in self.errors:
            found.setdefault(encoder, {})[shaping] = {
                "word_error_rate": self.rate(encoder, shaping),
                "interval": self.interval(encoder, shaping),
                f"over {first}": self.interval(encoder, shaping, less=first),
            }
        return found


def run(
    sentences: Sequence[Sentence],
    shapings: Sequence[Shaping],
    encoders: Mapping[str, Encode],
    report: Callable[[str], object] = lambda line: None,
) -> WordScores:
    """Recognise each sentence as it is, and as each encoder's stream is decoded."""
    recognise = Recogniser(sentence.words for sentence in sentences)
    pause = np.zeros(round(PAUSE_S * RATE_HZ), np.float32)
    spoken = [np.concatenate([pause, read_audio(s.path), pause]) for s in sentences]
    scores = WordScores(np.array([len(sentence.words) for sentence in sentences]))
    for shaping in with_unshaped(shapings):
        shaped = [to_s16(shaping(samples)) for samples in spoken]
        for name, encoder in {ORIGINAL: None, **encoders}.items():
            report(f"{shaping.name} {name}")
            sent = shaped if encoder is None else [encoder(pcm) for pcm in shaped]
            heard = [decode(s) if isinstance(s, bytes) else s for s in sent]
            scores.errors[name, shaping.name] = np.array(
                [
                    word_errors(sentence.words, recognise(samples))
                    for sentence, samples in zip(sentences, heard, strict=True)
                ]
            )
    return scores
