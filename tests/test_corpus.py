# SPDX-License-Identifier: LGPL-2.1-or-later
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import corpus_files, open_terminal, require_package
from hypothesis import given, settings
from hypothesis import strategies as st

import codec2_eq as ce
from codec2_eq.corpus import executors, listing, plan, runner, store
from codec2_eq.corpus.entries import Entry
from codec2_eq.corpus.plan import name_outputs
from codec2_eq.errors import Codec2EqError

LAYOUTS = ("tree", "shards")


def write_clip(path, speech, start, n_samples, **options):
    """Cut a clip from the speech fixture; clips of one start and length are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start %= len(speech) - n_samples
    soundfile.write(path, speech[start : start + n_samples], 8000, subtype="PCM_16", **options)
    return path


@pytest.fixture
def audio(tmp_path, speech):
    """25 clips in three folders, some with difficult names."""
    root = tmp_path / "audio"
    names = ["a b.wav", "ü/ж文.wav", "line\nbreak.wav", 'quote".flac', "deep/er/x.wav"]
    names += [f"speaker{i % 3}/{i:02d}.wav" for i in range(20)]
    for i, name in enumerate(names):
        write_clip(root / name, speech, 777 * i, 2000 + 500 * i)
    return root


@pytest.fixture
def small_tasks(monkeypatch):
    """Cut into tasks of 3 recordings and parts of 9."""
    monkeypatch.setattr(plan, "TASK_FILES", (3, 3))
    monkeypatch.setattr(plan, "PART_FILES", 9)


def batch(inputs, output, **options):
    return ce.batch(inputs, output, **{"model": "cmn", "jobs": 1, **options})


def manifest(output):
    lines = (Path(output) / "manifest.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def modified(output):
    return {path: path.stat().st_mtime_ns for path in Path(output).rglob("*") if path.is_file()}


# What comes out


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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_knots_are_fitted_by_the_workers(audio, tmp_path, layout):
    batch(audio, tmp_path / "out", layout=layout, knots="fit")
    corpus = ce.open_corpus(tmp_path / "out")
    for index, line in enumerate(manifest(tmp_path / "out")):
        frames = ce.extract_file(line["audio_filepath"], knots="fit")
        expected = ce.load_equaliser("cmn")(frames.vectors)
        np.testing.assert_array_equal(corpus.vectors(index), expected)


def test_workers_equalise_before_the_floor_as_run_does(audio, tmp_path):
    from codec2_eq.cli import main

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


# Which recordings


def test_folders_files_and_lists_give_each_recording_once(audio, tmp_path):
    names = tmp_path / "list.txt"
    names.write_bytes(os.fsencode(f"{audio}/a b.wav\n\n{audio}/deep/er/x.wav\n"))
    zeros = tmp_path / "zeros.txt"
    zeros.write_bytes(os.fsencode(f"{audio}/line\nbreak.wav\0{audio}/a b.wav\0"))
    summary = batch([f"@{names}", audio / "deep", f"@{zeros}"], tmp_path / "out")
    assert summary.utterances == 3
    assert {line["path"] for line in manifest(tmp_path / "out")} == {
        "a b.f32",
        "deep/er/x.f32",
        "line\nbreak.f32",
    }


def test_hidden_and_other_files_are_passed_over(audio, tmp_path):
    (audio / "notes.txt").write_text("x")
    shutil.copy(audio / "a b.wav", audio / ".hidden.wav")
    (audio / ".folder").mkdir()
    shutil.copy(audio / "a b.wav", audio / ".folder" / "x.wav")
    assert batch(audio, tmp_path / "out").utterances == 25


def test_a_named_file_may_have_any_suffix(audio, tmp_path):
    shutil.copy(audio / "a b.wav", tmp_path / "recording")
    batch(tmp_path / "recording", tmp_path / "out")
    assert manifest(tmp_path / "out")[0]["path"] == "recording.f32"


def test_links_are_followed_and_loops_are_not(audio, tmp_path, speech):
    (audio / "deep" / "loop").symlink_to(audio)
    (audio / "deep" / "er" / "self").symlink_to(audio / "deep" / "er")
    (audio / "self.wav").symlink_to(audio / "self.wav")
    write_clip(tmp_path / "elsewhere" / "z.wav", speech, 0, 4000)
    (audio / "linked").symlink_to(tmp_path / "elsewhere")
    summary = batch(audio, tmp_path / "out")
    lines = manifest(tmp_path / "out")
    assert summary.utterances == 26
    assert "linked/z.f32" in {line["path"] for line in lines}
    assert [line["audio_filepath"] for line in lines if "error" in line] == [f"{audio}/self.wav"]


def test_one_stem_with_two_suffixes_keeps_both(tmp_path, speech):
    for name in ("x.wav", "x.flac", "x.wav.wav", "y.wav"):
        write_clip(tmp_path / "audio" / name, speech, len(name), 4000)
    batch(tmp_path / "audio", tmp_path / "out")
    paths = {os.path.basename(v["audio_filepath"]): v["path"] for v in manifest(tmp_path / "out")}
    assert paths == {
        "x.wav": "x.wav.f32",
        "x.flac": "x.flac.f32",
        "x.wav.wav": "x.wav.wav.f32",
        "y.wav": "y.f32",
    }
    write_clip(tmp_path / "audio" / "y.flac", speech, 0, 4000)
    batch(tmp_path / "audio", tmp_path / "out")
    paths = {os.path.basename(v["audio_filepath"]): v["path"] for v in manifest(tmp_path / "out")}
    assert (paths["y.wav"], paths["y.flac"]) == ("y.f32", "y.flac.f32")


@given(st.lists(st.text("ab.", min_size=1, max_size=5), unique=True), st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_no_two_recordings_share_an_output(names, n_before):
    before = name_outputs(names[:n_before], ".f32", set())
    assert len(set(before.values())) == len(before)
    try:
        after = name_outputs(names[n_before:], ".f32", set(before.values()))
    except Codec2EqError:
        return
    assert len({*before.values(), *after.values()}) == len(names)


def test_nothing_to_do_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Codec2EqError, match="no recordings there; name audio files, or folders"):
        batch(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "list.txt").touch()
    with pytest.raises(Codec2EqError, match=r"@.*list\.txt: no recordings there"):
        batch(f"@{tmp_path}/list.txt", tmp_path / "out")
    with pytest.raises(Codec2EqError, match=r"none\.txt: no such file"):
        batch(f"@{tmp_path}/none.txt", tmp_path / "out")


# What fails


def damaged(folder, speech):
    """Recordings damaged in different ways: name to what the manifest says."""
    good = write_clip(folder / "good.wav", speech, 0, 8000).read_bytes()
    flac = write_clip(folder / "good.flac", speech, 0, 8000).read_bytes()
    floats = np.full(8000, np.nan, np.float32)
    soundfile.write(folder / "nan.wav", floats, 8000, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", np.full(8000, np.inf, np.float32), 8000, subtype="FLOAT")
    soundfile.write(folder / "slow.wav", speech, 4000)
    files = {
        "header cut.wav": (good[:20], "ends within its WAV header"),
        "text.wav": (b"this is no sound\n" * 9, "not audio that libsndfile reads"),
        "empty.wav": (b"", "is empty"),
        "4 GB.wav": (good[:12] + b"LIST" + struct.pack("<I", 2**32 - 2) + good[12:], "4294967294"),
        "no format.wav": (good[:12] + good[36:], "no 'fmt ' chunk"),
        "no channels.wav": (good[:22] + b"\0\0" + good[24:], "0 channels"),
        "cut.flac": (flac[: len(flac) // 2], "cannot be decoded"),
        "noise.ogg": (np.random.default_rng(1).bytes(5000), "not audio that libsndfile reads"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.wav")
    (folder / "gone.wav").symlink_to("nowhere.wav")
    (folder / "speaker1" / "02.wav").symlink_to("nowhere.wav")  # right after a good one
    reasons = {name: reason for name, (_, reason) in files.items()}
    assert not (folder / "speaker1" / "02.wav").exists()
    return reasons | {
        "nan.wav": "is NaN or infinite",
        "inf.wav": "is NaN or infinite",
        "slow.wav": "sample rate 4000 Hz",
        "pipe.wav": "is a pipe or device",
        "gone.wav": "no such file",
        "02.wav": "no such file",
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("jobs", [1, 2])
def test_damaged_recordings_are_listed_and_the_others_done(
    audio, tmp_path, speech, small_tasks, layout, jobs
):
    (audio / "speaker2" / "02.wav").unlink()
    reasons = damaged(audio, speech)
    assert len(reasons) >= 10
    told = []
    summary = batch(
        audio,
        tmp_path / "out",
        layout=layout,
        jobs=jobs,
        format="f32",
        progress=lambda progress: told.extend(progress.new_failures),
    )
    failures = ce.open_corpus(tmp_path / "out").failures
    assert {os.path.basename(line["audio_filepath"]) for line in failures} == set(reasons)
    for line in failures:
        assert reasons[os.path.basename(line["audio_filepath"])] in line["error"]
        assert (line["frames"], line["path"], line["offset"]) == (0, None, None)
    assert sorted(told) == sorted((line["audio_filepath"], line["error"]) for line in failures)
    assert summary.failures == sum(summary.failures_by_reason.values()) == len(reasons)
    corpus = ce.open_corpus(tmp_path / "out")
    assert len(corpus) == summary.utterances == 26
    for utterance in corpus:
        expected = ce.load_equaliser("cmn")(ce.extract_file(utterance.audio_filepath).vectors)
        np.testing.assert_array_equal(corpus.vectors(utterance), expected)
    if layout == "tree":
        outputs = [p for p in (tmp_path / "out").rglob("*.f32")]
        assert len(outputs) == 26


def test_failures_late_in_a_recording_leave_nothing(tmp_path, speech):
    long = np.tile(speech, 6).astype(np.float32) / 32768
    long[-10] = np.nan
    (tmp_path / "audio").mkdir()
    for name in "abc":
        soundfile.write(
            tmp_path / "audio" / f"{name}.wav",
            long[: 40000 if name != "b" else None],
            8000,
            subtype="FLOAT",
        )
    for layout, format in (("tree", "f32"), ("tree", "npz"), ("shards", "f32")):
        out = tmp_path / f"out-{layout}-{format}"
        assert batch(tmp_path / "audio", out, layout=layout, format=format).failures == 1
        first, second = ce.open_corpus(out).arrays()
        np.testing.assert_array_equal(first, second)
        assert len(first) == 125
        assert not list((out / ".codec2-eq" / "new").iterdir())


def as_nobody(work):
    """Do something in a child without the privileges that we may have; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_no_permission(audio, tmp_path):
    """A file and a folder that may not be read fail; the rest is done."""
    batch(audio, tmp_path / "out")  # imports what a child without privileges could not
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(audio, f"{folder}/audio")
        os.mkdir(f"{folder}/out")
        os.chmod(f"{folder}/out", 0o777)
        os.chmod(f"{folder}/audio/a b.wav", 0)
        os.chmod(f"{folder}/audio/speaker1", 0)
        assert as_nobody(lambda: batch(f"{folder}/audio", f"{folder}/out/x").failures) == 2
        os.chmod(f"{folder}/audio/a b.wav", 0o644)
        os.chmod(f"{folder}/audio/speaker1", 0o755)
        errors = {
            os.path.basename(line["audio_filepath"]): line["error"]
            for line in manifest(f"{folder}/out/x")
            if "error" in line
        }
        assert errors == {
            "a b.wav": "no permission to read it; check its mode and owner",
            "speaker1": "no permission to list this folder; check its mode and owner",
        }
        # With permission, the folder's files take its place.
        assert batch(f"{folder}/audio", f"{folder}/out/x").failures == 0
        assert len(ce.open_corpus(f"{folder}/out/x")) == 25


