#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure batch: what a corpus of short recordings costs more than one long one, and how it scales.

    python scripts/bench_corpus.py cost    # 3,000 real recordings against long ones of the same
    python scripts/bench_corpus.py rate    # recordings of 2 s a second
    python scripts/bench_corpus.py many    # 100,000 recordings of 0.2 s: memory, steadiness, files
    python scripts/bench_corpus.py units   # unit costs at 10 and 40 ms, for planning

Ratios are medians over interleaved runs; compare them, not seconds, where others use the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

import codec2_eq as ce
from codec2_eq.audio.stream import read_audio
from codec2_eq.corpus import Progress

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "codec2_eq"]
PACKAGES = (
    "asterisk-core-sounds-fr-wav",
    "asterisk-core-sounds-it-wav",
    "asterisk-prompt-it-menardi-wav",
    "klettres-data",
)


class Cost(NamedTuple):
    """CPU and wall time of a command and all its children, s."""

    cpu_s: float
    wall_s: float


def main() -> None:
    """Run the measurement asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("cost", "rate", "many", "units"))
    parser.add_argument("--speech", type=Path, default=ROOT / ".speech")
    parser.add_argument("--model", default="none", help="equaliser (default: %(default)s)")
    parser.add_argument("--files", type=int, help="number of recordings (3000, 6000, 100000)")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_corpus-") as folder:
        # An installation has its modules compiled; so have we, whatever the environment says.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = os.path.join(folder, "compiled")
        globals()[f"measure_{args.what}"](args, Path(folder))


def run(*words: str | Path) -> Cost:
    """Run codec2-eq; return what it cost."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run([*COMMAND, *map(str, words)], check=True, stderr=subprocess.DEVNULL)
    wall_s = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu_s, wall_s)


