# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arrays of the .npy format in blocks, against NumPy's own reader and writer."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec2_eq.errors import Codec2EqError
from codec2_eq.vectors import npy


def saved(array, version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version=version)
    file.seek(0)
    return file


def read(file, block_rows=3):
    return list(npy.ArrayReader(file, "a.npy").blocks(block_rows))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@given(
    n_rows=st.integers(0, 9),
    block_rows=st.integers(1, 10),
    dtype=st.sampled_from(["<f4", ">f8", "<f2", "<i2", "|u1", "|b1"]),
    order=st.sampled_from("CF"),
)
def test_blocks_join_to_what_numpy_wrote(version, n_rows, block_rows, dtype, order):
    array = np.asarray(np.arange(n_rows * 4).reshape(n_rows, 4), dtype, order=order)
    blocks = read(saved(array, version), block_rows)
    np.testing.assert_array_equal(np.concatenate(blocks), array)
    assert {block.dtype for block in blocks} == {array.dtype}
    if order == "C":
        assert all(len(block) <= block_rows for block in blocks)


def test_a_scalar_is_one_row():
    assert [block.tolist() for block in read(saved(40))] == [[40]]
    assert npy.ArrayReader(saved(40), "a.npy").text() == "40"
    assert npy.ArrayReader(saved("none"), "a.npy").text() == "none"
    assert npy.ArrayReader(saved(np.array("h\xf6r", ">U5")), "a.npy").text() == "h\xf6r"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not a .npy array"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "not a .npy array"),
        (b"\x93NUMPY\x01\x00\x76", "ends before its array does"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 4, "header has 4294967295 bytes"),
        (b"\x93NUMPY\x01\x00\x04\x00{...", "header is damaged"),
        (saved(np.zeros(5)).getvalue()[:-1], r"\(1 bytes are missing\)"),
        (saved(np.zeros(5)).getvalue() + b"x", "goes on after its array"),
        (saved(np.array([None])).getvalue(), "pickled Python objects"),
    ],
)
def test_what_is_refused(data, message):
    with pytest.raises(Codec2EqError, match=f"^a.npy: .*{message}"):
        read(io.BytesIO(data))


@given(pieces=st.lists(st.integers(0, 5), max_size=5), row_shape=st.sampled_from([(), (3,)]))
def test_a_column_is_what_numpy_reads(pieces, row_shape):
    column = npy.Column("<f4", row_shape, io.BytesIO())
    n_header = len(column.header())
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(n, *row_shape)) for n in pieces]
    for part in parts:
        column.write(part)
    out = io.BytesIO()
    column.copy_to(out)
    array = np.load(io.BytesIO(out.getvalue()))
    expected = np.concatenate([np.zeros((0, *row_shape)), *parts]).astype(np.float32)
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == np.float32
    assert len(column.header()) == n_header  # so that it can be written over at the end


def test_a_column_takes_rows_of_its_shape_alone():
    with pytest.raises(ValueError, match=r"rows of shape \(4,\): expected \(3,\)"):
        npy.Column("<f4", (3,), io.BytesIO()).write(np.zeros((2, 4)))
