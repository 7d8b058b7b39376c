# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vector files there and back: formats, pipes and memory, and whole files or none."""

import io
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_files import frames, write

from codec2_eq.analysis import band_centres_hz
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import K, RateK
from codec2_eq.vectors import (
    FORMATS,
    VectorReader,
    VectorRecord,
    VectorWriter,
    read_vectors,
    stream_vectors,
    vector_format,
)

FREQS_HZ = np.linspace(200, 3700, K, dtype=np.float32)


def rate_k(n_frames, frame_ms=40):
    vectors = frames(n_frames)
    index = np.arange(n_frames)
    return RateK(
        vectors,
        vectors.mean(axis=1),
        (100 + index % 200).astype(np.float32),
        index % 3 == 0,
        np.full(n_frames, 0.1, np.float32),
        np.full(n_frames, 31, np.int32),
        FREQS_HZ,
        frame_ms,
    )


def read_all(path):
    """Return a reader at its end, and all that it gave."""
    with VectorReader(path) as reader:
        return reader, reader.read()


def standard_output(monkeypatch):
    """Return the buffer of a standard output in memory."""
    sink = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", sink)
    return sink.buffer


# There and back


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    suffix=st.sampled_from(FORMATS),
    block_rows=st.integers(1, 50),
)
def test_what_is_written_is_read(tmp_path_factory, sizes, suffix, block_rows):
    path = tmp_path_factory.mktemp("v") / f"x.{suffix}"
    vectors = frames(sum(sizes))
    edges = np.cumsum([0, *sizes])
    blocks = [vectors[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert write(path, *blocks).n_frames == len(vectors)
    read = read_vectors(path)
    assert read.dtype == np.float32
    assert read.shape == (len(vectors), K)
    np.testing.assert_array_equal(read, vectors)
    parts = list(stream_vectors(path, block_rows=block_rows))
    assert all(0 < len(part) <= block_rows for part in parts)
    np.testing.assert_array_equal(np.concatenate([frames(0), *parts]), vectors)


def test_f32_is_the_bare_rows(tmp_path):
    vectors = frames(3)
    write(tmp_path / "x.f32", vectors)
    assert (tmp_path / "x.f32").read_bytes() == vectors.astype("<f4").tobytes()


@pytest.mark.parametrize("n_frames", [0, 1, 5000])
def test_numpy_reads_what_is_written(tmp_path, n_frames):
    record = rate_k(n_frames, frame_ms=20)
    write(tmp_path / "x.npy", record)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), record.vectors)
    write(tmp_path / "x.npz", record, model="mean", frame_ms=20)
    with np.load(tmp_path / "x.npz") as held:
        assert set(held) == {
            "vectors",
            "mean_db",
            "f0_hz",
            "voiced",
            "freqs_hz",
            "frame_ms",
            "model",
        }
        for name in ("vectors", "mean_db", "f0_hz", "voiced", "freqs_hz"):
            np.testing.assert_array_equal(held[name], getattr(record, name))
            assert held[name].dtype == getattr(record, name).dtype
        assert held["frame_ms"] == 20
        assert held["model"] == "mean"


def test_npz_keeps_what_the_analysis_knows(tmp_path):
    record = rate_k(900, frame_ms=10)
    write(tmp_path / "x.npz", record, model="cmn", frame_ms=10)
    reader, read = read_all(tmp_path / "x.npz")
    assert (len(read), reader.frame_ms, reader.model) == (900, 10, "cmn")
    for name in ("vectors", "mean_db", "f0_hz", "voiced"):
        np.testing.assert_array_equal(getattr(read, name), getattr(record, name))
    np.testing.assert_array_equal(reader.freqs_hz, record.freqs_hz)
    with VectorReader(tmp_path / "x.npz", block_rows=100) as reader:
        blocks = list(reader)
    assert [len(block) for block in blocks] == [100] * 9
    np.testing.assert_array_equal(blocks[3].f0_hz, record.f0_hz[300:400])
    write(tmp_path / "y.npz", *blocks, model="cmn", frame_ms=10, freqs_hz=reader.freqs_hz)
    assert (tmp_path / "y.npz").read_bytes() == (tmp_path / "x.npz").read_bytes()


