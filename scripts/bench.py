#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure speed and memory, as ratios within one run, and write docs/performance.md.

Every figure is the median of interleaved runs, in CPU time unless it says otherwise; compare
ratios, not seconds. The reference is Codec 2's own encoder on the same audio.

    python scripts/bench.py --speech .speech --docs docs
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from bench_page import Table, draw, machine, update_page
from numpy.typing import NDArray

from codec2_eq import analysis
from codec2_eq.equalisers.equaliser import load_equaliser, load_trained, model_names
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import Extractor, extract

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "codec2_eq"]
PACKAGE = "asterisk-core-sounds-it-wav"
MINUTES = (3, 20, 60)  # of speech, for whole commands
PYCODEC2_LOOP = """
import sys, numpy, pycodec2
codec = pycodec2.Codec2(700)
frames = numpy.fromfile(sys.argv[1], numpy.int16)
frames = frames[: len(frames) // 320 * 320].reshape(-1, 320)
for frame in frames:
    codec.encode(frame)
"""
# A process starts with the peak memory of the one that forked it: fork from a small one.
LAUNCHER = """
import os, sys, time
start = time.perf_counter()
pid = os.fork()
if pid == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_utime + usage.ru_stime, time.perf_counter() - start, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Cost:
    """CPU and wall time of one run, s, and peak memory of its process, MB (0 in process)."""

    cpu_s: float
    wall_s: float
    peak_mb: float = 0.0


# -- measuring


def of_command(*words: str | Path, variant: str | None = None) -> Cost:
    """Run a command to its end."""
    environ = {**os.environ, **({"CODEC2_EQ_ISA": variant} if variant else {})}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *map(str, words)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise Codec2EqError(f"{words[0]}: exit code {done.returncode}; run it by hand")
    return Cost(*map(float, done.stdout.split()))


def of_call(function: Callable[[], Any]) -> Cost:
    """Run a function in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(jobs: Mapping[str, Callable[[], Cost]], runs: int) -> dict[str, Cost]:
    """Run all jobs in turn, several times; return the median of each."""
    costs: dict[str, list[Cost]] = {name: [] for name in jobs}
    for _ in range(runs):
        for name, job in jobs.items():
            costs[name].append(job())
    return {
        name: Cost(
            *(
                float(np.median([getattr(c, f) for c in done]))
                for f in ("cpu_s", "wall_s", "peak_mb")
            )
        )
        for name, done in costs.items()
    }


# -- what is measured


def against_codec2(raw: Path, wav: Path, c2enc: str, runs: int) -> Table:
    """Extraction in process and as a command against Codec 2's encoder."""
    samples = np.fromfile(raw, np.int16)
    as_float = samples.astype(np.float32)
    out = wav.with_suffix(".f32")
    ours = ("-o", out, "-f", "--jobs", "1")
    jobs = {
        "c2enc 700C": partial(of_command, c2enc, "700C", raw, out.with_suffix(".c2")),
        "pycodec2, one call per frame": partial(
            of_command, sys.executable, "-c", PYCODEC2_LOOP, raw
        ),
    }
    for variant in analysis.available_variants():
        analyse = partial(analyse_with, variant, as_float)
        jobs[f"in process, {variant}"] = partial(of_call, analyse)
        jobs[f"extract --jobs 1, {variant}"] = partial(
            of_command, *COMMAND, "extract", wav, *ours, variant=variant
        )
    for model in ("mean_removal", "cmn"):
        jobs[f"run -m {model} --jobs 1"] = partial(
            of_command, *COMMAND, "run", wav, *ours, "-m", model
        )
    costs = interleaved(jobs, runs)
    reference = costs["c2enc 700C"].cpu_s
    seconds = len(samples) / 8000
    table = Table(
        f"Against Codec 2's encoder, on {seconds / 60:.1f} minutes of speech",
        ("what", "CPU, s", "times c2enc's speed", "times real time"),
    )
    for name, cost in costs.items():
        table.rows.append(
            (
                name,
                f"{cost.cpu_s:.3f}",
                f"{reference / cost.cpu_s:.1f}",
                f"{seconds / cost.cpu_s:.0f}",
            )
        )
    return table


def analyse_with(variant: str, samples: NDArray[np.float32]) -> None:
    """Analyse with one compiled variant."""
    analysis.load_variant(variant).Analyser(4).process(samples)


