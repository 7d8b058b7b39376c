# SPDX-License-Identifier: LGPL-2.1-or-later
"""Corpora whose files were cut, garbled or removed, and what must not be lost with them."""

import json
import os
import re
import shutil

import pytest
import soundfile
from conftest import corpus_files
from corpora import LAYOUTS, batch, cut_finely

import codec2_eq as ce
from codec2_eq import cli
from codec2_eq.corpus import plan, review, store
from codec2_eq.corpus.digests import sealed, unsealed
from codec2_eq.errors import Codec2EqError


@pytest.fixture
def audio(tmp_path, speech):
    """Nine clips, in three folders."""
    for i in range(9):
        path = tmp_path / f"audio/speaker{i % 3}/{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speech[500 * i : 500 * i + 2000 + 640 * i], 8000)
    return tmp_path / "audio"


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    cut_finely(monkeypatch, task=2, part=4)


def edit(path, old, new, *, count=0):
    """Replace what a regular expression finds in a file, and make sure that it finds it."""
    path.write_text(replaced(path.read_text(), old, new, count=count))


def edit_sealed(path, old, new, *, count=0):
    """Do so in a state file, and seal it anew: its values have to be looked at."""
    lines = unsealed(path.read_bytes()).decode()
    path.write_bytes(sealed(replaced(lines, old, new, count=count).encode()))


def replaced(text, old, new, *, count):
    changed, n_changed = re.subn(old, new, text, count=count)
    assert n_changed
    return changed


# What is in the place of state files


@pytest.mark.parametrize("name", ["corpus.json", ".codec2-eq/plan.jsonl", ".codec2-eq/parts/00000"])
def test_fifos_in_the_place_of_state_files_are_replaced_at_once(audio, tmp_path, name):
    out = tmp_path / "out"
    batch(audio, out)
    whole = corpus_files(out)
    (path,) = out.glob(f"{name}*")
    path.unlink()
    os.mkfifo(path)
    batch(audio, out)
    assert corpus_files(out) == whole and path.is_file()


def test_folders_in_the_place_of_state_files_are_an_error(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out)
    path = out / ".codec2-eq/parts/00000.jsonl"
    path.unlink()
    path.mkdir()
    with pytest.raises(Codec2EqError, match="parts/00000.jsonl: is a directory"):
        batch(audio, out)


def test_a_folder_in_the_place_of_an_output_is_reported_as_that(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out)
    (out / "speaker0/0.f32").unlink()
    (out / "speaker0/0.f32").mkdir()
    assert batch(audio, out).failures == 1
    (failure,) = ce.open_corpus(out).failures
    assert "its output 0.f32 cannot be written: is a directory" in str(failure)


# Vectors that are not there are never made up


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows_left", [0, 3])
def test_cut_vectors_are_reported_and_made_again(audio, tmp_path, layout, rows_left):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    whole = corpus_files(out)
    cut = ce.open_corpus(out)[1].path
    os.truncate(out / cut, 80 * rows_left)
    corpus = ce.open_corpus(out)
    for read in (
        corpus.all,
        lambda: list(corpus.blocks(7)),
        lambda: list(corpus.arrays()),
        corpus.parts,
        lambda: corpus.vectors(1),
    ):
        with pytest.raises(Codec2EqError, match=rf"{cut}: .*has {rows_left} rows.*batch again"):
            read()
    assert cli.main(["vq", "train", str(out), "-o", str(tmp_path / "vq"), "--sizes", "4"]) == 1
    batch(audio, out, layout=layout)
    assert corpus_files(out) == whole


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keep", [0, 100, "a line", "garbled"])
def test_a_damaged_manifest_is_reported_and_made_again(audio, tmp_path, layout, keep):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    whole = corpus_files(out)
    path = out / "manifest.jsonl"
    data = path.read_bytes()
    line = data[: data.index(b"\n") + 1]
    path.write_bytes({0: b"", 100: data[:100], "a line": line, "garbled": b"[1]\n" + data}[keep])
    if keep in (100, "garbled"):
        with pytest.raises(Codec2EqError, match=r"manifest\.jsonl: damaged"):
            ce.open_corpus(out)
    batch(audio, out, layout=layout)
    assert corpus_files(out) == whole


