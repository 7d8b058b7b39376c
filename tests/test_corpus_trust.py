# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a run did not make it does not touch; what is damaged is found; workers are of one code."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import corpus_files
from corpora import LAYOUTS, batch

import codec2_eq as ce
from codec2_eq.corpus import build, worker
from codec2_eq.corpus.digests import sealed, unsealed
from codec2_eq.corpus.store import json_line, records_json
from codec2_eq.errors import Codec2EqError

MADE = (
    {"format": "f32"},
    {"format": "npy"},
    {"format": "npz"},
    {"layout": "shards"},
    {"layout": "kaldi"},
    {"layout": "webdataset"},
)


@pytest.fixture
def audio(tmp_path, speech):
    for i in range(5):
        path = tmp_path / "audio" / f"s{i % 2}" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speech[500 * i : 500 * i + 6000], 8000)
    return tmp_path / "audio"


# Files of others


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("part-00000.f32", {"layout": "shards"}),
        ("part-00000.ark", {"layout": "kaldi"}),
        ("feats.scp", {"layout": "kaldi"}),
        ("part-00000.tar", {"layout": "webdataset"}),
        ("manifest.jsonl", {"layout": "shards"}),
        ("manifest.jsonl", {}),
        ("s0/0.f32", {}),
    ],
)
def test_a_file_of_others_is_kept_without_force(audio, tmp_path, name, made):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("a week of work")
    with pytest.raises(Codec2EqError, match="exists already and is not of this corpus"):
        batch(audio, out, **made)
    assert (out / name).read_text() == "a week of work"
    batch(audio, out, force=True, **made)
    assert (out / name).read_bytes() != b"a week of work"


def hostile_plan(out, change):
    """Change the tasks of a plan as one would who can seal it."""
    path = out / ".codec2-eq" / "plan.jsonl"
    head, *tasks = map(json.loads, unsealed(path.read_bytes()).splitlines())
    change(tasks)
    path.write_bytes(sealed(b"".join(map(json_line, (head, *tasks)))))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "target", ["../victim/precious.f32", "{victim}/precious.f32", "s0/../../v"]
)
def test_a_plan_that_points_elsewhere(audio, tmp_path, force, target):
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.mkdir()
    precious = victim / "precious.f32"
    precious.write_text("precious")
    batch(audio, out)
    whole = corpus_files(out)
    target = target.format(victim=victim)
    hostile_plan(out, lambda tasks: tasks[0]["recordings"][0].__setitem__(2, target))
    shutil.rmtree(out / ".codec2-eq" / "parts")
    batch(audio, out, force=force)
    assert precious.read_text() == "precious"
    assert corpus_files(out) == whole


@pytest.mark.parametrize("name", ["lock", "plan.jsonl", "manifest.jsonl", "job.pickle"])
@pytest.mark.parametrize("force", [False, True])
def test_planted_links_lead_nowhere(audio, tmp_path, name, force):
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("precious")
    (out / ".codec2-eq").mkdir(parents=True)
    (out / ".codec2-eq" / name).symlink_to(victim)
    if name == "lock":
        with pytest.raises(Codec2EqError, match="lock: is a link and no lock of ours; remove it"):
            batch(audio, out, force=force)
    else:
        assert batch(audio, out, force=force).utterances == 5
    assert victim.read_text() == "precious"


