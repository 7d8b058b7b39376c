# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `batch` makes of recordings, and how it is read back."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import corpus_files, open_terminal, require_package
from corpora import LAYOUTS, batch, manifest, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st

import codec2_eq as ce
from codec2_eq.cli import main
from codec2_eq.corpus import executors, plan, runner
from codec2_eq.corpus.entries import Entry
from codec2_eq.errors import Codec2EqError


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("jobs", [1, 2])
def test_corpus_reads_back_as_extracted(audio, tmp_path, small_tasks, layout, jobs):
    summary = batch(audio, tmp_path / "out", layout=layout, jobs=jobs)
    corpus = ce.open_corpus(tmp_path / "out")
    assert len(corpus) == summary.utterances == 25
    equaliser = ce.load_equaliser("cmn")
    for utterance in corpus:
        expected = equaliser(ce.extract_file(utterance.audio_filepath).vectors)
        np.testing.assert_array_equal(corpus.vectors(utterance), expected)
        samples = soundfile.info(utterance.audio_filepath).frames
        assert utterance.frames == len(expected) == samples // 320
        assert utterance.duration == samples / 8000
    assert corpus.options.model == "cmn"
    assert corpus.shape == (summary.frames, 20)
    assert summary.hours == pytest.approx(sum(u.duration for u in corpus) / 3600, abs=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_output_does_not_depend_on_jobs(audio, tmp_path, small_tasks, layout):
    reference = None
    for jobs in (1, 2, 3):
        batch(audio, tmp_path / f"out{jobs}", layout=layout, jobs=jobs)
        found = corpus_files(tmp_path / f"out{jobs}")
        reference = reference or found
        assert found == reference


def test_no_more_workers_than_tasks(audio, tmp_path, monkeypatch):
    asked = []

    def note(jobs):
        asked.append(jobs)
        return executors.local_workers(1)

    monkeypatch.setattr(runner, "local_workers", note)
    batch(audio, tmp_path / "out", jobs=1000)
    batch(audio, tmp_path / "one", jobs=1)
    assert asked == [2, 1]


def test_other_rates_than_8_khz(tmp_path, speech):
    (tmp_path / "audio").mkdir()
    for rate in (11025, 44100, 48000):
        soundfile.write(tmp_path / "audio" / f"{rate}.wav", speech, rate, subtype="PCM_16")
    soundfile.write(tmp_path / "audio" / "long.wav", np.tile(speech, 40), 11025, subtype="PCM_16")
    batch(tmp_path / "audio", tmp_path / "out", model="none", layout="shards")
    corpus = ce.open_corpus(tmp_path / "out")
    assert len(corpus) == 4
    for utterance in corpus:
        expected = ce.extract_file(utterance.audio_filepath).vectors
        np.testing.assert_array_equal(corpus.vectors(utterance), expected)


def test_tree_lies_as_the_recordings_do(audio, tmp_path):
    batch(audio, tmp_path / "out")
    for line in manifest(tmp_path / "out"):
        relative = os.path.relpath(line["audio_filepath"], audio)
        assert line["path"] == os.path.splitext(relative)[0] + ".f32"
        assert line["offset"] == 0
        assert os.path.getsize(tmp_path / "out" / line["path"]) == 80 * line["frames"]
        assert list(line) == ["audio_filepath", "duration", "frames", "path", "offset", "model"]


def test_shards_are_joined_by_offsets(audio, tmp_path, small_tasks):
    batch(audio, tmp_path / "out", layout="shards")
    lines = manifest(tmp_path / "out")
    assert sorted({line["path"] for line in lines}) == [f"part-0000{i}.f32" for i in range(3)]
    for name in {line["path"] for line in lines}:
        offset = 0
        for line in (line for line in lines if line["path"] == name):
            assert line["offset"] == offset
            offset += line["frames"]
        assert (tmp_path / "out" / name).stat().st_size == 80 * offset


@pytest.mark.parametrize("format", ["npy", "npz"])
def test_formats_of_the_tree(audio, tmp_path, format):
    batch(audio, tmp_path / "out", format=format, frame_ms=10)
    corpus = ce.open_corpus(tmp_path / "out")
    flac = corpus.find(audio / 'quote".flac')
    assert flac.path == f'quote".{format}'
    assert not any("warning" in line for line in manifest(tmp_path / "out"))
    frames = ce.extract_file(flac.audio_filepath, frame_ms=10)
    expected = ce.load_equaliser("cmn", frame_ms=10)(frames.vectors)
    np.testing.assert_array_equal(corpus.vectors(flac), expected)
    if format == "npz":
        with np.load(tmp_path / "out" / flac.path) as arrays:
            np.testing.assert_array_equal(arrays["f0_hz"], frames.f0_hz)
            assert str(arrays["model"]) == "cmn"


def test_stateful_equalisers_start_afresh_for_each_recording(tmp_path, speech):
    for i in range(3):
        write_clip(tmp_path / "audio" / f"{i}.wav", speech, 0, 16000)
    batch(tmp_path / "audio", tmp_path / "out", layout="shards", model="cmn")
    first, second, third = ce.open_corpus(tmp_path / "out").arrays()
    assert np.array_equal(first, second) and np.array_equal(first, third)


def test_channel_and_raw(tmp_path, speech):
    stereo = np.stack([speech, speech[::-1]], axis=1)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", stereo, 8000)
    (tmp_path / "audio" / "b.raw").write_bytes(speech.tobytes())
    summary = batch(tmp_path / "audio", tmp_path / "out", channel=2, model="none")
    assert summary.failures_by_reason == {"channel 2 asked for, has 1 channel": 1}
    (vectors,) = ce.open_corpus(tmp_path / "out").arrays()
    np.testing.assert_array_equal(vectors, ce.extract(speech[::-1]).vectors)


def test_wrong_options_are_refused_at_once(audio, tmp_path):
    for options, message in (
        ({"layout": "heap"}, "layout 'heap': expected one of tree, shards"),
        ({"format": "mp3"}, "format 'mp3': expected one of f32, npy, npz"),
        ({"format": "npz", "layout": "shards"}, "shards are .f32"),
        ({"channel": "left"}, "channel 'left': expected 'mix' or a number from 1"),
        ({"channel": "9" * 5000}, "channel '9+': expected 'mix' or a number from 1"),
        ({"frame_ms": 30}, "frame interval 30 ms"),
        ({"knots": "fit", "frame_ms": 10}, "knots 'fit': no frames lie between"),
        (
            {"knots": "fit", "before_floor": True},
            "before_floor: cannot be combined with knots 'fit'",
        ),
        ({"model": "unknown"}, "no equaliser 'unknown'"),
    ):
        with pytest.raises(Codec2EqError, match=message):
            batch(audio, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("jobs", [0, -1])
def test_workers_are_one_at_least(audio, tmp_path, jobs):
    with pytest.raises(Codec2EqError, match=f"jobs {jobs}: at least one"):
        batch(audio, tmp_path / "out", jobs=jobs)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_knots_are_fitted_by_the_workers(audio, tmp_path, layout):
    batch(audio, tmp_path / "out", layout=layout, knots="fit")
    corpus = ce.open_corpus(tmp_path / "out")
    for index, line in enumerate(manifest(tmp_path / "out")):
        frames = ce.extract_file(line["audio_filepath"], knots="fit")
        expected = ce.load_equaliser("cmn")(frames.vectors)
        np.testing.assert_array_equal(corpus.vectors(index), expected)


def test_workers_equalise_before_the_floor_as_run_does(audio, tmp_path):
    batch(audio, tmp_path / "out", model="channel_eq", before_floor=True)
    line, *_ = manifest(tmp_path / "out")
    words = ["run", line["audio_filepath"], "-m", "channel_eq", "-o", str(tmp_path / "one.f32")]
    assert main([*words, "--before-floor"]) == 0
    vectors = ce.read_vectors(tmp_path / "one.f32")
    np.testing.assert_array_equal(ce.open_corpus(tmp_path / "out").vectors(0), vectors)
    assert main([*words, "-f"]) == 0
    assert (ce.read_vectors(tmp_path / "one.f32") != vectors).any()


def test_warnings_are_kept_with_the_recording(tmp_path, speech):
    path = write_clip(tmp_path / "cut.wav", speech, 0, 8000)
    path.write_bytes(path.read_bytes()[:-4000])
    summary = batch(path, tmp_path / "out")
    (line,) = manifest(tmp_path / "out")
    assert summary.warnings == 1 and summary.failures == 0
    assert line["duration"] == 0.75
    assert line["warning"].startswith("ends after 0.750 s, but its header states 1.000 s")


# Reading


@pytest.mark.parametrize("layout", LAYOUTS)
def test_corpus_as_one_array(audio, tmp_path, small_tasks, layout):
    for name in ("a empty.wav", "speaker1/empty.wav", "z empty.wav"):
        soundfile.write(audio / name, np.zeros(100), 8000)  # shorter than a frame
    batch(audio, tmp_path / "out", layout=layout)
    corpus = ce.open_corpus(tmp_path / "out")
    every = np.concatenate(list(corpus.arrays()))
    assert len(corpus) == 28
    np.testing.assert_array_equal(corpus.all(), every)
    np.testing.assert_array_equal(np.concatenate(list(corpus.blocks(7))), every)
    rng = np.random.default_rng(0)
    for start, stop in rng.integers(-10, len(every) + 10, (200, 2)):
        np.testing.assert_array_equal(corpus.frames(start, stop), every[start:stop])
    assert corpus[0] == corpus[:1][0] == next(iter(corpus))
    with pytest.raises(KeyError):
        corpus.find(tmp_path / "unknown.wav")


def test_shards_are_mapped_and_not_read(audio, tmp_path, monkeypatch):
    from codec2_eq.corpus import reader

    monkeypatch.setattr(reader, "MAP_BYTES", 1)
    batch(audio, tmp_path / "out", layout="shards")
    corpus = ce.open_corpus(tmp_path / "out")
    for vectors in (corpus.vectors(3), corpus.all(), corpus.frames(2, 5)):
        base: Any = vectors
        while not isinstance(base, np.memmap):
            assert base is not None
            base = base.base
        assert not vectors.flags.writeable


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vq_train_takes_a_corpus(audio, tmp_path, small_tasks, layout):
    require_package("faiss")
    batch(audio, tmp_path / "out", layout=layout)
    ce.open_corpus(tmp_path / "out").all().tofile(tmp_path / "all.f32")
    for name, vectors in (("a", tmp_path / "out"), ("b", tmp_path / "all.f32")):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "codec2_eq",
                "vq",
                "train",
                vectors,
                "-o",
                tmp_path / name,
                "--sizes",
                "8,4",
                "--iterations",
                "3",
            ],
            check=True,
        )
    for stage in "12":
        a, b = ((tmp_path / f"{name}{stage}.f32").read_bytes() for name in "ab")
        assert a == b