def real_files(speech: Path, n_files: int) -> list[Path]:
    """Return real recordings of all packages, evenly."""
    found = [path for name in PACKAGES for path in sorted((speech / "audio" / name).rglob("*.wav"))]
    if len(found) < n_files:
        sys.exit(f"{speech}: {len(found)} recordings, {n_files} needed; see fetch_speech.py")
    return [found[i * len(found) // n_files] for i in range(n_files)]


def join_by_format(files: Sequence[Path], folder: Path) -> list[Path]:
    """Write the same audio as few long files, one for each rate and number of channels."""
    groups: dict[tuple[int, int], list[np.ndarray]] = defaultdict(list)
    for path in files:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
        groups[rate, samples.shape[1]].append(samples)
    paths = []
    for (rate, channels), parts in groups.items():
        paths.append(folder / f"long_{rate}_{channels}.wav")
        soundfile.write(paths[-1], np.concatenate(parts), rate, "PCM_16")
    return paths


def measure_cost(args: argparse.Namespace, folder: Path) -> None:
    """Compare batch with extracting long files of the same audio, and two jobs with one."""
    files = real_files(args.speech, args.files or 3000)
    names = folder / "list.txt"
    names.write_text("".join(f"{path}\n" for path in files))
    longs = join_by_format(files, folder)
    seconds = sum(soundfile.info(path).duration for path in longs)
    print(f"{len(files)} recordings, {seconds / 3600:.2f} h, in {len(longs)} long files")
    silence = folder / "silence.wav"
    soundfile.write(silence, np.zeros(800), 8000)
    results: dict[str, list[Cost]] = defaultdict(list)
    run("batch", silence, "-o", folder / "first", "-m", args.model)  # compiles the modules
    for repeat in range(args.repeats):
        # As if they were one, whatever their formats: one start of the program counts.
        start = run("run", silence, "-o", folder / "0.f32", "-f", "--jobs", "1", "-m", args.model)
        more = len(longs) - 1
        parts = [
            run("run", path, "-o", folder / "long.f32", "-f", "--jobs", "1", "-m", args.model)
            for path in longs
        ]
        results["long"].append(
            Cost(
                sum(part.cpu_s for part in parts) - more * start.cpu_s,
                sum(part.wall_s for part in parts) - more * start.wall_s,
            )
        )
        for layout in ("shards", "tree"):
            for jobs in (1, 2):
                # Not removed in between: ext4 is slow to make files just after many are removed.
                out = folder / f"out-{layout}-{jobs}-{repeat}"
                cost = run(
                    "batch",
                    f"@{names}",
                    "-o",
                    out,
                    "-m",
                    args.model,
                    "--layout",
                    layout,
                    "--jobs",
                    str(jobs),
                )
                results[f"{layout} {jobs}"].append(cost)
    for name, costs in results.items():
        cpu = statistics.median(cost.cpu_s for cost in costs)
        wall = statistics.median(cost.wall_s for cost in costs)
        ratio = statistics.median(
            cost.cpu_s / long.cpu_s for cost, long in zip(costs, results["long"], strict=True)
        )
        print(f"{name:10} CPU {cpu:6.2f} s, wall {wall:6.2f} s, CPU against long {ratio:.2f}")
    for layout in ("shards", "tree"):
        pairs = zip(results[f"{layout} 1"], results[f"{layout} 2"], strict=True)
        gain = statistics.median(one.wall_s / two.wall_s for one, two in pairs)
        print(f"{layout}: two jobs are {gain:.2f} times as fast as one")


def cut_clips(speech: Path, folder: Path, n_files: int, clip_s: float) -> None:
    """Write clips of real speech, all in one folder."""
    wanted = int(clip_s * 8000)
    joined = join_by_format(real_files(speech, 1000), folder)
    samples = read_audio(next(p for p in joined if "_8000_1" in p.name)).astype(np.int16)
    clips = folder / "clips"
    clips.mkdir()
    for i in range(n_files):
        start = i * 97 % (len(samples) - wanted)
        soundfile.write(clips / f"{i:06d}.wav", samples[start : start + wanted], 8000, "PCM_16")
    for path in joined:
        path.unlink()


def measure_rate(args: argparse.Namespace, folder: Path) -> None:
    """Measure recordings of 2 s a second with two jobs, from start to exit."""
    n_files = args.files or 6000
    cut_clips(args.speech, folder, n_files, 2.0)
    for layout in ("tree", "shards"):
        rates = []
        for repeat in range(args.repeats):
            cost = run(
                "batch",
                folder / "clips",
                "-o",
                folder / f"out-{layout}-{repeat}",
                "--jobs",
                "2",
                "--layout",
                layout,
                "-m",
                args.model,
            )
            rates.append(n_files / cost.wall_s)
        median = statistics.median(rates)
        print(f"{layout}: {median:.0f} a second (from {min(rates):.0f} to {max(rates):.0f})")


def measure_many(args: argparse.Namespace, folder: Path) -> None:
    """Measure memory, steadiness and files left for very many very short recordings."""
    n_files = args.files or 100_000
    cut_clips(args.speech, folder, n_files, 0.2)
    for layout in ("shards", "tree"):
        out = folder / f"out-{layout}"
        times: list[tuple[float, float]] = []

        def note(progress: Progress, times: list[tuple[float, float]] = times) -> None:
            times.append((progress.n_bytes_done / progress.n_bytes, time.monotonic()))

        with PeakMemory() as memory:
            started = time.monotonic()
            ce.batch(folder / "clips", out, layout=layout, model=args.model, jobs=2, progress=note)
            elapsed_s = time.monotonic() - started
        left = sum(len(names) for _, _, names in os.walk(out))
        first, last = tenth_s(times, 0.0, 0.1), tenth_s(times, 0.9, 1.0)
        print(
            f"{layout}: {elapsed_s:.1f} s, peak memory of all processes {memory.peak_mb:.0f} MB, "
            f"rate of the last tenth {first / last:.2f} of the first, {left} files left"
        )


def tenth_s(times: Sequence[tuple[float, float]], start: float, stop: float) -> float:
    """Return the time that a tenth of the work took, s."""
    shares, moments = zip(*times, strict=True)
    return float(np.interp(stop, shares, moments) - np.interp(start, shares, moments))


class PeakMemory:
    """Largest sum, MB, over this process and its children; shared memory counts once (PSS)."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()

    def __enter__(self) -> PeakMemory:
        # a process, not a thread, so that workers can be forked
        code = (
            f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); "
            f"import bench_corpus; bench_corpus.watch_memory({os.getpid()})"
        )
        self._watcher = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.peak_mb = float(self._watcher.communicate()[0])


def watch_memory(pid: int) -> None:
    """Print the peak of a process and its children when stdin closes."""
    import select

    peak_kb = 0
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pids = [pid, *children(pid)]
        peak_kb = max(peak_kb, sum(pss_kb(p) for p in pids if p != os.getpid()))
    print(peak_kb / 1024)


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def pss_kb(pid: int) -> int:
    """Proportional set size of a process, kB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measure_units(args: argparse.Namespace, folder: Path) -> None:
    """Measure core-seconds and bytes for an hour of audio, for each equaliser and interval."""
    found = real_files(args.speech, 3000)
    files = [path for path in found if soundfile.info(path).samplerate == 8000]
    names = folder / "list.txt"
    names.write_text("".join(f"{path}\n" for path in files))
    hours = sum(soundfile.info(path).duration for path in files) / 3600
    read = measure_in_process(lambda: [read_audio(path) for path in files])
    print(f"{len(files)} recordings at 8 kHz, {hours:.2f} h; reading alone {read / hours:.2f} s/h")
    models = [facts.name for facts in ce.available_models()]
    for frame_ms in (10, 40):
        for model in models:
            costs = []
            for _ in range(args.repeats):
                out = folder / "out"
                costs.append(
                    run(
                        "batch",
                        f"@{names}",
                        "-o",
                        out,
                        "--layout",
                        "shards",
                        "-m",
                        model,
                        "--frame-ms",
                        str(frame_ms),
                        "--summary",
                        folder / "s.json",
                        "--jobs",
                        "1",
                    ).cpu_s
                )
                shutil.rmtree(out)
            frames = json.loads((folder / "s.json").read_text())["frames"]
            print(
                f"{frame_ms} ms, {model}: {statistics.median(costs) / hours:.2f} core-seconds and "
                f"{frames * 80 / hours / 1e6:.1f} MB for an hour of audio"
            )


def measure_in_process(work: Callable[[], object]) -> float:
    """CPU time of a function, s."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