@pytest.mark.parametrize("layout", ["tree", "shards", "kaldi", "webdataset"])
@pytest.mark.parametrize("field", ["frames", "offset", "byte"])
@pytest.mark.parametrize("change", [-1, 1, None])
def test_a_manifest_of_other_places_is_damaged(audio, tmp_path, layout, field, change):
    """Whatever rows it would lead to, they are not the utterance's."""
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_bytes().splitlines()]
    line = lines[-1]
    changed = 0 if change is None else line.get(field, 0) + change
    if (
        changed < 0
        or line.get(field) in (None, changed)
        or (field == "offset" and layout != "shards")
    ):
        pytest.skip("nothing to change")
    line[field] = changed
    (out / "manifest.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    with pytest.raises(Codec2EqError, match="run codec2-eq batch again to make it"):
        list(ce.open_corpus(out).arrays())


@pytest.mark.parametrize("layout", ["kaldi", "webdataset"])
def test_a_manifest_with_half_a_character_is_damaged(audio, tmp_path, layout):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    edit(out / "manifest.jsonl", r'"key": "[^"]*"', r'"key": "\\ud800"')
    with pytest.raises(Codec2EqError, match="run codec2-eq batch again to make it"):
        list(ce.open_corpus(out).arrays())


@pytest.mark.parametrize("layout", ["kaldi", "webdataset"])
def test_an_archive_without_places_in_the_manifest_is_unreadable(audio, tmp_path, layout):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    edit(out / "manifest.jsonl", r', "byte": \d+', "")
    corpus = ce.open_corpus(out)
    for read in (corpus.all, lambda: corpus.frames(0, 3), lambda: corpus.vectors(1)):
        with pytest.raises(Codec2EqError, match=r"part-00000\..*manifest names no place"):
            read()


def test_a_manifest_of_endless_recordings_is_damaged(audio, tmp_path):
    batch(audio, tmp_path / "out")
    edit(tmp_path / "out/manifest.jsonl", r'"duration": [0-9.]+', '"duration": Infinity')
    with pytest.raises(Codec2EqError, match=r"manifest\.jsonl: damaged \(duration inf"):
        ce.open_corpus(tmp_path / "out")


@pytest.mark.parametrize(
    ("layout", "field"), [("tree", "frames"), ("shards", "offset"), ("kaldi", "frames")]
)
def test_a_manifest_of_numbers_beyond_any_file_is_damaged(audio, tmp_path, layout, field):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    edit(out / "manifest.jsonl", rf'"{field}": \d+', rf'"{field}": {1 << 61}', count=1)
    with pytest.raises(Codec2EqError, match=rf"manifest\.jsonl: damaged \({field}"):
        ce.open_corpus(out)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_records_are_made_again(audio, tmp_path, layout):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    whole = corpus_files(out)
    records = out / store.HIDDEN_FOLDER / "parts/00001.jsonl"
    data = records.read_bytes()
    for damaged in (
        data[:50],
        re.sub(rb", \d+, null", b", 1, null", data, count=1),
        data.replace(b"null", b'"x"', 1),
    ):
        assert damaged != data
        records.write_bytes(damaged)
        batch(audio, out, layout=layout)
        assert corpus_files(out) == whole


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("parts/00001.jsonl", r", (\d+), null", ", -1, null"),  # frames
        ("plan.jsonl", r'"recordings": \[\[', '"recordings": [[{}, '),
    ],
)
def test_state_that_cannot_be_is_made_again(audio, tmp_path, place, old, new):
    out = tmp_path / "out"
    batch(audio, out)
    whole = corpus_files(out)
    edit_sealed(out / store.HIDDEN_FOLDER / place, old, new, count=1)
    batch(audio, out)
    assert corpus_files(out) == whole


def test_options_that_cannot_be_are_rejected(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out)
    edit(out / "corpus.json", '"tree"', '"heap"')
    with pytest.raises(Codec2EqError, match="does not describe a corpus .*layout 'heap'"):
        ce.open_corpus(out)