def test_arrays_feed_tf_data(audio, tmp_path):
    """The generator that the documentation shows for tf.data, without TensorFlow."""
    batch(audio, tmp_path / "out", layout="shards")
    corpus = ce.open_corpus(tmp_path / "out")
    twice = [list(corpus.arrays()) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*twice, strict=True))
    assert {array.dtype for array in twice[0]} == {np.dtype(np.float32)}


def test_what_is_no_corpus_is_refused(audio, tmp_path):
    with pytest.raises(Codec2EqError, match=r"holds no corpus \(no corpus.json\)"):
        ce.open_corpus(tmp_path)
    batch(audio, tmp_path / "out")
    (tmp_path / "out" / "corpus.json").write_text("{}")
    with pytest.raises(Codec2EqError, match="does not describe a corpus of this version"):
        ce.open_corpus(tmp_path / "out")


# Sizes


def test_very_many_recordings_leave_few_files(tmp_path, speech):
    (tmp_path / "audio").mkdir()
    data = write_clip(tmp_path / "one.wav", speech, 9000, 640).read_bytes()
    for i in range(2000):
        (tmp_path / "audio" / f"{i}.wav").write_bytes(data)
    assert batch(tmp_path / "audio", tmp_path / "out", layout="shards").frames == 4000
    assert len(corpus_files(tmp_path / "out")) < 10


