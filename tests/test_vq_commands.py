# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands `vq train` and `vq quantise`."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import require_package

from codec2_eq import vq
from codec2_eq.cli import main
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.extraction import extract_file
from codec2_eq.vectors import VectorReader, VectorWriter


@pytest.fixture(scope="module")
def vectors(tmp_path_factory, sample_files):
    path = tmp_path_factory.mktemp("vectors") / "a.f32"
    np.concatenate([extract_file(p).vectors for p in sample_files]).astype("<f4").tofile(path)
    return path


@pytest.fixture
def vectors_file(tmp_path, training) -> str:
    training[:300].astype("<f4").tofile(tmp_path / "in.f32")
    return str(tmp_path / "in.f32")


def test_vq_quantise_gives_vectors_indexes_and_the_distortion(vectors, tmp_path, capsys):
    out, text, array = (str(tmp_path / n) for n in ("q.npy", "i.txt", "i.npy"))
    assert main(["vq", "quantise", str(vectors), "-o", out, "--indexes", array, "--usage"]) == 0
    told = capsys.readouterr().err
    shapes = vq.zero_mean(np.fromfile(vectors, "<f4").reshape(-1, 20))
    quantiser = vq.Quantiser(libcodec2.codebook_700c())
    quantised, indexes = quantiser.quantise(shapes)
    np.testing.assert_array_equal(np.load(out), quantised)
    np.testing.assert_array_equal(np.load(array), indexes)
    assert f"{len(shapes)} vectors, distortion {quantiser.distortion(shapes):.3f} dB^2" in told
    usage = [line.split() for line in told.splitlines() if line[0] in "12"]
    assert len(usage) == 1024
    assert sum(int(times) for *_, times in usage) == 2 * len(shapes)
    assert (
        main(
            [
                "vq",
                "quantise",
                str(vectors),
                "-o",
                out,
                "-f",
                "--indexes",
                text,
                "--st",
                "2",
                "--en",
                "16",
                "--survivors",
                "2",
            ]
        )
        == 0
    )
    part = vq.Quantiser(libcodec2.codebook_700c(), survivors=2, start=2, end=17)
    np.testing.assert_array_equal(np.loadtxt(text, dtype=int), part.search(shapes))


def test_vq_train_writes_codebooks_that_load(vectors, tmp_path, capsys):
    require_package("faiss")
    prefix = str(tmp_path / "cb")
    words = [
        "vq",
        "train",
        str(vectors),
        str(vectors),
        "-o",
        prefix,
        "--sizes",
        "32,16",
        "--iterations",
        "4",
        "--seed",
        "3",
    ]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert [line for line in told.splitlines() if "stage" in line] == ["stage 1", "stage 2"]
    first, second = vq.load_codebooks(f"{prefix}1.f32,{prefix}2.f32")
    assert (len(first), len(second)) == (32, 16)
    assert main(words) == 1
    assert "cb1.f32: exists already" in capsys.readouterr().err
    assert main([*words, "-f", "--sample", "100"]) == 0
    assert (vq.load_codebook(f"{prefix}1.f32") != first).any()


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((40, 18), np.float32), "a.npy: holds an array of shape"),
        (np.full((40, 20), np.nan, np.float32), "a.npy: row 0"),
        (np.zeros((0, 20), np.float32), "0 vectors, fewer than the 16 entries"),
        (np.zeros((7, 20), np.float32), "a.npy: 7 vectors, fewer than the 16 entries"),
    ],
)
def test_vq_train_errors_are_one_line(tmp_path, capsys, array, message):
    require_package("faiss")
    np.save(tmp_path / "a.npy", array)
    words = ["vq", "train", str(tmp_path / "a.npy"), "-o", str(tmp_path / "c"), "--sizes", "16"]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_cut_f32_file_is_said(tmp_path, capsys):
    (tmp_path / "a.f32").write_bytes(bytes(81))
    assert main(["vq", "train", str(tmp_path / "a.f32"), "-o", str(tmp_path / "c")]) == 1
    assert "a.f32: 81 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("odd.f32", bytes(81), "odd.f32: 81 bytes, not a multiple of 80"),
        ("empty.f32", b"", "empty.f32: empty"),
        ("nan.f32", np.full(20, np.nan, "<f4").tobytes(), "nan.f32: entry 0 holds NaN"),
    ],
)
def test_bad_codebooks_are_one_line(vectors, tmp_path, capsys, name, data, message):
    (tmp_path / name).write_bytes(data)
    words = [
        "vq",
        "quantise",
        str(vectors),
        "-o",
        str(tmp_path / "q.f32"),
        "--codebook",
        str(tmp_path / name),
    ]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "q.f32").exists()


def test_survivors_beyond_the_entries(vectors_file, tmp_path, capsys):
    for words in (
        ["quantise", vectors_file, "-o", str(tmp_path / "o.f32")],
        ["train", vectors_file, "-o", str(tmp_path / "cb"), "--sizes", "16,512"],
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["vq", *words, "--survivors", "107374183"])
        assert "--survivors 107374183: the stages have at most 512 " in capsys.readouterr().err


def test_codebooks_of_few_entries_need_no_option(vectors_file, tmp_path):
    np.zeros((1, 20), np.float32).tofile(tmp_path / "one.f32")
    words = ["--codebook", str(tmp_path / "one.f32"), "-o", str(tmp_path / "o.f32")]
    assert main(["vq", "quantise", vectors_file, *words]) == 0


