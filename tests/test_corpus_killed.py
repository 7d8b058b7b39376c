# SPDX-License-Identifier: LGPL-2.1-or-later
"""Corpora whose run is killed, or whose workers are, come out as if nothing had happened."""

import contextlib
import functools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile
from conftest import corpus_files, in_child, require_package
from corpora import LAYOUTS

import codec2_eq as ce
from codec2_eq.corpus import plan, recording, worker
from codec2_eq.errors import Codec2EqError

N_CLIPS = 120


@pytest.fixture(scope="module")
def clips(tmp_path_factory, samples_dir):
    """120 clips and two files that fail."""
    root = tmp_path_factory.mktemp("clips")
    speech, _ = soundfile.read(samples_dir / "espeak_male_1.wav", dtype="int16")
    for i in range(N_CLIPS):
        folder = root / f"speaker{i % 7}"
        folder.mkdir(exist_ok=True)
        soundfile.write(folder / f"{i:03d}.wav", speech[i * 50 : i * 50 + 9000], 8000)
    (root / "speaker1" / "empty.wav").touch()
    (root / "speaker4" / "text.wav").write_text("no sound")
    return root


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Cut into tasks of 4 recordings and parts of 20."""
    monkeypatch.setattr(plan, "TASK_FILES", (4, 4))
    monkeypatch.setattr(plan, "PART_FILES", 20)


def batch(inputs, output, **options):
    return ce.batch(inputs, output, **{"model": "cmn", "frame_ms": 10, "jobs": 2, **options})


def final_names(output):
    """Files under final names: of the user's and of the next run's."""
    return [
        path
        for path in Path(output).rglob("*")
        if path.is_file() and path.parent.name != "new" and path.name != "lock"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_at_random_moments(clips, tmp_path, layout):
    started = time.monotonic()
    batch(clips, tmp_path / "reference", layout=layout)
    whole_s = time.monotonic() - started
    reference = corpus_files(tmp_path / "reference")
    sizes = {name: len(data) for name, data in reference.items() if name.endswith(".f32")}
    moments = random.Random(7)
    n_unfinished = 0
    for i in range(20):
        out = tmp_path / f"out{i}"
        child = in_child(functools.partial(batch, clips, out, layout=layout))
        time.sleep(moments.uniform(0, 0.6 * whole_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        n_unfinished += not (out / "manifest.jsonl").exists()
        for path in final_names(out) if out.exists() else ():
            size = sizes.get(os.path.relpath(path, out))
            assert size in (None, path.stat().st_size), f"{path} is there and not whole"
        batch(clips, out, layout=layout)
        assert corpus_files(out) == reference
    assert n_unfinished  # some came before the end


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_again_and_again(clips, tmp_path, layout):
    batch(clips, tmp_path / "reference", layout=layout)
    out = tmp_path / "out"
    moments = random.Random(3)
    for _ in range(10):
        child = in_child(lambda: batch(clips, out, layout=layout, jobs=1))
        time.sleep(moments.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    batch(clips, out, layout=layout)
    assert corpus_files(out) == corpus_files(tmp_path / "reference")


def test_workers_follow_the_run_that_is_killed(clips, tmp_path, monkeypatch):
    ready, told = os.pipe()

    def stall_and_tell(*_, **__):
        os.write(told, f"{os.getpid()}\n".encode())
        time.sleep(60)

    def run():
        monkeypatch.setattr(recording, "_samples", stall_and_tell)
        batch(clips, tmp_path / "out")

    child = in_child(run)
    pid = int(os.read(ready, 100).split()[0])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and alive(pid):
        time.sleep(0.01)
    assert not alive(pid)
    batch(clips, tmp_path / "out")  # the lock has gone with it


def alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_interrupted_by_the_keyboard(clips, tmp_path):
    """Ctrl-C reaches all processes of a terminal; the run ends at once and leaves no draft."""

    def run():
        os.setpgid(0, 0)
        with contextlib.suppress(KeyboardInterrupt):
            batch(clips, tmp_path / "out", progress=slow)
            os._exit(1)
        os._exit(3)

    def slow(progress):
        (tmp_path / "begun").touch()
        time.sleep(0.5)

    child = in_child(run)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    batch(clips, tmp_path / "out")
    batch(clips, tmp_path / "reference")
    assert corpus_files(tmp_path / "out") == corpus_files(tmp_path / "reference")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_killed_worker_is_replaced(clips, tmp_path, layout):
    batch(clips, tmp_path / "reference", layout=layout)
    killed: list[int | None] = []

    def kill_one(progress):
        workers = multiprocessing.active_children()
        if workers and progress.n_bytes_done and len(killed) < 3:
            killed.append(workers[0].pid)
            workers[0].kill()

    summary = batch(clips, tmp_path / "out", layout=layout, progress=kill_one)
    assert len(killed) == 3
    assert summary.utterances == N_CLIPS
    assert corpus_files(tmp_path / "out") == corpus_files(tmp_path / "reference")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_recording_that_kills_its_worker_is_a_failure(clips, tmp_path, monkeypatch, layout):
    def deadly(job, path, counter):
        if path.endswith("017.wav"):
            os.kill(os.getpid(), signal.SIGKILL)
        return samples(job, path, counter)

    samples = recording._samples

    def run():
        monkeypatch.setattr(recording, "_samples", deadly)
        summary = batch(clips, tmp_path / "out", layout=layout)
        os._exit(summary.failures)

    child = in_child(run)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    failures = {f["audio_filepath"]: f["error"] for f in ce.open_corpus(tmp_path / "out").failures}
    assert failures[str(clips / "speaker3" / "017.wav")].startswith(plan.CRASHED)
    assert len(ce.open_corpus(tmp_path / "out")) == N_CLIPS - 1
    # It is not tried again, lest it kill the next run, until it is another file.
    assert batch(clips, tmp_path / "out", layout=layout).run_recordings in (0, 2)
    os.utime(clips / "speaker3" / "017.wav")
    assert batch(clips, tmp_path / "out", layout=layout).failures == 2


def test_workers_that_always_die_end_the_run(clips, tmp_path, monkeypatch):
    def run():
        monkeypatch.setattr(
            worker.Whereabouts, "tell", lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        )
        try:
            batch(clips, tmp_path / "out")
        except Codec2EqError as error:
            (tmp_path / "error").write_text(str(error))

    os.waitpid(in_child(run), 0)
    assert "workers: died 5 times" in (tmp_path / "error").read_text()
    assert batch(clips, tmp_path / "out").utterances == N_CLIPS


def test_a_given_executor_is_not_restarted(clips, tmp_path):
    def run():
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
            progress = kill_all(executor)
            try:
                batch(clips, tmp_path / "out", executor=executor, progress=progress)
            except Codec2EqError as error:
                (tmp_path / "error").write_text(str(error))

    def kill_all(executor):
        return lambda _: [p.kill() for p in (executor._processes or {}).values()]

    os.waitpid(in_child(run), 0)
    assert "run again with a new one to go on where it stopped" in (tmp_path / "error").read_text()
    batch(clips, tmp_path / "out")
    batch(clips, tmp_path / "reference")
    assert corpus_files(tmp_path / "out") == corpus_files(tmp_path / "reference")


def test_threads_do_as_well(clips, tmp_path):
    with ThreadPoolExecutor(3) as executor:
        batch(clips, tmp_path / "out", layout="shards", executor=executor)
    batch(clips, tmp_path / "reference", layout="shards")
    assert corpus_files(tmp_path / "out") == corpus_files(tmp_path / "reference")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dask_cluster_of_which_a_worker_is_killed(clips, tmp_path, layout):
    distributed = require_package("distributed")
    batch(clips, tmp_path / "reference", layout=layout)
    killed: list[int | None] = []
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        pids = list(client.run(os.getpid).values())

        def kill_one(progress):
            if progress.n_bytes_done and not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        client.run(work_slowly)
        batch(clips, tmp_path / "out", layout=layout, executor=executor, progress=kill_one)
    assert killed
    assert corpus_files(tmp_path / "out") == corpus_files(tmp_path / "reference")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_dask_worker_of_other_code_is_refused(clips, tmp_path):
    distributed = pytest.importorskip("distributed")
    other = tmp_path / "other" / "codec2_eq"
    shutil.copytree(Path(ce.__file__).parent, other, ignore=shutil.ignore_patterns("*.c", "*.pyx"))
    init = other / "__init__.py"
    init.write_text(init.read_text().replace(f'"{ce.__version__}"', '"0.0.1"'))
    with (
        distributed.LocalCluster(
            n_workers=0, dashboard_address=None, silence_logs="CRITICAL", host="127.0.0.1"
        ) as cluster,
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
            + ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", "local"],
            env={**os.environ, "PYTHONPATH": str(other.parent)},
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as elsewhere,
    ):
        try:
            with distributed.Client(cluster) as client, client.get_executor() as executor:
                client.wait_for_workers(1, timeout=60)
                message = (
                    rf"runs codec2_eq 0\.0\.1 .*, the job is for {ce.__version__} .*install the"
                )
                with pytest.raises(Codec2EqError, match=message):
                    batch(clips, tmp_path / "out", executor=executor)
        finally:
            elsewhere.kill()
    assert not list((tmp_path / "out").rglob("*.f32"))


def work_slowly():
    """Slow the workers down, that the kill may hit them at work."""
    original = recording._samples

    def slow(job, path, counter):
        time.sleep(0.005)
        return original(job, path, counter)

    recording._samples = slow


def test_scheduler_that_is_not_there(clips, tmp_path):
    require_package("distributed")
    from codec2_eq.corpus.executors import dask_executor

    distributed_config = require_package("dask").config
    with (
        distributed_config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(Codec2EqError, match=r"scheduler tcp://127.0.0.1:9: cannot be reached"),
        dask_executor("tcp://127.0.0.1:9"),
    ):
        pass
