# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vector files that are damaged, cut or hostile, or not there: what is said of each."""

import io
import zipfile

import numpy as np
import pytest
from vector_files import frames, write

from codec2_eq.errors import Codec2EqError
from codec2_eq.records import K
from codec2_eq.vectors import FORMATS, read_vectors, stream_vectors


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


def test_failing_input(stdin):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

        read1 = read

    for format in FORMATS:
        stdin(Failing())
        with pytest.raises(Codec2EqError, match="^stdin: Input/output error"):
            read_vectors("-", format=format)