@pytest.mark.parametrize("huge", [2e6, 1e18, -3e38])
@pytest.mark.parametrize(
    "task",
    [
        ["train", "--sizes", "16,16"],
        ["train", "--sizes", "16,16", "--survivors", "5"],
        ["quantise"],
    ],
)
def test_huge_vectors_are_refused_and_nothing_is_written(tmp_path, training, capsys, task, huge):
    vectors = np.tile(training[:500], (20, 1))
    vectors[7000, 3] = huge  # not in the first block of the quantiser
    vectors.astype("<f4").tofile(tmp_path / "in.f32")
    out = str(tmp_path / ("out" if task[0] == "train" else "out.f32"))
    assert main(["vq", *task, str(tmp_path / "in.f32"), "-o", out]) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert "in.f32: row 7000 (counted from 0) has values beyond 1,000,000 dB; " in err[0]
    assert os.listdir(tmp_path) == ["in.f32"]


def test_doubles_that_float32_cannot_hold_are_refused_in_one_line(tmp_path, training, capsys):
    vectors = np.tile(training.astype(float), (2, 1))
    vectors[6000] *= 1e60  # beyond the block that is read when the file is opened
    np.save(tmp_path / "in.npy", vectors)
    words = ["vq", "train", str(tmp_path / "in.npy"), "-o", str(tmp_path / "cb"), "--sizes", "8"]
    assert main(words) == 1
    assert "in.npy: row 6000 (counted from 0) is not finite" in capsys.readouterr().err


def test_indexes_go_to_stdout(vectors_file, tmp_path, capsysbinary, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["vq", "quantise", vectors_file, "-o", "out.f32", "--indexes"]
    assert main([*words, "-"]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert sorted(os.listdir(tmp_path)) == ["in.f32", "out.f32"]
    assert main([*words, "i.npy", "-f"]) == 0
    assert [list(map(int, line.split())) for line in lines] == np.load("i.npy").tolist()


def test_indexes_are_shown_on_a_terminal(capsysbinary, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with vq.IndexWriter("-") as writer:
        writer.write(np.array([[1, 2]], np.int32))
    assert capsysbinary.readouterr().out == b"1 2\n"


@pytest.mark.parametrize(
    "output, indexes, message",
    [
        ("-", "-", "are both stdout"),
        ("-", "/dev/stdout", "are both stdout"),
        ("a.f32", "./a.f32", "are both a.f32"),
    ],
)
def test_vectors_and_indexes_need_two_places(
    vectors_file, tmp_path, capsys, monkeypatch, output, indexes, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["vq", "quantise", vectors_file, "-o", output, "--indexes", indexes])
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in.f32"]


@pytest.mark.parametrize(
    "csv, message",
    [("-", "-o and --csv are both stdout"), ("./i.txt", "--indexes and --csv are both i.txt")],
)
def test_figures_need_a_place_of_their_own(
    vectors_file, tmp_path, capsys, monkeypatch, csv, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["vq", "quantise", vectors_file, "--indexes", "i.txt", "--csv", csv])
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in.f32"]


def test_quantised_vectors_keep_what_the_file_tells(training, tmp_path):
    with VectorWriter(tmp_path / "in.npz", model="700c", frame_ms=20) as writer:
        writer.write(training[:50])
    assert main(["vq", "quantise", str(tmp_path / "in.npz"), "-o", str(tmp_path / "o.npz")]) == 0
    with VectorReader(tmp_path / "o.npz") as reader:
        assert (reader.model, reader.frame_ms, len(reader.read())) == ("700c", 20, 50)


@pytest.mark.parametrize(
    "prefix, message",
    [
        ("nowhere/cb", "nowhere/cb1.f32: its folder does not exist"),
        ("old", "old2.f32: exists already"),
    ],
)
def test_outputs_are_refused_before_the_training(
    vectors_file, tmp_path, capsys, monkeypatch, prefix, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old2.f32").write_bytes(b"kept")
    assert main(["vq", "train", vectors_file, "-o", prefix, "--sizes", "4,4"]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "iteration" not in err
    assert sorted(os.listdir(tmp_path)) == ["in.f32", "old2.f32"]
    assert main(["vq", "train", vectors_file, "-o", "old", "--sizes", "4,4", "-f"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["in.f32", "old1.f32", "old2.f32"]


def test_a_seed_is_not_negative(vectors_file, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["vq", "train", vectors_file, "-o", "cb", "--seed", "-1"])
    assert "--seed: -1: at least 0" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["train", "quantise"])
def test_help_needs_ascii_alone(task):
    done = subprocess.run(
        [sys.executable, "-m", "codec2_eq", "vq", task, "--help"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--survivors" in done.stdout


def test_the_last_band_is_said_as_it_was_given(vectors_file, capsys):
    assert (
        main(["vq", "quantise", vectors_file, "-o", os.devnull, "--format", "f32", "--en", "20"])
        == 1
    )
    assert "bands 0 to 20: expected a range within 0 to 19" in capsys.readouterr().err


def test_training_tells_of_a_cut_npy(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((10_000, 20), np.float32))
    os.truncate(tmp_path / "a.npy", 500_000)
    words = ["vq", "train", str(tmp_path / "a.npy"), "-o", str(tmp_path / "b"), "--sizes", "4"]
    assert main(words) == 1
    assert "a.npy: ends before its array does" in capsys.readouterr().err
