# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two passes over a corpus, pooled by speaker: what is heard, and that it repeats itself."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import corpus_files, in_child, require_package
from corpora import cut_finely

import codec2_eq as ce
from codec2_eq.corpus import speakers
from codec2_eq.corpus.digests import unsealed
from codec2_eq.errors import Codec2EqError


@pytest.fixture
def audio(tmp_path, speech):
    """Three speakers of eight clips; the third has a microphone of its own."""
    root = tmp_path / "audio"
    for i in range(24):
        path = root / f"s{i % 3}" / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        clip = speech[700 * i : 700 * i + 9000].astype(float)
        soundfile.write(path, (clip / 4 if i % 3 < 2 else np.diff(clip)).astype(np.int16), 8000)
    return root


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    cut_finely(monkeypatch)


def batch(inputs, output, **options):
    return ce.batch(inputs, output, **{"model": "cmn", "jobs": 1, "passes": 2, **options})


def vectors(output):
    corpus = ce.open_corpus(output)
    return {utterance.audio_filepath: corpus.vectors(utterance) for utterance in corpus}


def test_two_passes_over_each_recording(audio, tmp_path):
    batch(audio, tmp_path / "out")
    equaliser = ce.load_equaliser("cmn")
    for path, found in vectors(tmp_path / "out").items():
        wanted = equaliser(ce.extract_file(path).vectors, passes=2)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("layout", ["tree", "shards"])
def test_speakers_are_pooled(audio, tmp_path, layout):
    out = tmp_path / "out"
    batch(audio, out, speakers="folder", layout=layout)
    equaliser = ce.load_equaliser("cmn")
    by_name = sorted(audio.rglob("*.wav"), key=lambda p: speakers._hash(str(p.relative_to(audio))))
    for speaker in ("s0", "s1", "s2"):
        heard = [ce.extract_file(path).vectors for path in by_name if path.parent.name == speaker]
        knowing = equaliser.after(np.concatenate(heard))
        for path, found in vectors(out).items():
            if Path(path).parent.name == speaker:
                np.testing.assert_array_equal(found, knowing(ce.extract_file(path).vectors))
    assert not list((out / ".codec2-eq" / "speakers").glob("*.npz"))


def test_a_file_of_speakers_is_as_good_as_folders(audio, tmp_path):
    batch(audio, tmp_path / "folders", speakers="folder")
    lines = [f"{p} {p.parent.name}" for p in sorted(audio.rglob("*.wav"))]
    lines += ["nobody s9"]
    (tmp_path / "utt2spk").write_text("\n".join(lines))
    summary = batch(audio, tmp_path / "file", speakers=tmp_path / "utt2spk")
    assert summary.unused_speaker_lines == 1
    one, other = vectors(tmp_path / "folders"), vectors(tmp_path / "file")
    assert all(np.array_equal(one[path], other[path]) for path in one)
    scp = tmp_path / "wav.scp"
    scp.write_text("".join(f"utt{i} {line.split()[0]}\n" for i, line in enumerate(lines[:-1])))
    ids = "".join(f"utt{i} {line.split()[1]}\n" for i, line in enumerate(lines[:-1]))
    (tmp_path / "utt2spk").write_text(ids)
    batch((), tmp_path / "ids", scp=scp, speakers=tmp_path / "utt2spk")
    other = vectors(tmp_path / "ids")
    assert all(np.array_equal(one[path], other[path]) for path in one)


def test_jobs_and_order_make_no_difference(audio, tmp_path):
    batch(audio, tmp_path / "one", speakers="folder")
    batch(audio, tmp_path / "two", speakers="folder", jobs=2)
    assert corpus_files(tmp_path / "one") == corpus_files(tmp_path / "two")
    turned = sorted(audio.iterdir(), reverse=True)
    batch([*turned], tmp_path / "turned", speakers="folder")
    one, other = vectors(tmp_path / "one"), vectors(tmp_path / "turned")
    assert all(np.array_equal(one[path], other[path]) for path in one)


