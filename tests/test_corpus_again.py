# SPDX-License-Identifier: LGPL-2.1-or-later
"""Further runs on a corpus: only what is missing or has changed is done."""

import os
import shutil

import numpy as np
import pytest
from conftest import corpus_files
from corpora import LAYOUTS, batch, manifest, modified, write_clip

import codec2_eq as ce
from codec2_eq.corpus import runner, store
from codec2_eq.errors import Codec2EqError


@pytest.mark.parametrize("layout", LAYOUTS)
def test_second_run_has_nothing_to_do(audio, tmp_path, small_tasks, layout):
    first = batch(audio, tmp_path / "out", layout=layout)
    before = modified(tmp_path / "out")
    second = batch(audio, tmp_path / "out", layout=layout)
    after = modified(tmp_path / "out")
    own = {path for path in before if path.name not in ("lock", "plan.jsonl")}
    assert {path: before[path] for path in own} == {path: after[path] for path in own}
    assert (second.utterances, second.frames) == (first.utterances, first.frames)
    assert second.run_recordings == 0


@pytest.mark.parametrize("format", ["f32", "npz"])
def test_only_the_missing_is_made(audio, tmp_path, small_tasks, format):
    out = tmp_path / "out"
    batch(audio, out, format=format)
    reference, before = corpus_files(out), modified(out)
    missing = out / "speaker1" / f"01.{format}"
    missing.unlink()
    assert batch(audio, out, format=format).run_recordings == 1
    assert corpus_files(out) == reference
    vectors = {path for path in before if path.suffix == f".{format}"}
    after = modified(out)
    assert {path for path in vectors if after[path] != before[path]} == {missing}


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_shard_is_made_again(audio, tmp_path, small_tasks, damage):
    out = tmp_path / "out"
    batch(audio, out, layout="shards")
    reference = corpus_files(out)
    if damage == "missing":
        (out / "part-00001.f32").unlink()
    else:
        os.truncate(out / "part-00001.f32", 800)
    assert batch(audio, out, layout="shards").run_recordings == 9
    assert corpus_files(out) == reference


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_changed_recording_is_done_again(audio, tmp_path, small_tasks, speech, layout):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    write_clip(audio / "deep" / "er" / "x.wav", speech, 5000, 9000)
    summary = batch(audio, out, layout=layout)
    assert summary.run_recordings == (1 if layout == "tree" else 9)
    batch(audio, tmp_path / "fresh", layout=layout)
    fresh, found = corpus_files(tmp_path / "fresh"), corpus_files(out)
    del fresh[".codec2-eq/plan.jsonl"], found[".codec2-eq/plan.jsonl"]  # tells sizes as planned
    assert found == fresh


@pytest.mark.parametrize("layout", LAYOUTS)
def test_failures_are_tried_again(audio, tmp_path, small_tasks, speech, layout):
    out = tmp_path / "out"
    (audio / "a b.wav").rename(tmp_path / "kept.wav")
    (audio / "a b.wav").write_bytes(b"RIFF")
    assert batch(audio, out, layout=layout).failures == 1
    again = batch(audio, out, layout=layout)
    assert again.failures == 1
    assert again.run_recordings == (1 if layout == "tree" else 0)
    (tmp_path / "kept.wav").rename(audio / "a b.wav")
    assert batch(audio, out, layout=layout).failures == 0
    assert len(ce.open_corpus(out)) == 25


