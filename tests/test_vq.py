# SPDX-License-Identifier: LGPL-2.1-or-later
"""The search in codebooks, and files of codebooks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vq_shapes import shapes_of

from codec2_eq import vq
from codec2_eq.codec2.library import codebook_700c, oracle_mlfeat
from codec2_eq.errors import Codec2EqError
from codec2_eq.vq import _search

# The search


def brute_force_mbest(vector, codebooks, survivors):
    """The definition, one list insertion after the other, float32 sums in order of the bands."""
    parents = [((), vector)]
    for codebook in codebooks:
        best: list = []
        for path, target in parents:
            errors = np.zeros(len(codebook), np.float32)
            for band in range(codebook.shape[1]):
                difference = codebook[:, band] - target[band]
                errors += difference * difference
            for entry in np.argsort(errors, kind="stable")[:survivors]:
                best.append((errors[entry], path + (int(entry),), target - codebook[entry]))
            # a stable sort: among equals the one found first stays first
            best = sorted(best, key=lambda b: b[0])[:survivors]
        parents = [(path, target) for _, path, target in best]
    return parents[0][0]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 23),
    survivors=st.integers(1, 20),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    coarse=st.booleans(),
)
def test_search_equals_brute_force_for_any_sizes_and_survivors(seed, k, survivors, sizes, coarse):
    rng = np.random.default_rng(seed)
    codebooks = [rng.normal(0, 5, (size, k)).astype(np.float32) for size in sizes]
    vectors = rng.normal(0, 8, (9, k)).astype(np.float32)
    if coarse:  # whole numbers: many entries tie, and the order of insertion decides
        codebooks = [np.round(c / 4) for c in codebooks]
        vectors = np.round(vectors / 4)
    found = vq.Quantiser(codebooks, survivors=survivors).search(vectors)
    want = [brute_force_mbest(v, codebooks, survivors) for v in vectors]
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("k, sizes", [(20, (512, 512)), (7, (33, 5, 64))])
def test_every_machine_gives_the_same(k, sizes):
    from codec2_eq.vq._search import group_entries, search

    rng = np.random.default_rng(1)
    codebooks = [rng.normal(0, 5, (size, k)).astype(np.float32) for size in sizes]
    vectors = np.round(rng.normal(0, 8, (300, k))).astype(np.float32)
    grouped = [group_entries(c) for c in codebooks]
    assert not any(c.ctypes.data % 64 for c in grouped)
    wide, narrow = (search(vectors, codebooks, grouped, 5, wide=w) for w in (True, False))
    np.testing.assert_array_equal(wide, narrow)
    assert brute_force_mbest(vectors[0], codebooks, 5) == tuple(narrow[0])


def test_indexes_and_vectors_equal_libcodec2s_bit_for_bit():
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 1500, 320 * 400) * np.repeat(rng.uniform(0, 4, 400), 320)
    oracle = oracle_mlfeat(samples.astype(np.int16))
    quantised, indexes = vq.Quantiser(codebook_700c()).quantise(oracle.shapes)
    np.testing.assert_array_equal(quantised, oracle.quantised)
    words = np.frombuffer(oracle.bits, ">u4")
    np.testing.assert_array_equal(indexes[:, 0], words >> 23)
    np.testing.assert_array_equal(indexes[:, 1], words >> 14 & 511)


def test_band_range_searches_those_bands_and_quantises_all():
    rng = np.random.default_rng(4)
    codebooks = [rng.normal(0, 5, (33, 20)).astype(np.float32) for _ in range(2)]
    vectors = shapes_of(rng, 50)
    part = vq.Quantiser(codebooks, start=2, end=17)
    quantised, indexes = part.quantise(vectors)
    cut = vq.Quantiser([c[:, 2:17] for c in codebooks])
    np.testing.assert_array_equal(indexes, cut.search(vectors[:, 2:17]))
    np.testing.assert_array_equal(quantised, part.lookup(indexes))
    other = vectors.copy()
    other[:, :2] += 50
    other[:, 17:] -= 50
    np.testing.assert_array_equal(part.search(other), indexes)


def test_more_survivors_never_hurt_on_average():
    vectors = shapes_of(np.random.default_rng(5), 500)
    distortions = [
        vq.Quantiser(codebook_700c(), survivors=s).distortion(vectors) for s in (1, 2, 5, 20)
    ]
    assert distortions == sorted(distortions, reverse=True)


def test_any_batching_gives_the_same():
    vectors = shapes_of(np.random.default_rng(6), 100)
    quantiser = vq.Quantiser(codebook_700c())
    whole = quantiser.search(vectors)
    parts = [quantiser.search(vectors[a:b]) for a, b in ((0, 0), (0, 1), (1, 40), (40, 100))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(quantiser.search(np.asfortranarray(vectors)), whole)


def test_entries_are_quantised_to_themselves():
    codebook = shapes_of(np.random.default_rng(7), 200)
    quantised, indexes = vq.Quantiser([codebook]).quantise(codebook)
    np.testing.assert_array_equal(quantised, codebook)
    np.testing.assert_array_equal(indexes[:, 0], np.arange(200))


def test_statistics_tell_both_distortions_and_the_usage():
    quantiser = vq.Quantiser([np.array([[0, 0], [10, -10]], np.float32)])
    statistics = vq.VqStatistics(quantiser)
    assert statistics.distortion == statistics.variance == 0
    vectors = np.array([[1, 3], [2, 2], [12, -8]], np.float32)
    for rows in (vectors[:1], vectors[1:]):
        statistics.add(rows, *quantiser.quantise(rows))
    # errors (1, 3), (2, 2), (2, 2): mean squares 5, 4, 4; without their means 1, 0, 0
    assert statistics.variance == pytest.approx(13 / 3)
    assert statistics.distortion == pytest.approx(1 / 3)
    np.testing.assert_array_equal(statistics.usage[0], [2, 1])


def test_a_mean_removed_before_is_not_removed_again():
    vectors = np.random.default_rng(8).normal(40, 10, (1000, 20)).astype(np.float32)
    shapes = vq.zero_mean(vectors)
    assert np.abs(shapes.mean(axis=1, dtype=np.float64)).max() < 1e-5
    np.testing.assert_array_equal(vq.zero_mean(shapes), shapes)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"survivors": 0}, "survivors 0"),
        ({"survivors": 4097}, "survivors 4097: from 1 to 4096"),
        ({"survivors": 2**70}, "survivors 1180591620717411303424: from 1"),
        ({"start": 5, "end": 5}, "bands 5 to 4"),
        ({"end": 21}, "bands 0 to 20: expected a range within 0 to 19, both included"),
    ],
)
def test_quantiser_options_out_of_range(options, message):
    with pytest.raises(Codec2EqError, match=message):
        vq.Quantiser(codebook_700c(), **options)


def test_stages_and_vectors_must_fit():
    with pytest.raises(Codec2EqError, match="all stages need the same number"):
        vq.Quantiser([np.zeros((4, 20)), np.zeros((4, 18))])
    with pytest.raises(Codec2EqError, match="no codebook"):
        vq.Quantiser([])
    quantiser = vq.Quantiser(codebook_700c())
    with pytest.raises(Codec2EqError, match=r"vectors of shape \(3, 18\): the codebooks have 20"):
        quantiser.quantise(np.zeros((3, 18), np.float32))
    bad = np.zeros((3, 20), np.float32)
    bad[2, 7] = np.nan
    with pytest.raises(Codec2EqError, match="vector 2 holds NaN"):
        quantiser.quantise(bad)


def test_the_search_makes_room_for_no_more_than_it_can_count():
    with pytest.raises(ValueError, match="2147483647 survivors of 20 bands"):
        _search.search(np.zeros((1, 20), np.float32), [], [], 2147483647)
    huge = [np.zeros((4, 1 << 20), np.float32)] * 2  # 2 * 2048 * 2^20 is beyond an int
    found = vq.Quantiser(huge, survivors=2048).search(np.ones((2, 1 << 20), np.float32))
    assert found.tolist() == [[0, 0]] * 2


def test_quantiser_refuses_what_its_arithmetic_cannot_hold():
    with pytest.raises(Codec2EqError, match=r"codebook 1: entry 2 reaches -1e\+18 dB, at most"):
        vq.Quantiser([np.array([[0, 0], [1, 1], [0, -1e18]])])
    with pytest.raises(Codec2EqError, match=r"vector 1 reaches 3e\+38 dB, at most 1e\+09"):
        vq.Quantiser(codebook_700c()).search(np.array([[0] * 20, [3e38] * 20]))


# Files of codebooks


def test_codebook_files(tmp_path):
    codebook = shapes_of(np.random.default_rng(10), 30)
    path = tmp_path / "a1.f32"
    vq.save_codebook(path, codebook)
    assert path.stat().st_size == 30 * 80
    np.testing.assert_array_equal(vq.load_codebook(path), codebook)
    np.save(tmp_path / "a2.npy", codebook[:7])
    one, two = vq.load_codebooks(f"{path},{tmp_path}/a2.npy")
    np.testing.assert_array_equal(one, codebook)
    np.testing.assert_array_equal(two, codebook[:7])
    np.testing.assert_array_equal(vq.load_codebooks(path)[0], codebook)
    np.testing.assert_array_equal(vq.load_codebooks("700c")[1], codebook_700c()[1])
    with pytest.raises(Codec2EqError, match="exists already"):
        vq.save_codebook(path, codebook)


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("none.f32", None, "none.f32: no such file"),
        ("empty.f32", b"", "empty.f32: empty, a codebook needs at least one entry"),
        ("odd.f32", bytes(81), r"odd.f32: 81 bytes, not a multiple of 80"),
        ("nan.f32", np.full((2, 20), np.nan, "<f4").tobytes(), "nan.f32: entry 0 holds NaN"),
        ("bad.npy", b"bad", "bad.npy: not a .npy array"),
    ],
)
def test_codebook_errors_name_the_file(tmp_path, name, data, message):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(Codec2EqError, match=message):
        vq.load_codebooks(str(path))


def test_a_codebook_of_other_bands_is_said(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 18), np.float32))
    with pytest.raises(Codec2EqError, match="a.npy: entries of 18 bands, expected 20"):
        vq.load_codebooks(str(tmp_path / "a.npy"))


def test_a_codebook_of_gigabytes_is_refused_unread(tmp_path):
    with open(tmp_path / "huge.f32", "wb") as out:
        out.truncate(80 << 30)
    with pytest.raises(Codec2EqError, match=r"huge\.f32: has over 167772160 bytes"):
        vq.load_codebook(tmp_path / "huge.f32")


@pytest.mark.parametrize("spec", ["", ",", "a.f32,", ["a.f32", ""]])
def test_a_stage_without_name_is_said(tmp_path, monkeypatch, spec):
    codebook_700c()[0].astype("<f4").tofile(tmp_path / "a.f32")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Codec2EqError, match="a stage has no name; give 700c, or one file"):
        vq.load_codebooks(spec)


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 20), "a"),
        np.zeros((4, 20), complex),
        np.zeros((4, 20), "M8[s]"),
        np.zeros(4, [("a", "f4")]),
        np.full((4, 20), None),
    ],
)
def test_codebooks_are_numbers(tmp_path, array):
    np.save(tmp_path / "book.npy", array)
    with pytest.raises(Codec2EqError, match=r"book\.npy: "):
        vq.load_codebook(tmp_path / "book.npy")


def test_a_codebook_beyond_float32_is_an_error_without_a_warning(tmp_path):
    np.save(tmp_path / "book.npy", np.full((4, 20), 1e300))
    with pytest.raises(Codec2EqError, match=r"book\.npy: entry 0 holds NaN or infinity"):
        vq.load_codebook(tmp_path / "book.npy")