def commands(folder: Path, samples: NDArray[np.int16], c2enc: str, runs: int) -> Table:
    """Whole commands, start included, against c2enc on as much speech."""
    words = {
        "extract": ("extract",),
        "extract --knots fit": ("extract", "--knots", "fit"),
        "encode": ("encode",),
    }
    speeds: dict[str, list[str]] = {name: [] for name in words}
    raw, wav, out = (folder / name for name in ("long.raw", "long.wav", "long.f32"))
    for minutes in MINUTES:
        speech = np.resize(samples, minutes * 60 * 8000)
        speech.tofile(raw)
        soundfile.write(wav, speech, 8000)
        jobs = {"c2enc": partial(of_command, c2enc, "700C", raw, out.with_suffix(".c2"))}
        for name, command in words.items():
            ours = (*command, str(wav), "-o", str(out), "-f", "--jobs", "1")
            jobs[name] = partial(of_command, *COMMAND, *ours)
        costs = interleaved(jobs, runs)
        for name in words:
            speeds[name].append(f"{costs['c2enc'].cpu_s / costs[name].cpu_s:.1f}")
    return Table(
        "Commands, start included: times c2enc's speed",
        ("command", *(f"{minutes} minutes of speech" for minutes in MINUTES)),
        [(f"`{name} --jobs 1`", *found) for name, found in speeds.items()],
    )


def stages(samples: NDArray[np.float32], runs: int) -> Table:
    """Time of each stage of the analysis, and of the two FFTs alone."""
    variants = analysis.available_variants()
    times: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    for _ in range(runs):
        for variant in variants:
            analyser = analysis.load_variant(variant).Analyser(4, timed=True)
            analyser.process(samples)
            times[variant].append(analyser.stage_seconds)
    n_frames = len(samples) // 320
    table = Table("Stages, in us for each 40 ms", ("stage", *variants))
    names = list(times[variants[0]][0])
    medians = {
        (variant, name): float(np.median([run[name] for run in times[variant]])) / n_frames * 1e6
        for variant in variants
        for name in names
    }
    for name in names:
        table.rows.append((name, *(f"{medians[v, name]:.2f}" for v in variants)))
    for title, chosen in (("both FFTs alone", ("pitch DFT", "spectrum")), ("all", names)):
        sums = (sum(medians[v, name] for name in chosen) for v in variants)
        table.rows.append((f"**{title}**", *(f"{total:.2f}" for total in sums)))
    return table


def equalisers(samples: NDArray[np.int16], runs: int) -> Table:
    """Time of each equaliser for a frame, and as a share of the extraction."""
    vectors = extract(samples).vectors
    jobs = {"extraction": partial(of_call, partial(extract, samples))}
    for name in model_names():
        jobs[name] = partial(of_call, partial(load_equaliser(name), vectors))
    step: Any = load_trained("channel_eq").layers[0]
    for title, wide in (("widest", True), ("baseline", False)):
        run = partial(step.compiled.run, vectors, step.initial_state(), wide=wide)
        jobs[f"channel_eq, its step alone, {title} vectors"] = partial(of_call, run)
    costs = interleaved(jobs, runs)
    whole = costs.pop("extraction").cpu_s
    table = Table("Equalisers", ("model", "us per frame", "share of the extraction"))
    for name, cost in costs.items():
        table.rows.append(
            (name, f"{cost.cpu_s / len(vectors) * 1e6:.2f}", f"{100 * cost.cpu_s / whole:.1f} %")
        )
    return table


def start_up(folder: Path, samples: NDArray[np.int16], runs: int) -> Table:
    """Whole processes for little work."""
    wav = folder / "short.wav"
    soundfile.write(wav, samples[8000 : 8000 + 24000], 8000)
    python = sys.executable
    jobs = {
        'python -c "import numpy, soundfile"': partial(
            of_command, python, "-c", "import numpy, soundfile"
        ),
        'python -c "import numpy"': partial(of_command, python, "-c", "import numpy"),
        "codec2-eq --help": partial(of_command, *COMMAND, "--help"),
        "codec2-eq run, 3 s WAV": partial(
            of_command, *COMMAND, "run", wav, "-o", folder / "short.f32", "-f"
        ),
    }
    costs = interleaved(jobs, max(runs, 9))
    reference = next(iter(costs.values())).cpu_s
    table = Table("Start-up", ("command", "wall, s", "CPU, s", "CPU, ratio to the first"))
    for name, cost in costs.items():
        table.rows.append(
            (
                f"`{name}`",
                f"{cost.wall_s:.3f}",
                f"{cost.cpu_s:.3f}",
                f"{cost.cpu_s / reference:.2f}",
            )
        )
    return table


