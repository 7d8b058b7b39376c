# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recordings that corpora are made of, and short ways to make and look at one."""

import json
from pathlib import Path

import soundfile

import codec2_eq as ce
from codec2_eq.corpus import plan

LAYOUTS = ("tree", "shards")


def write_clip(path, speech, start, n_samples, **options):
    """Cut a clip from the speech fixture; clips of one start and length are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start %= len(speech) - n_samples
    soundfile.write(path, speech[start : start + n_samples], 8000, subtype="PCM_16", **options)
    return path


def write_recordings(root, speech):
    """Write 25 clips in three folders, some with difficult names; return the root."""
    names = ["a b.wav", "ü/ж文.wav", "line\nbreak.wav", 'quote".flac', "deep/er/x.wav"]
    names += [f"speaker{i % 3}/{i:02d}.wav" for i in range(20)]
    for i, name in enumerate(names):
        write_clip(root / name, speech, 777 * i, 2000 + 500 * i)
    return root


def cut_finely(monkeypatch, *, task=3, part=9):
    """Cut into tasks and parts of so many recordings."""
    monkeypatch.setattr(plan, "TASK_FILES", (task, task))
    monkeypatch.setattr(plan, "PART_FILES", part)


def batch(inputs, output, **options):
    return ce.batch(inputs, output, **{"model": "cmn", "jobs": 1, **options})


def manifest(output):
    lines = (Path(output) / "manifest.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def modified(output):
    return {path: path.stat().st_mtime_ns for path in Path(output).rglob("*") if path.is_file()}
