# SPDX-License-Identifier: LGPL-2.1-or-later
import io
import os
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def frames(n_frames, seed=0):
    rng = np.random.default_rng(seed)
    return (30 + 20 * rng.standard_normal((n_frames, K))).astype(np.float32)


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


def write(path, *blocks, **options):
    with VectorWriter(path, **options) as writer:
        for block in blocks:
            if isinstance(block, np.ndarray):
                writer.write(block)
            else:
                writer.write(block.vectors, block)
    return writer


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


# Bad files


def npy_bytes(array, **options):
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def npz_bytes(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def zip_bytes(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return out.getvalue()


def npy_header(shape, descr="'<f4'", order="False"):
    """Return the head of an array that claims anything."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\2\0" + len(text).to_bytes(4, "little") + text


def zeros_zip(member, head, n_megabytes):
    """Return an archive of a head and zeros, a thousandth of what it expands to."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        if member != "vectors.npy":
            archive.writestr("vectors.npy", NPY)
        with archive.open(member, "w", force_zip64=True) as file:
            file.write(head)
            for _ in range(n_megabytes):
                file.write(bytes(1 << 20))
    return out.getvalue()


def spoiled(data, old, new):
    if data.count(old) != 1:
        raise ValueError(f"{old!r} is there {data.count(old)} times")
    return data.replace(old, new)


OBJECTS = npy_bytes(np.array([{}]), allow_pickle=True)
NPY = npy_bytes(frames(10))
NPZ = npz_bytes(vectors=frames(10))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.f32", b"\0" * 81, r"81 bytes are no whole number of rows of 80 bytes \(20 float32\)"),
        ("x.npy", b"", "not a .npy array; is it cut, or of another format"),
        ("x.npy", frames(2).tobytes(), "not a .npy array; is it cut, or of another format"),
        ("x.npy", NPY[:9], r"ends before its array does \(1 bytes are missing\)"),
        ("x.npy", NPY[:100], "ends before its array does"),
        ("x.npy", NPY[:-1], r"ends before its array does \(1 bytes are missing\)"),
        ("x.npy", NPY + b"\0", "goes on after its array"),
        ("x.npy", spoiled(NPY, b"(10, 20)", b"(-1, 20)"), "its .npy header is damaged"),
        ("x.npy", spoiled(NPY, b"(10, 20)", b"(10, 20 "), "its .npy header is damaged"),
        ("x.npy", spoiled(NPY, b"'shape'", b"'scape'"), "its .npy header is damaged"),
        ("x.npy", spoiled(NPY, b"<f4", b"<q9"), "its .npy header is damaged"),
        ("x.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff", "header has 4294967295 bytes: damaged"),
        ("x.npy", OBJECTS, "holds pickled Python objects, which may run any code and are not"),
        ("x.npy", npy_bytes(np.array(["a"])), "holds values of type <U1, numbers expected"),
        ("x.npy", npy_bytes(np.zeros((5, K), int)), "values of type int64, floating point exp"),
        ("x.npy", npy_bytes(np.zeros((5, 19))), r"of shape \(n, 19\), vectors of shape \(n, 20\)"),
        ("x.npy", npy_bytes(np.zeros(5)), r"of shape \(n\), vectors of shape \(n, 20\) expected"),
        ("x.npy", npy_bytes(np.zeros((5, K, 2))), r"array of shape \(n, 20, 2\), vectors of shap"),
        ("x.npz", b"", "not a whole .npz file"),
        ("x.npz", NPY, "not a whole .npz file"),
        ("x.npz", NPZ[:-30], "not a whole .npz file"),
        ("x.npz", spoiled(NPZ, frames(10)[3].tobytes(), bytes(80)), "not a whole .npz file .*CRC"),
        ("x.npz", npz_bytes(shapes=frames(3)), "holds no array 'vectors'; a file made by extract"),
        ("x.npz", zip_bytes(vectors=OBJECTS), "holds pickled Python objects"),
        ("x.npz", npz_bytes(vectors=frames(3), f0_hz=np.zeros(4)), "different numbers of frames"),
        ("x.npz", npz_bytes(vectors=frames(3), f0_hz=np.zeros((3, 2))), "different numbers of fr"),
        ("x.npz", npz_bytes(vectors=frames(5000), f0_hz=np.zeros(9)), "different numbers of fra"),
        ("x.npz", npz_bytes(vectors=frames(3), frame_ms=30), "frame_ms is 30, expected one of"),
        ("x.npz", npz_bytes(vectors=frames(3), frame_ms=[10, 20]), "frame_ms is no single value"),
        ("x.npz", npz_bytes(vectors=frames(3), freqs_hz=[1.0]), "freqs_hz is not of 20 numbers"),
        # What claims more than there can be
        *[
            ("x.npy", npy_header(shape) + bytes(800), message)
            for shape, message in (
                ("(2147483648, 20)", "ends before its array does"),
                (
                    "(9223372036854775807, 20)",
                    r"gives the impossible shape \(9223372036854775807, 20\)",
                ),
                ("(18446744073709551616, 20)", "its .npy header is damaged"),
                ("(3, 1180591620717411303424)", "its .npy header is damaged"),
                ("(1e400,)", "its .npy header is damaged"),
                ("('a',)", "its .npy header is damaged"),
                ("5", "its .npy header is damaged"),
                ("(4096, 100000000)", r"array of shape \(n, 100000000\)"),
                ("(100000000000, 0)", r"array of shape \(n, 0\)"),
                (
                    "(2,9223372036854775807)",
                    r"gives the impossible shape \(2, 9223372036854775807\)",
                ),
            )
        ],
        *[
            ("x.npy", npy_header("(10, 20)", descr) + bytes(800), message)
            for descr, message in (
                ("'|O'", "pickled Python objects"),
                ("'<M8[s]'", "its .npy header is damaged"),
                ("[('a','<f4')]", "its .npy header is damaged"),
                ("'<c8'", "holds values of type complex64, numbers expected"),
                ("None", "its .npy header is damaged"),
                ("'a5'", "its .npy header is damaged"),
            )
        ],
        ("x.npy", npy_header("(1000000000, 20)", order="True"), "80000000000 bytes in Fortran's"),
        ("x.npy", b"\x93NUMPY\2\0\x10\x27\0\0" + b"(" * 10000, "its .npy header is damaged"),
        ("x.npy", b"\x93NUMPY\2\0\x10\x27\0\0" + b"9" * 10000, "its .npy header is damaged"),
        ("x.npz", zeros_zip("vectors.npy", npy_header("(6553600, 20)"), 500), "times as large"),
        ("x.npz", zeros_zip("model.npy", npy_header("()", "'<U9999999'"), 1), "no single text"),
        (
            "x.npz",
            zeros_zip("freqs_hz.npy", npy_header("(9000000000000, 0)"), 1),
            "freqs_hz is not",
        ),
        (
            "x.npz",
            zip_bytes(vectors=NPY, model=npy_header("()", "'<U1'") + b"\0\xd8\0\0"),
            "holds damaged text",
        ),
        (
            "x.npz",
            zip_bytes(vectors=NPY, model=npy_header("()", "'<U1'") + b"\xff\xff\xff\x7f"),
            "holds damaged text",
        ),
        ("x.npz", npz_bytes(vectors=frames(3), frame_ms="A"), "frame_ms is A, expected one of"),
    ],
)
def test_bad_files(tmp_path, stdin, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(Codec2EqError, match=message) as caught:
        read_vectors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    stdin(data)
    with pytest.raises(Codec2EqError, match=message) as caught:
        read_vectors("-", format=name[2:])
    assert str(caught.value).startswith("stdin: ")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path, suffix, value):
    vectors = frames(5000)
    vectors[4321, 7] = value
    path = tmp_path / f"x.{suffix}"
    write(path, vectors)
    message = rf"x\.{suffix}: row 4321 \(counted from 0\) is not finite"
    with pytest.raises(Codec2EqError, match=message):
        for _ in stream_vectors(path, block_rows=100):
            pass