@given(
    st.lists(st.integers(0, 200), max_size=60),
    st.integers(1, 9),
    st.integers(1, 500),
    st.integers(1, 30),
    st.integers(1, 2000),
)
@settings(max_examples=100, deadline=None)
def test_tasks_and_parts_are_bounded_and_in_order(sizes, files, size, part_files, part_size):
    entries = [Entry(str(i), n) for i, n in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "TASK_FILES", (files, files))
        patch.setattr(plan, "TASK_BYTES", (size, size))
        patch.setattr(plan, "PART_FILES", part_files)
        patch.setattr(plan, "PART_BYTES", part_size)
        tasks = list(plan.cut(entries, None))
    assert [entry for task in tasks for entry in task.entries] == entries
    assert [task.number for task in tasks] == list(range(len(tasks)))
    parts = [task.part for task in tasks]
    assert parts == sorted(parts) and set(parts) == set(range(len(set(parts))))
    for task in tasks:
        assert 0 < len(task.entries) <= files
        assert sum(entry.size for entry in task.entries[:-1]) < size
    for part in set(parts):
        own = [task for task in tasks if task.part == part]
        assert sum(len(task.entries) for task in own[:-1]) < part_files


# The command


def cli(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "codec2_eq", "batch", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_command(audio, tmp_path):
    done = cli(audio, "-o", tmp_path / "out", "-m", "cmn", "--jobs", 2, "--summary", "-")
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    (tmp_path / "s.json").write_text(done.stdout)  # which the next run may overwrite
    assert summary["utterances"] == 25 and summary["run_vectors_per_s"] > 0
    assert "25 utterances" in done.stderr and "times real time" in done.stderr
    (audio / "bad\n.wav").write_bytes(b"")
    done = cli(audio, "-o", tmp_path / "out", "-m", "cmn", "--summary", tmp_path / "s.json")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith(
        "/bad\\n.wav: is empty (0 bytes); a recording with a header expected"
    )
    assert "1 failed, see the manifest:\n  1 x is empty (0 bytes)\n" in done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["failures"] == 1


def test_command_reports_errors_in_one_line(audio, tmp_path):
    done = cli(audio, "-o", audio / "a b.wav" / "x")
    assert done.returncode == 1
    assert done.stderr.startswith("codec2-eq: error: ") and done.stderr.count("\n") == 1
    assert cli(audio).returncode == 2


def test_bar_on_a_terminal(audio, tmp_path):
    shown_on, side = open_terminal(25, 120)
    done = subprocess.run(
        [sys.executable, "-m", "codec2_eq", "batch", audio, "-o", tmp_path / "out", "-m", "cmn"],
        stderr=side,
        check=False,
    )
    os.close(side)
    shown = os.read(shown_on, 100_000).decode()
    os.close(shown_on)
    assert done.returncode == 0
    assert "100%|" in shown and "h of audio" in shown and "x real time, 0 failed" in shown


def test_a_corpus_says_in_a_line_what_it_is(samples_dir, tmp_path):
    ce.batch(samples_dir / "espeak_male_1.wav", tmp_path / "out", model="mean", jobs=1)
    corpus = ce.open_corpus(tmp_path / "out")
    expected = f"<Corpus {tmp_path / 'out'}: 1 utterances, 87 frames, mean, every 40 ms>"
    assert repr(corpus) == expected


def test_warnings_are_counted_for_the_quiet_too(audio, tmp_path, capsys):
    soundfile.write(audio / "empty.wav", np.zeros(0, np.int16), 8000)
    assert main(["batch", str(audio), "-o", str(tmp_path / "out"), "-m", "cmn", "-q"]) == 0
    assert '/out: 1 with a "warning" in the manifest, 1 empty' in capsys.readouterr().err


def test_info_describes_a_corpus(audio, tmp_path, capsys):
    batch(audio, tmp_path / "out", layout="shards")
    assert main(["info", "--json", str(tmp_path / "out")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "corpus" and facts["utterances"] == 25
    assert facts["frames"] == ce.open_corpus(tmp_path / "out").n_frames


def test_usage(tmp_path):
    for words in (["-o", "x"], ["a", "-o", "x", "--speakers", "folder"]):
        with pytest.raises(SystemExit) as end:
            main(["batch", *words])
        assert end.value.code == 2
    assert not os.path.exists("x")


def test_the_summary_is_text_on_any_stdout(audio, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    words = ["batch", str(audio), "-o", str(tmp_path / "out"), "-m", "none", "--jobs", "1"]
    assert main([*words, "--summary", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["utterances"] == 25