def test_npz_of_bare_vectors_tells_only_what_is_known(tmp_path):
    write(tmp_path / "x.npz", frames(7), model="mean", frame_ms=10)
    reader, read = read_all(tmp_path / "x.npz")
    assert (read.mean_db, read.f0_hz, read.voiced) == (None, None, None)
    np.testing.assert_array_equal(reader.freqs_hz, band_centres_hz())
    assert (reader.frame_ms, reader.model) == (10, "mean")


def test_npz_of_nothing(tmp_path):
    write(tmp_path / "x.npz", model="mean")
    reader, read = read_all(tmp_path / "x.npz")
    assert read.vectors.shape == (0, K)
    assert reader.model == "mean"


def test_empty_f32_has_no_rows(tmp_path, stdin):
    (tmp_path / "x.f32").touch()
    assert read_vectors(tmp_path / "x.f32").shape == (0, K)
    stdin(b"")
    assert read_vectors("-").shape == (0, K)
    assert list(stream_vectors(tmp_path / "x.f32")) == []


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_numpy(tmp_path, save):
    record = rate_k(5000)
    save(
        tmp_path / "x.npz",
        vectors=record.vectors.astype(np.float64),
        voiced=record.voiced,
        frame_ms=40,
        model="none",
        other=np.arange(3),
    )
    reader, read = read_all(tmp_path / "x.npz")
    np.testing.assert_array_equal(read.vectors, record.vectors)
    np.testing.assert_array_equal(read.voiced, record.voiced)
    assert (reader.frame_ms, reader.model, read.f0_hz) == (40, "none", None)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_floats(tmp_path, dtype, order):
    vectors = frames(5000).astype(np.float16)
    np.save(tmp_path / "x.npy", np.asarray(vectors, dtype=dtype, order=order))
    np.testing.assert_array_equal(read_vectors(tmp_path / "x.npy"), vectors.astype(np.float32))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_of_any_version(tmp_path, version):
    with (tmp_path / "x.npy").open("wb") as out:
        np.lib.format.write_array(out, frames(4), version=version)
    np.testing.assert_array_equal(read_vectors(tmp_path / "x.npy"), frames(4))


# Pipes


@pytest.mark.parametrize("format", [None, *FORMATS])
def test_standard_streams(stdin, monkeypatch, format):
    record = rate_k(5000)
    out = standard_output(monkeypatch)
    write("-", *stream_blocks(record.vectors, 700), format=format)
    stdin(out.getvalue())
    np.testing.assert_array_equal(read_vectors("-", format=format), record.vectors)


def stream_blocks(vectors, size):
    return [vectors[start : start + size] for start in range(0, len(vectors), size)]


def test_npy_through_a_pipe_is_the_same_file(tmp_path, monkeypatch):
    out = standard_output(monkeypatch)
    write("-", frames(100), format="npy")
    write(tmp_path / "x.npy", frames(100))
    assert out.getvalue() == (tmp_path / "x.npy").read_bytes()


PASS_ON = """
from codec2_eq.vectors import VectorWriter, stream_vectors
with VectorWriter("-", format=FORMAT) as writer:
    for block in stream_vectors("-"):
        writer.write(block)
"""