@pytest.mark.parametrize(
    ("old", "new"),
    [(r'"names": \[.*?\]', f'"names": {names}') for names in ("[{}]", "3", "[" * 100_000)]
    + [(r'"<f4"', f'"{"9" * 5000}"')],
)
def test_first_passes_that_are_damaged_are_heard_again(audio, tmp_path, old, new):
    out = tmp_path / "out"
    batch(audio, out, model="channel_eq", passes=2, speakers="folder")
    whole = corpus_files(out)
    for path in (out / store.HIDDEN_FOLDER / "speakers").glob("*.json"):
        edit_sealed(path, old, new)
    batch(audio, out, model="channel_eq", passes=2, speakers="folder")
    assert corpus_files(out) == whole


def test_first_passes_that_were_edited_are_heard_again(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out, model="channel_eq", passes=2, speakers="folder")
    whole = corpus_files(out)
    for path in (out / store.HIDDEN_FOLDER / "speakers").glob("*.json"):
        edit(path, r'("<f4", \[.*?\], ")[0-9a-f]{2}', r"\g<1>42", count=1)
    batch(audio, out, model="channel_eq", passes=2, speakers="folder")
    assert corpus_files(out) == whole


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["corpus.json", f"{store.HIDDEN_FOLDER}/plan.jsonl"])
@pytest.mark.parametrize("keep", [0, 150, "a line"])
def test_state_that_is_cut_is_made_again(audio, tmp_path, layout, name, keep):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    whole = corpus_files(out)
    n_bytes = whole[name].index(b"\n") + 1 if keep == "a line" else keep
    os.truncate(out / name, n_bytes)
    batch(audio, out, layout=layout)
    assert corpus_files(out) == whole


# What is gone


def test_a_shard_is_not_made_again_without_what_is_gone(audio, tmp_path):
    """Its vectors are nowhere else; in a tree each recording has a file of its own."""
    out = tmp_path / "out"
    batch(audio, out, layout="shards")
    whole = corpus_files(out)
    changed, gone = audio / "speaker0/0.wav", audio / "speaker0/3.wav"
    shutil.move(gone, tmp_path / "kept.wav")
    os.utime(changed, (1, 1))
    with pytest.raises(Codec2EqError, match=rf"part-00000\.f32: has to be made.*{gone} is gone"):
        batch(audio, out, layout="shards")
    assert corpus_files(out) == whole
    shutil.move(tmp_path / "kept.wav", gone)
    batch(audio, out, layout="shards")
    assert ce.open_corpus(out).n_frames == sum(u.frames for u in ce.open_corpus(out)) > 0
    gone.unlink()
    os.utime(changed, (2, 2))
    batch(audio, out, layout="shards", force=True)
    assert len(ce.open_corpus(out)) == 8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_failures_that_are_gone_leave_the_corpus(audio, tmp_path, layout):
    """Also where a part held nothing else."""
    bad = [audio / f"zz{i}.wav" for i in range(4)]
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    whole = (out / "manifest.jsonl").read_bytes()
    for path in bad:
        path.write_bytes(b"no audio")
    assert batch(audio, out, layout=layout).failures == 4
    for path in bad:
        path.unlink()
    assert batch(audio, out, layout=layout).failures == 0
    assert (out / "manifest.jsonl").read_bytes() == whole


def test_force_keeps_the_corpus_until_the_recordings_are_found(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out)
    whole = corpus_files(out)
    (tmp_path / "empty").mkdir()
    for inputs in ([f"@{tmp_path}/typo.txt"], [tmp_path / "empty"]):
        with pytest.raises(Codec2EqError):
            batch(inputs, out, force=True)
        assert corpus_files(out) == whole


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_manifest_is_the_first_to_go(audio, tmp_path, monkeypatch, layout):
    """Killed at any removal, a run leaves no manifest that lists vectors that are gone."""
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    kept = tmp_path / "copy"
    shutil.copytree(out, kept)
    remove, left = store.remove, [0]

    def killed(path):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        remove(path)

    monkeypatch.setattr(review, "remove", killed)
    monkeypatch.setattr(plan, "remove", killed)
    for step in range(12):
        for force in (True, False):
            shutil.rmtree(out)
            shutil.copytree(kept, out)
            os.utime(audio / "speaker0/0.wav", (step, step))
            left[0] = step
            with pytest.raises(KeyboardInterrupt):
                batch(audio, out, layout=layout, force=force)
                raise KeyboardInterrupt  # less to remove than that
            if (out / "manifest.jsonl").exists():
                ce.open_corpus(out).all()