def test_a_linked_state_folder_is_refused(audio, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / ".codec2-eq").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Codec2EqError, match="is a link and no folder of ours"):
        batch(audio, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_folders_that_lead_out_are_refused(audio, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "s0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Codec2EqError, match="leads out of the output folder by a link"):
        batch(audio, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_linked_output_is_replaced_and_not_followed(audio, tmp_path):
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("precious")
    (out / "s0").mkdir(parents=True)
    (out / "s0" / "0.f32").symlink_to(victim)
    batch(audio, out, force=True)
    assert victim.read_text() == "precious" and not (out / "s0" / "0.f32").is_symlink()


@pytest.mark.parametrize("where", ["tasks", "parts", "new", "speakers"])
@pytest.mark.parametrize("name", [".nfs0000000000a1", ".DS_Store", "folder/"])
@pytest.mark.parametrize("force", [False, True])
def test_what_others_leave_in_the_state_folder_is_ignored(audio, tmp_path, where, name, force):
    out = tmp_path / "out"
    batch(audio, out)
    path = out / ".codec2-eq" / where / name
    path.mkdir() if name.endswith("/") else path.touch()
    batch(audio, out, force=force)
    assert path.exists()
    assert len(ce.open_corpus(out)) == 5


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", ".codec2-eq/plan.jsonl", 3])
def test_a_manifest_that_points_elsewhere(audio, tmp_path, path):
    out = tmp_path / "out"
    batch(audio, out)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    lines[0]["path"] = path
    (out / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(Codec2EqError, match=r"manifest\.jsonl: damaged"):
        ce.open_corpus(out)


def test_levels_that_a_corpus_only_claims_to_keep(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out)
    options = out / "corpus.json"
    options.write_text(options.read_text().replace('"records": false', '"records": true'))
    with pytest.raises(Codec2EqError, match=r"records\.f32"):
        ce.open_corpus(out).levels(0)


@pytest.mark.parametrize(
    "line",
    ["[1]", "{}", '{"frames": "x"}', "1e999", "null", '{"task": 1}', "[" * 100000, '["a", 1]'],
)
@pytest.mark.parametrize("name", ["plan.jsonl", "parts/00000.jsonl", "../manifest.jsonl"])
def test_state_of_wrong_types_is_made_again(audio, tmp_path, name, line):
    out = tmp_path / "out"
    batch(audio, out)
    whole = corpus_files(out)
    (out / ".codec2-eq" / name).write_text(line + "\n")
    batch(audio, out)
    assert corpus_files(out) == whole


@pytest.mark.parametrize("output", ["x", "x.npy", "first of all"])
def test_a_plan_that_names_no_file_of_its_own_for_a_recording_is_made_again(
    audio, tmp_path, output
):
    out = tmp_path / "out"
    batch(audio, out)
    whole = corpus_files(out)

    def change(tasks):
        recordings = [recording for task in tasks for recording in task["recordings"]]
        recordings[-1][2] = recordings[0][2] if output == "first of all" else output

    hostile_plan(out, change)
    batch(audio, out)
    assert corpus_files(out) == whole


@pytest.mark.parametrize("layout", ["shards", "kaldi", "webdataset"])
def test_records_of_more_frames_than_their_bytes_hold_are_made_again(audio, tmp_path, layout):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    whole = corpus_files(out)
    part = out / ".codec2-eq" / "parts" / "00000.jsonl"
    records = json.loads(unsealed(part.read_bytes()))
    records[0][4] = 1 << 40
    part.write_bytes(records_json(records))
    batch(audio, out, layout=layout)
    assert corpus_files(out) == whole


@pytest.mark.parametrize("old", [b'"part": 0', b'"s0/2.wav"', b'"s1/3"'])
def test_a_plan_that_was_edited_is_made_again(audio, tmp_path, old):
    out = tmp_path / "out"
    batch(audio, out, layout="kaldi")
    before = corpus_files(out)
    plan = out / ".codec2-eq" / "plan.jsonl"
    data = plan.read_bytes()
    assert old in data
    plan.write_bytes(
        data.replace(old, old[:-1] + (b"x" if old.endswith(b'"') else b"1") + old[-1:])
    )
    batch(audio, out, layout="kaldi")
    assert corpus_files(out) == before


def test_options_without_a_folder_are_refused(audio, tmp_path):
    out = tmp_path / "out"
    batch(audio, out)
    options = json.loads((out / "corpus.json").read_bytes())
    (out / "corpus.json").write_text(json.dumps(options | {"base": ""}))
    with pytest.raises(Codec2EqError, match=r"does not describe a corpus of this version \(base '"):
        batch(audio, out)


# Damage


def damages(data):
    half = len(data) // 2
    garbled = bytearray(data)
    garbled[half] ^= 1
    return {"empty": b"", "cut": data[:half], "zeroed": bytes(len(data)), "garbled": bytes(garbled)}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("damage", ["empty", "cut", "zeroed", "garbled", "long"])
def test_damaged_outputs_are_found_and_made_again(audio, tmp_path, made, damage):
    out = tmp_path / "out"
    batch(audio, out, **made)
    whole = corpus_files(out)
    path = out / ce.open_corpus(out)[1].path
    data = path.read_bytes()
    path.write_bytes({**damages(data), "long": data + b"\0" * 80}[damage])
    batch(audio, out, **made)
    assert corpus_files(out) == whole
    times = {name: (out / name).stat().st_mtime_ns for name in whole}
    assert batch(audio, out, **made).run_recordings == 0
    changed = {n for n, t in times.items() if (out / n).stat().st_mtime_ns != t}
    assert changed <= {".codec2-eq/plan.jsonl"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_that_were_merely_touched_are_kept(audio, tmp_path, layout):
    out = tmp_path / "out"
    batch(audio, out, layout=layout)
    os.utime(out / ce.open_corpus(out)[1].path)
    assert batch(audio, out, layout=layout).run_recordings == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_size_and_time_but_other_content(audio, tmp_path, layout):
    out, path = tmp_path / "out", audio / "s0" / "0.wav"
    os.utime(path, (1e9, 1e9))
    batch(audio, out, layout=layout, check_content=True)
    data = bytearray(path.read_bytes())
    data[1000:9000] = bytes(8000)
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))
    assert batch(audio, out, layout=layout).run_recordings == 0
    n_again = 1 if layout == "tree" else 5
    assert batch(audio, out, layout=layout, check_content=True).run_recordings == n_again
    assert batch(audio, out, layout=layout, check_content=True).run_recordings == 0
    vectors = ce.open_corpus(out).vectors(0)
    expected = ce.load_equaliser("cmn")(ce.extract_file(path).vectors)
    np.testing.assert_array_equal(vectors, expected)


def test_damage_behind_an_old_time_is_found_by_content(audio, tmp_path, monkeypatch):
    out = tmp_path / "out"
    batch(audio, out, check_content=True)
    whole = corpus_files(out)
    path = out / "s0" / "0.f32"
    path.write_bytes(bytes(path.stat().st_size))
    record = out / ".codec2-eq" / "parts" / "00000.jsonl"
    record.write_bytes(record.read_bytes())  # now newer than the damage
    assert batch(audio, out).run_recordings == 0
    assert batch(audio, out, check_content=True).run_recordings == 1
    assert corpus_files(out) == whole


# Workers


@pytest.mark.parametrize("name", ["__version__", "code_sha256"])
def test_workers_of_other_code_are_refused(audio, tmp_path, monkeypatch, name):
    job = worker.Job(None, None, None)  # type: ignore[arg-type]
    file = worker.JobFile("x", "", ce.__version__, build.code_sha256())
    other = "0.0.1" if name == "__version__" else lambda: "f" * 64
    monkeypatch.setattr(worker, name, other)
    with pytest.raises(
        Codec2EqError, match=r"runs codec2_eq .*, the job is for .*install the same"
    ):
        worker._load_job(file)
    assert job is not None


def test_the_code_of_all_files_counts(tmp_path, monkeypatch):
    package = Path(build.__file__).parents[1]
    copy = tmp_path / "codec2_eq"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("*.c", "__pycache__"))
    monkeypatch.setattr(build, "__file__", str(copy / "corpus" / "build.py"))
    assert build.code_sha256.__wrapped__() == build.code_sha256()
    with open(copy / "equalisers" / "classic.py", "a") as source:
        source.write("# other\n")
    assert build.code_sha256.__wrapped__() != build.code_sha256()


def test_executors_that_fail_oddly_end_the_run_in_a_line(audio, tmp_path, monkeypatch):
    from codec2_eq.corpus import runner

    def no_such_function(*_):
        raise ModuleNotFoundError("No module named 'codec2_eq.corpus.worker'")

    monkeypatch.setattr(runner, "do_task", no_such_function)
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(Codec2EqError, match="workers: one failed with ModuleNotFoundError"),
    ):
        batch(audio, tmp_path / "out", executor=executor)