def test_each_row_leaves_before_the_next_arrives():
    vectors = frames(5)
    command = [sys.executable, "-c", PASS_ON.replace("FORMAT", "None")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for row in vectors:
            os.write(process.stdin.fileno(), row[:7].tobytes())
            os.write(process.stdin.fileno(), row[7:].tobytes())
            assert os.read(process.stdout.fileno(), 1000) == row.tobytes()
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("format", ["npy", "npz"])
def test_appending_to_a_file_through_stdout(tmp_path, format):
    # A seek back to the header would have no effect here.
    path = tmp_path / f"x.{format}"
    with path.open("ab") as out:
        subprocess.run(
            [sys.executable, "-c", PASS_ON.replace("FORMAT", repr(format))],
            input=frames(9).tobytes(),
            stdout=out,
            check=True,
        )
    np.testing.assert_array_equal(read_vectors(path), frames(9))


def test_fifo(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = "import sys; from codec2_eq.vectors import *; print(read_vectors(sys.argv[1]).shape)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(fifo)], stdout=subprocess.PIPE
    ) as process:
        write(fifo, frames(3))
        assert process.stdout is not None
        assert process.stdout.read() == b"(3, 20)\n"


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_file(tmp_path, format):
    path = tmp_path / f"x.{format}"
    write(tmp_path / f"warm.{format}", rate_k(1))  # imports what is imported once
    read_vectors(tmp_path / f"warm.{format}")
    block = rate_k(10_000)
    tracemalloc.start()
    with VectorWriter(path) as writer:
        for _ in range(20):
            writer.write(block.vectors, block)  # 16 MB in all
    n_rows = sum(len(rows) for rows in stream_vectors(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_rows == 200_000
    assert peak < 6 << 20


# Whole files or none


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_left_after_an_exception(tmp_path, format):
    with pytest.raises(KeyboardInterrupt), VectorWriter(tmp_path / f"x.{format}") as writer:
        writer.write(frames(10), rate_k(10))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept(tmp_path):
    path = tmp_path / "x.f32"
    write(path, frames(1))
    with pytest.raises(Codec2EqError, match=r"x\.f32: exists already; pass -f"):
        write(path, frames(2))
    assert len(read_vectors(path)) == 1
    write(path, frames(2), force=True)
    assert len(read_vectors(path)) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_full_disk(format):
    with pytest.raises(Codec2EqError, match=r"^/dev/full: disk full"):
        write("/dev/full", rate_k(10), format=format)


def test_full_disk_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tempfile.SpooledTemporaryFile", lambda max_size: open("/dev/full", "w+b", buffering=0)
    )
    with pytest.raises(Codec2EqError, match="^temporary file: disk full"):
        write(tmp_path / "x.npz", frames(10))
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_written_with_all_that_it_knows(tmp_path):
    record = rate_k(5, frame_ms=20)
    with VectorWriter(tmp_path / "a.npz", frame_ms=20) as writer:
        writer.write(record)
    reader, held = read_all(tmp_path / "a.npz")
    assert reader.frame_ms == 20
    np.testing.assert_array_equal(held.vectors, record.vectors)
    np.testing.assert_array_equal(held.f0_hz, record.f0_hz)


def test_writer_refuses_what_are_no_vectors(tmp_path):
    with pytest.raises(Codec2EqError, match=r"shape \(3,\): expected \(n_frames, 20\)"):
        write(tmp_path / "x.f32", np.zeros(3))
    with pytest.raises(Codec2EqError, match="vectors: some are masked"):
        write(tmp_path / "x.f32", np.ma.masked_less(frames(3), 1e9))
    with pytest.raises(
        Codec2EqError, match=r"frames 40 ms .* those 10 ms apart; open .* frame_ms=40"
    ):
        write(tmp_path / "x.npz", rate_k(2), frame_ms=10)
    with pytest.raises(ValueError, match="not open: use it in a with statement"):
        VectorWriter(tmp_path / "x.f32").write(frames(1))
    with pytest.raises(ValueError, match=r"block with \['vectors'\]: blocks before had"):
        write(tmp_path / "x.npz", rate_k(2), frames(2))
    wrong = VectorRecord(frames(2), f0_hz=np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"rows of shape \(2,\): expected \(\)"):
        write(tmp_path / "x.npz", wrong)
    assert list(tmp_path.iterdir()) == []


# Formats


def test_format_by_suffix_or_option(tmp_path):
    assert vector_format("a.f32") == "f32"
    assert vector_format("a.NPY") == "npy"
    assert vector_format("a.f32", "npz") == "f32"
    assert vector_format("a", "npz") == "npz"
    assert vector_format("-") == "f32"
    assert vector_format("/dev/stdout") == "f32"
    assert vector_format("/dev/null") == "f32"
    with pytest.raises(Codec2EqError, match=r"a\.txt: suffix '\.txt' names no vector format; use"):
        vector_format("a.txt")
    with pytest.raises(Codec2EqError, match=r"format 'wav': expected one of f32, npy, npz"):
        vector_format("a.f32", "wav")


def test_f32_needs_no_library(tmp_path):
    write(tmp_path / "x.f32", frames(1))
    code = (
        "import sys; from codec2_eq.vectors import *; a, b = sys.argv[1:]\n"
        "with VectorWriter(b) as w: w.write(read_vectors(a))\n"
        "print(sorted({'tempfile', 'zipfile', 'scipy', 'soundfile'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.f32"), str(tmp_path / "y.f32")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"[]\n"