def test_doubles_beyond_float32_are_infinite(tmp_path):
    vectors = frames(3).astype(np.float64)
    vectors[2, 5] = 1e300
    np.save(tmp_path / "x.npy", vectors)
    with pytest.raises(Codec2EqError, match=r"row 2 \(counted from 0\) is not finite"):
        read_vectors(tmp_path / "x.npy")


def test_size_that_no_memory_holds(tmp_path):
    data = spoiled(NPY, b"(10, 20), }          ", b"(10, 2000000000000),}")
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(Codec2EqError, match=r"array of shape \(n, 2000000000000\), vectors of sh"):
        read_vectors(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_file(tmp_path, suffix):
    with pytest.raises(Codec2EqError, match="no such file"):
        read_vectors(tmp_path / f"x.{suffix}")


def test_empty_f32_has_no_rows(tmp_path, stdin):
    (tmp_path / "x.f32").touch()
    assert read_vectors(tmp_path / "x.f32").shape == (0, K)
    stdin(b"")
    assert read_vectors("-").shape == (0, K)
    assert list(stream_vectors(tmp_path / "x.f32")) == []


def test_failing_input(stdin):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

        read1 = read

    for format in FORMATS:
        stdin(Failing())
        with pytest.raises(Codec2EqError, match="^stdin: Input/output error"):
            read_vectors("-", format=format)


def test_f32_needs_no_library(tmp_path):
    write(tmp_path / "x.f32", frames(1))
    code = (
        "import sys; from codec2_eq.vectors import *; a, b = sys.argv[1:]\n"
        "with VectorWriter(b) as w: w.write(read_vectors(a))\n"
        "print(sorted({'tempfile', 'zipfile', 'scipy', 'soundfile'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.f32"), str(tmp_path / "y.f32")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"[]\n"
