# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small corpora of every layout, each packed as one file, and what is done with them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import soundfile

from codec2_eq.cli import main
from codec2_eq.corpus.reader import open_corpus
from fuzz.mutators import pack, unpack

CORPORA: dict[str, tuple[str, ...]] = {
    "corpus.f32": (),
    "corpus.npz": ("--format", "npz"),
    "corpus.shards": ("--layout", "shards", "--with", "records"),
    "corpus.kaldi": ("--layout", "kaldi"),
    "corpus.webdataset": ("--layout", "webdataset"),
    "corpus.speakers": ("--passes", "2", "--speakers", "folder"),
}
"""Kinds of corpora, and the options of `batch` that make them."""

FOLDER = "corpus"
_made: dict[str, bytes] = {}
_HERE = b"@HERE@"  # in the packed files, in place of the folder where they were made


def commands(kind: str) -> tuple[tuple[str, ...], ...]:
    """Return what users do with a corpus."""
    again = ("batch", "recordings", "-o", FOLDER, "-m", "cmn", "--jobs", "1", *CORPORA[kind])
    training = ("--sizes", "2", "--iterations", "1", "--survivors", "1", "-f")
    return again, ("info", FOLDER), (*again, "-f"), ("vq", "train", FOLDER, "-o", "cb", *training)


def make_corpora(samples: object, here: Path) -> dict[str, list[bytes]]:
    """Make a corpus of each kind below `here`, of recordings that stay there."""
    for number, name in enumerate(("s0/a.wav", "s1/b.flac", "s1/c.wav")):
        path = here / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples[400 * number :], 8000)  # type: ignore[index]
        os.utime(path, (10**9, 10**9))
    packed = {}
    for kind in CORPORA:
        words = [word.replace("recordings", f"{here}/recordings") for word in commands(kind)[0]]
        words[words.index(FOLDER)] = str(here / FOLDER)
        assert main([*words, "-q"]) == 0
        _made[kind] = _packed(here / FOLDER, here)
        packed[kind] = [_made[kind]]
        shutil.rmtree(here / FOLDER)
    return packed


def _packed(folder: Path, here: Path) -> bytes:
    return pack(
        {
            str(path.relative_to(folder)): path.read_bytes().replace(os.fsencode(here), _HERE)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "lock"
        }
    )


def lay_out(data: bytes) -> None:
    """Unpack a corpus to where it is worked with."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, content in unpack(data).items():
        path = Path(FOLDER, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.replace(_HERE, os.fsencode(os.getcwd())))


def differences(kind: str) -> list[str]:
    """Return the files that users see and that are not as they were made."""
    made = unpack(_made[kind])
    found = unpack(_packed(Path(FOLDER), Path.cwd()))
    names = (name for name in made.keys() | found.keys() if not name.startswith(".codec2-eq"))
    return sorted(name for name in names if made.get(name) != found.get(name))


def read_corpus() -> None:
    """Read all of a corpus in every way."""
    corpus = open_corpus(FOLDER)
    for utterance in corpus:
        corpus.vectors(utterance)
        if corpus.options.records:
            corpus.levels(utterance)
    for _ in corpus.blocks():
        pass
    corpus.all()
    corpus.parts()
