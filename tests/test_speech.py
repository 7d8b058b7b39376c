# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which recordings the bench takes: manifests, folders, speakers, sessions."""

import json
from pathlib import Path

import numpy as np
import pytest

from codec2_eq.bench.speech import find_speech, join_recordings, name_files
from codec2_eq.errors import Codec2EqError

READ_CLIP = "codec2_eq.bench.speech.read_clip"


def test_speakers_of_a_manifest(tmp_path):
    rows = [
        {"path": "a/1.wav", "speaker": "one", "use": "validate"},
        {"path": "b/2.wav", "speaker": "two", "use": "train"},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert find_speech([tmp_path], "validate") == {"one": [tmp_path / "a/1.wav"]}
    assert set(find_speech([tmp_path])) == {"one", "two"}
    with pytest.raises(Codec2EqError, match="for use 'classic', only for train, validate"):
        find_speech([tmp_path], "classic")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b'{"speaker": "one", "path": 3}',
        b'{"speaker": "one", "path": "a\\u0000b"}',
        b'{"speaker": "one", "path": "a\\ud800b"}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_reported_with_its_line(tmp_path, line):
    good = b'{"path": "a.wav", "speaker": "one", "use": "validate"}'
    (tmp_path / "manifest.jsonl").write_bytes(good + b"\n" + line + b"\n" + good)
    with pytest.raises(Codec2EqError, match=r"manifest\.jsonl: line 2 describes no recording"):
        find_speech([tmp_path], "validate")


def test_folders_of_one_name_are_different_speakers_and_sessions(tmp_path):
    paths = [tmp_path / f"{who}/{when}/x.wav" for who in ("al", "bo") for when in ("one", "two")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_speech([tmp_path / "al", tmp_path / "bo"])
    assert found == {f"{p.parts[-3]}/{p.parts[-2]}": [p] for p in paths}
    row = {"path": "x.wav", "speaker": "one", "use": "validate"}
    (tmp_path / "bo/manifest.jsonl").write_text(json.dumps(row))
    assert set(find_speech([tmp_path / "al/one", tmp_path / "bo"])) == {"al/one", "one"}


def test_sessions_of_one_name_are_not_mixed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        READ_CLIP,
        lambda path, analyse: np.full(13 * 8000, len(path.parent.parts)),
    )
    paths = [tmp_path / "a/x/1.wav", tmp_path / "a/b/x/2.wav"]
    first, second = join_recordings("s", paths)
    assert {first.name, second.name} == {"a/x", "b/x"}
    assert len(set(first.samples)) == len(set(second.samples)) == 1


def test_folders_are_searched_as_batch_does(tmp_path):
    for name in ("a.mp3", "b.opus", ".hidden.wav", "c.txt"):
        (tmp_path / name).touch()
    (found,) = find_speech([tmp_path]).values()
    assert [path.name for path in found] == ["a.mp3", "b.opus"]


def test_sessions_are_recordings(tmp_path, monkeypatch):
    lengths = {"a": 20, "b": 30, "c": 14, "d": 5, "e": 8}
    monkeypatch.setattr(
        READ_CLIP,
        lambda path, analyse: np.zeros(lengths[path.parent.name] * 8000),
    )
    paths = [tmp_path / folder / "x.wav" for folder in lengths]
    found = join_recordings("s", paths)
    assert [(r.name, len(r.samples) / 8000) for r in found] == [("b", 30), ("a", 20)]
    few = join_recordings("s", paths[3:])
    assert [(r.name, len(r.samples) / 8000) for r in few] == [("short sessions", 13)]


def test_names_of_files_are_distinct():
    paths = ["x.wav", "d/x.wav.wav", "d/y.wav", "d/z.wav", "e/z.wav", "w", "d/w.au"]
    names = name_files(list(map(Path, paths)))
    assert list(map(str, names.values())) == paths
    assert list(names) == ["x", "d/x.wav.wav", "y", "d/z.wav", "e/z.wav", "w", "d/w.au"]
