# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands `vq train` and `vq quantise`."""

import numpy as np
import pytest
from conftest import require_package

from codec2_eq import vq
from codec2_eq.cli import main
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.extraction import extract_file


@pytest.fixture(scope="module")
def vectors(tmp_path_factory, sample_files):
    path = tmp_path_factory.mktemp("vectors") / "a.f32"
    np.concatenate([extract_file(p).vectors for p in sample_files]).astype("<f4").tofile(path)
    return path


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