def test_plain_recording_that_changes_while_it_is_read(audio, tmp_path, monkeypatch):
    def growing(descriptor, n_bytes):
        data = read(descriptor, n_bytes)
        if os.path.samestat(os.fstat(descriptor), os.stat(audio / "a b.wav")):
            with open(audio / "a b.wav", "ab") as handle:
                handle.write(b"\0\0")
        return data

    read = os.read
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", growing)
        summary = batch(audio, tmp_path / "out", jobs=1)
    assert summary.failures_by_reason == {"changed while it was read": 1}
    assert batch(audio, tmp_path / "out").failures == 0


def test_recording_that_changes_while_it_is_read(audio, tmp_path, monkeypatch):
    from codec2_eq.corpus import recording

    def growing(options, path, heard):
        yield from recording._decoded(options, path, heard)
        if path.endswith("x.wav"):
            with open(path, "ab") as handle:
                handle.write(b"\0\0")

    with monkeypatch.context() as patch:
        patch.setattr(recording, "_samples", growing)
        summary = batch(audio, tmp_path / "out")
    assert summary.failures_by_reason == {"changed while it was read": 1}
    assert batch(audio, tmp_path / "out").failures == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_recording_that_vanishes_after_it_was_listed(audio, tmp_path, monkeypatch, layout):
    def make_plan(*arguments, **options):
        work = original(*arguments, **options)
        (audio / "a b.wav").unlink()
        return work

    original = runner.make_plan
    with monkeypatch.context() as patch:
        patch.setattr(runner, "make_plan", make_plan)
        summary = batch(audio, tmp_path / "out", layout=layout)
    assert summary.failures_by_reason == {"no such file": 1}
    assert batch(audio, tmp_path / "out", layout=layout).failures == 0
    assert len(manifest(tmp_path / "out")) == 24