def test_a_recording_that_comes_later_starts_from_what_is_known(audio, tmp_path, speech):
    out = tmp_path / "out"
    batch(audio, out, speakers="folder")
    before = vectors(out)
    soundfile.write(audio / "s1" / "late.wav", speech[:12000], 8000)
    summary = batch(audio, out, speakers="folder")
    assert (summary.late, summary.run_recordings) == (1, 1)
    after = vectors(out)
    assert all(np.array_equal(before[path], after[path]) for path in before)
    known = [
        json.loads(unsealed(p.read_bytes()))
        for p in (out / ".codec2-eq" / "speakers").glob("*.json")
    ]
    assert sorted(fields["speaker"] for fields in known) == ["s0", "s1", "s2"]


def test_only_so_much_is_heard_of_a_speaker(tmp_path, speech, monkeypatch):
    monkeypatch.setattr(speakers, "POOL_S", 3.0)
    long = np.tile(speech, 4)
    frames = ce.extract(long)
    n_frames, active_s = speakers._share(frames, 3.0)
    assert active_s == pytest.approx(3.0, abs=0.04)
    assert speakers._share(frames, 1e6) == (len(frames), pytest.approx(active_s, abs=20))
    assert speakers._share(ce.extract(long[:10]), 3.0) == (0, 0.0)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "long.wav", long, 8000)
    batch(tmp_path / "audio", tmp_path / "out", speakers="folder")
    equaliser = ce.load_equaliser("cmn")
    (found,) = vectors(tmp_path / "out").values()
    knowing = equaliser.after(frames.vectors[:n_frames])
    np.testing.assert_array_equal(found, knowing(frames.vectors))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alone\n", "line 1: names no speaker"),
        ("a x\na y\n", "line 2: a had another speaker in an earlier line"),
    ],
)
def test_bad_files_of_speakers(audio, tmp_path, text, message):
    (tmp_path / "utt2spk").write_text(text)
    with pytest.raises(Codec2EqError, match=message):
        batch(audio, tmp_path / "out", speakers=tmp_path / "utt2spk")
    with pytest.raises(Codec2EqError, match="pooled in a first pass"):
        batch(audio, tmp_path / "out", passes=1, speakers="folder")


CLUSTER = """
import sys, distributed
if __name__ == "__main__":
    with distributed.LocalCluster(
        2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""
KILLS, DASK_KILLS = 20, 5


@pytest.fixture
def scheduler(tmp_path):
    """Address of a Dask cluster in processes of its own, that this one may be forked."""
    require_package("distributed")
    (tmp_path / "cluster.py").write_text(CLUSTER)
    with subprocess.Popen(
        [sys.executable, tmp_path / "cluster.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as cluster:
        assert cluster.stdin and cluster.stdout
        yield cluster.stdout.readline().decode().strip()
        cluster.stdin.close()


def kill_at_random_moments(run, reference, out, kills):
    """Kill runs into `out`; each time the next one makes of it what an undisturbed run makes."""
    os.waitpid(in_child(lambda: run(reference)), 0)
    started = time.monotonic()
    os.waitpid(in_child(lambda: run(out)), 0)
    whole_s = time.monotonic() - started
    moments = random.Random(5)
    n_unfinished = 0
    for _ in range(kills):
        shutil.rmtree(out, ignore_errors=True)
        child = in_child(lambda: run(out))
        time.sleep(moments.uniform(0, 0.6 * whole_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        n_unfinished += not (out / "manifest.jsonl").exists()
        os.waitpid(in_child(lambda: run(out)), 0)
        assert corpus_files(out) == corpus_files(reference)
    assert n_unfinished  # some came before the end


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tree", "shards"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_at_random_moments(audio, tmp_path, layout, jobs):
    def run(output):
        batch(audio, output, speakers="folder", layout=layout, jobs=jobs)

    kill_at_random_moments(run, tmp_path / "reference", tmp_path / "out", KILLS)


@pytest.mark.slow
def test_killed_at_random_moments_on_dask(audio, tmp_path, scheduler):
    """What its workers are still at when the run is killed does no harm either."""
    from codec2_eq.corpus.executors import dask_executor

    def run(output):
        with dask_executor(scheduler) as executor:
            batch(audio, output, speakers="folder", executor=executor)

    kill_at_random_moments(run, tmp_path / "reference", tmp_path / "out", DASK_KILLS)