def test_a_failure_that_was_of_the_moment_is_noticed(audio, tmp_path, small_tasks, monkeypatch):
    """In shards, where one recording cannot be done alone, although it did not change."""
    from codec2_eq.corpus import recording

    def failing(job, path, counter):
        if path.endswith("a b.wav"):
            raise OSError(5, "Input/output error")
        return samples(job, path, counter)

    samples = recording._samples
    with monkeypatch.context() as patch:
        patch.setattr(recording, "_samples", failing)
        assert batch(audio, tmp_path / "out", layout="shards").failures == 1
        assert batch(audio, tmp_path / "out", layout="shards").run_recordings == 0
    assert batch(audio, tmp_path / "out", layout="shards").run_recordings == 9
    batch(audio, tmp_path / "fresh", layout="shards")
    assert corpus_files(tmp_path / "out") == corpus_files(tmp_path / "fresh")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_recordings_found_later_are_added(audio, tmp_path, small_tasks, speech, layout):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    before = manifest(out)
    write_clip(audio / "a new one.wav", speech, 0, 8000)
    assert batch(audio, out, layout=layout).run_recordings == 1
    lines = manifest(out)
    assert lines[:-1] == before
    assert lines[-1]["audio_filepath"] == f"{audio}/a new one.wav"
    expected = ce.load_equaliser("cmn")(ce.extract_file(audio / "a new one.wav").vectors)
    corpus = ce.open_corpus(out)
    np.testing.assert_array_equal(corpus.vectors(len(corpus) - 1), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vectors_outlive_their_recordings(audio, tmp_path, small_tasks, layout):
    out = tmp_path / "out"
    (audio / "deep" / "er" / "broken.wav").write_bytes(b"")
    assert batch(audio, out, layout=layout).failures == 1
    before = [line for line in manifest(out) if "error" not in line]
    shutil.rmtree(audio / "deep")  # one that was done and one that failed
    summary = batch(audio, out, layout=layout)
    assert (summary.failures, summary.run_recordings) == (0, 0)
    assert manifest(out) == before
    assert len(list(ce.open_corpus(out).arrays())) == 25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "none"}, "model 'cmn', now 'none'"),
        ({"frame_ms": 10}, "frame_ms 40, now 10"),
        ({"knots": "fit"}, "knots 'pick', now 'fit'"),
        ({"layout": "shards"}, "layout 'tree', now 'shards'"),
        ({"format": "npz"}, "format 'f32', now 'npz'"),
        ({"channel": 1}, "channel 'mix', now '1'"),
        ({"raw": True}, "raw False, now True"),
        ({"before_floor": True}, "before_floor False, now True"),
    ],
)
def test_changed_options_are_refused(audio, tmp_path, change, message):
    batch(audio, tmp_path / "out")
    reference = corpus_files(tmp_path / "out")
    with pytest.raises(Codec2EqError) as error:
        batch(audio, tmp_path / "out", **change)
    assert message in str(error.value)
    assert str(error.value).endswith("choose another output folder, or pass -f to make it anew")
    assert corpus_files(tmp_path / "out") == reference


def test_another_version_is_refused(audio, tmp_path, monkeypatch):
    batch(audio, tmp_path / "out")
    monkeypatch.setattr(runner, "__version__", "99.0")
    with pytest.raises(Codec2EqError, match="now '99.0'; choose another"):
        batch(audio, tmp_path / "out")


def test_force_makes_the_corpus_anew_and_leaves_other_files(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out)
    (out / "speaker1" / "notes.f32").write_text("mine")
    batch(audio, out, layout="shards", force=True)
    left = {path.relative_to(out).as_posix() for path in out.rglob("*.f32")}
    assert left == {"speaker1/notes.f32", "part-00000.f32"}
    batch(audio, tmp_path / "fresh", layout="shards")
    found = corpus_files(out)
    assert found.pop("speaker1/notes.f32") == b"mine"
    assert found == corpus_files(tmp_path / "fresh")


def test_earlier_inputs_must_be_named(audio, tmp_path):
    batch(audio, tmp_path / "out")
    reference = corpus_files(tmp_path / "out")
    with pytest.raises(Codec2EqError, match="not named this time; name all earlier inputs again"):
        batch(audio / "speaker1", tmp_path / "out")
    with pytest.raises(Codec2EqError, match="lies outside"):
        batch([audio, tmp_path / "other.wav"], tmp_path / "out")
    assert corpus_files(tmp_path / "out") == reference


def test_files_of_others_are_kept(audio, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a b.f32").write_text("mine")
    with pytest.raises(Codec2EqError, match="exists already and is not of this corpus"):
        batch(audio, tmp_path / "out")
    assert (tmp_path / "out" / "a b.f32").read_text() == "mine"
    with pytest.raises(Codec2EqError, match="exists already"):  # and not: made with other options
        batch(audio, tmp_path / "out", frame_ms=20)
    batch(audio, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "a b.f32").read_bytes() != b"mine"


def test_two_runs_on_one_output_are_refused(audio, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LOCK_PATIENCE_S", 0.1)
    seen = []

    def second_run(_):
        with pytest.raises(Codec2EqError, match=f"another run is at work.*process {os.getpid()}"):
            batch(audio, tmp_path / "out")
        seen.append(True)

    batch(audio, tmp_path / "out", progress=second_run)
    assert seen
    assert len(ce.open_corpus(tmp_path / "out")) == 25
