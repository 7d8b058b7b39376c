# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recordings and disks that fail, and what becomes of the others."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import soundfile
from conftest import corpus_files
from corpora import LAYOUTS, batch, manifest, write_clip

import codec2_eq as ce
from codec2_eq.corpus import runner
from codec2_eq.errors import Codec2EqError


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


def test_empty_recordings_are_warned_of_and_counted(audio, tmp_path):
    soundfile.write(audio / "empty.wav", np.zeros(0, np.int16), 8000)
    summary = batch(audio, tmp_path / "out")
    assert (summary.empty, summary.failures, summary.warnings) == (1, 0, 1)
    (line,) = (line for line in manifest(tmp_path / "out") if "warning" in line)
    assert line["frames"] == 0 and "empty" in line["warning"] or "no samples" in line["warning"]


def test_a_pipe_in_a_corpus_does_not_undo_its_shard(audio, tmp_path):
    os.mkfifo(audio / "pipe.wav")
    out = tmp_path / "out"
    first = batch(audio, out, layout="shards")
    assert first.failures == 1
    again = batch(audio, out, layout="shards")
    assert again.run_recordings == 0
    assert again.failures == 1