def long_files(folder: Path, samples: NDArray[np.int16], hours: Sequence[float]) -> Table:
    """Memory and speed for long files, with one job and with two."""
    table = Table(
        "Long files",
        ("hours", "jobs", "wall, s", "CPU, s", "peak memory, MB", "faster than one job"),
    )
    wav = folder / "long.wav"
    for length in hours:
        with soundfile.SoundFile(wav, "w", 8000, 1, "PCM_16") as file:
            left = int(length * 3600 * 8000)
            while left > 0:
                file.write(samples[:left])
                left -= len(samples)
        words = [*COMMAND, "extract", str(wav), "-o", str(folder / "long.f32"), "-f", "--jobs"]
        jobs = {n: partial(of_command, *words, n) for n in ("1", "2")}
        costs = interleaved(jobs, 3)
        for n, cost in costs.items():
            gain = costs["1"].wall_s / cost.wall_s
            table.rows.append(
                (
                    f"{length:.2f}",
                    n,
                    f"{cost.wall_s:.2f}",
                    f"{cost.cpu_s:.2f}",
                    f"{cost.peak_mb:.0f}",
                    f"{gain:.2f}",
                )
            )
    wav.unlink()
    return table


def live_pipe(samples: NDArray[np.int16], runs: int) -> Table:
    """One 10 ms frame at a time."""
    hops = samples[: 80 * 4000].reshape(-1, 80)

    def feed(frame_ms: int) -> None:
        extractor = Extractor(frame_ms=frame_ms)
        for hop in hops:
            extractor.process(hop)

    jobs = {str(ms): partial(of_call, partial(feed, ms)) for ms in (40, 10)}
    costs = interleaved(jobs, runs)
    table = Table("A live pipe, 10 ms at a time", ("vectors every", "us of CPU for each 10 ms"))
    for ms, cost in costs.items():
        table.rows.append((f"{ms} ms", f"{cost.cpu_s / len(hops) * 1e6:.1f}"))
    return table


# -- the command


def read_speech(folder: Path) -> NDArray[np.int16]:
    """Join the recordings of one package."""
    files = sorted((folder / "audio" / PACKAGE).rglob("*.wav"))
    if not files:
        raise Codec2EqError(f"{folder}: no recordings; scripts/fetch_speech.py --package {PACKAGE}")
    return np.concatenate([soundfile.read(path, dtype="int16")[0] for path in files])


def main() -> int:
    """Measure, print, and with --docs write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speech", type=Path, default=ROOT / ".speech", help="fetched recordings")
    parser.add_argument("--docs", type=Path, help="folder of the page and the picture to write")
    parser.add_argument("--c2enc", help="by default that of the system, else the fetched one")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hours", type=float, nargs="*", default=[1 / 6, 1, 10])
    args = parser.parse_args()
    samples = read_speech(args.speech)
    c2enc = args.c2enc or shutil.which("c2enc") or str(args.speech / "tools" / "bin" / "c2enc")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # An installation has its modules compiled; so have we, whatever the environment says.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        raw, wav = folder / "speech.raw", folder / "speech.wav"
        samples.tofile(raw)
        soundfile.write(wav, samples, 8000)
        tables = [against_codec2(raw, wav, c2enc, args.runs)]
        tables.append(commands(folder, samples, c2enc, args.runs))
        as_float = samples.astype(np.float32)
        tables.append(stages(as_float, args.runs))
        tables.append(equalisers(samples, args.runs))
        tables.append(live_pipe(samples, args.runs))
        tables.append(start_up(folder, samples, args.runs))
        tables.append(long_files(folder, samples, args.hours))
    text = f"Measured on: {machine()}.\n\n" + "\n".join(table.markdown() for table in tables)
    print(text)
    if args.docs:
        update_page(args.docs / "performance.md", text)
        draw(tables[0], args.docs / "performance.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Codec2EqError as error:
        sys.exit(f"bench: {error}")