def test_full_disk_ends_the_run_and_a_further_one_completes(audio, tmp_path, small_tasks):
    """A limit on the size of files stands for the disk."""
    for layout in LAYOUTS:
        reference = tmp_path / f"reference-{layout}"
        batch(audio, reference, layout=layout)
        code = (
            "import resource, sys, codec2_eq.corpus.plan as plan; "
            "plan.TASK_FILES, plan.PART_FILES = (3, 3), 9; "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
            "from codec2_eq.cli import main; sys.exit(main())"
        )
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                "batch",
                str(audio),
                "-o",
                str(tmp_path / layout),
                "-m",
                "cmn",
                "--layout",
                layout,
                "--jobs",
                "2",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "file too large for its file system" in done.stderr
        with pytest.raises(Codec2EqError, match="is not complete"):
            ce.open_corpus(tmp_path / layout)
        batch(audio, tmp_path / layout, layout=layout)
        assert corpus_files(tmp_path / layout) == corpus_files(reference)


# A further run


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


def test_inputs_of_before_must_be_named(audio, tmp_path):
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


def test_listing_is_in_the_order_of_names(audio):
    found = listing.list_recordings([str(audio)])
    assert found.base == str(audio)
    assert list(found.stamps) == sorted(found.stamps, key=lambda name: name.split("/"))
    assert len(found.stamps) == 25


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


def test_command_tells_errors_in_one_line(audio, tmp_path):
    done = cli(audio, "-o", audio / "a b.wav" / "x")
    assert done.returncode == 1
    assert done.stderr.startswith("codec2-eq: error: ") and done.stderr.count("\n") == 1
    assert cli(audio).returncode == 2


def test_bar_on_a_terminal(audio, tmp_path):
    main, side = open_terminal(25, 120)
    done = subprocess.run(
        [sys.executable, "-m", "codec2_eq", "batch", audio, "-o", tmp_path / "out", "-m", "cmn"],
        stderr=side,
        check=False,
    )
    os.close(side)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert done.returncode == 0
    assert "100%|" in shown and "h of audio" in shown and "x real time, 0 failed" in shown


def test_a_corpus_says_in_a_line_what_it_is(samples_dir, tmp_path):
    ce.batch(samples_dir / "espeak_male_1.wav", tmp_path / "out", model="mean", jobs=1)
    corpus = ce.open_corpus(tmp_path / "out")
    expected = f"<Corpus {tmp_path / 'out'}: 1 utterances, 87 frames, mean, every 40 ms>"
    assert repr(corpus) == expected
