# SPDX-License-Identifier: LGPL-2.1-or-later
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import require_package
from hypothesis import given, settings
from hypothesis import strategies as st

from codec2_eq import vq
from codec2_eq.cli import main
from codec2_eq.codec2.library import codebook_700c, oracle_mlfeat
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import MOST_DB
from codec2_eq.vectors import VectorReader, VectorWriter
from codec2_eq.vq import _search, train


def shapes_of(rng: np.random.Generator, n: int, k: int = 20, scale: float = 8) -> np.ndarray:
    """Random vectors with neighbouring bands alike, of zero mean."""
    walk = np.cumsum(rng.normal(0, scale / 2, (n, k)), axis=1)
    return vq.zero_mean(walk.astype(np.float32))


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


# ---- training -------------------------------------------------------------------------------

N_TRAIN, N_ENTRIES = 4000, 64


@pytest.fixture(scope="module")
def training() -> np.ndarray:
    return shapes_of(np.random.default_rng(20), N_TRAIN)


def test_training_is_as_good_as_full_lloyd_from_the_same_start(training):
    cluster = require_package("sklearn.cluster")
    rng = np.random.default_rng([0, 1])
    start = training[np.sort(rng.choice(N_TRAIN, N_ENTRIES, replace=False))]
    lloyd = cluster.KMeans(N_ENTRIES, init=start, n_init=1, max_iter=20, tol=0, algorithm="lloyd")
    lloyd.fit(training)
    ours = vq.Quantiser(train.train_codebooks(training, [N_ENTRIES]))
    assert ours.distortion(training) <= 1.005 * lloyd.inertia_ / training.size


def test_progress_tells_of_each_iteration_and_the_distortion_falls(training):
    seen: list[train.Iteration] = []
    codebooks = train.train_codebooks(training, [32, 16], iterations=6, progress=seen.append)
    assert [(i.stage, i.iteration) for i in seen] == [(s, i) for s in (1, 2) for i in range(7)]
    for stage in (1, 2):
        distortions = [i.distortion for i in seen if i.stage == stage]
        assert all(a >= b * (1 - 1e-6) for a, b in zip(distortions, distortions[1:], strict=False))
    greedy = vq.Quantiser(codebooks, survivors=1)
    assert greedy.distortion(training) == pytest.approx(seen[-1].distortion, rel=1e-4)
    errors = np.sqrt(np.mean((training - greedy.quantise(training)[0]) ** 2, axis=1))
    np.testing.assert_allclose(
        seen[-1].outliers, [(errors > x).mean() for x in (1, 2, 3)], atol=1e-3
    )
    usage = np.bincount(greedy.search(training)[:, 1], minlength=16)
    assert abs(seen[-1].least_used - usage.min()) <= 2
    assert abs(seen[-1].most_used - usage.max()) <= 2
    assert seen[-1].deviation_db == pytest.approx(seen[-1].distortion ** 0.5)


def test_the_seed_decides(training):
    one, again, other = (
        train.train_codebooks(training[:500], [16], iterations=3, seed=s)[0] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


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


def test_the_search_makes_room_for_no_more_than_it_can_count():
    with pytest.raises(ValueError, match="2147483647 survivors of 20 bands"):
        _search.search(np.zeros((1, 20), np.float32), [], [], 2147483647)
    huge = [np.zeros((4, 1 << 20), np.float32)] * 2  # 2 * 2048 * 2^20 is beyond an int
    found = vq.Quantiser(huge, survivors=2048).search(np.ones((2, 1 << 20), np.float32))
    assert found.tolist() == [[0, 0]] * 2


def test_a_codebook_of_gigabytes_is_refused_unread(tmp_path):
    with open(tmp_path / "huge.f32", "wb") as out:
        out.truncate(80 << 30)
    with pytest.raises(Codec2EqError, match=r"huge\.f32: has over 167772160 bytes"):
        vq.load_codebook(tmp_path / "huge.f32")


def test_training_for_survivors_is_no_worse_on_held_out_vectors(training):
    held_out = shapes_of(np.random.default_rng(21), 2000)
    greedy = train.train_codebooks(training, [N_ENTRIES] * 2)
    joint = train.train_codebooks(training, [N_ENTRIES] * 2, survivors=5)
    plain = vq.Quantiser(greedy, survivors=1).distortion(held_out)
    searched = vq.Quantiser(greedy, survivors=5).distortion(held_out)
    trained = vq.Quantiser(joint, survivors=5).distortion(held_out)
    assert trained < searched < plain


def test_unused_entries_are_put_to_use():
    rng = np.random.default_rng(22)
    centres = rng.normal(0, 20, (16, 20)).astype(np.float32)
    # nine of ten vectors are alike, so the start is full of copies of one entry
    vectors = np.concatenate([np.tile(centres[0], (900, 1)), np.repeat(centres, 6, axis=0)])
    vectors = vq.zero_mean(vectors)
    seen: list[train.Iteration] = []
    train.train_codebooks(vectors, [16], progress=seen.append, iterations=40)
    assert seen[-1].least_used > 0
    assert seen[-1].distortion < 1


def test_equal_vectors_train_without_nans():
    vectors = np.tile(shapes_of(np.random.default_rng(23), 1), (50, 1))
    codebook = train.train_codebooks(vectors, [8], iterations=3)[0]
    np.testing.assert_allclose(codebook, vectors[:8], atol=1e-4)


def test_means_are_removed_and_memory_maps_serve(training, tmp_path, monkeypatch):
    with_means = training + np.random.default_rng(24).normal(30, 9, (N_TRAIN, 1))
    path = tmp_path / "vectors.f32"
    with_means.astype("<f4").tofile(path)
    mapped = np.memmap(path, "<f4", "r", shape=(N_TRAIN, 20))
    monkeypatch.setattr(train, "BLOCK_ROWS", 777)
    in_memory = train.train_codebooks(mapped, [16, 8], iterations=3)
    monkeypatch.setattr(train, "MEMORY_BYTES", 0)
    on_disk = train.train_codebooks(mapped, [16, 8], iterations=3)
    for a, b in zip(in_memory, on_disk, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a.mean(axis=1)).max() < 1e-4


def test_a_sample_serves_and_bad_input_is_said(training):
    assert train.train_codebooks(training, [16], sample=100, iterations=2)[0].shape == (16, 20)
    with pytest.raises(Codec2EqError, match="10 vectors, fewer than the 16 entries"):
        train.train_codebooks(training, [8, 16], sample=10)
    bad = training[:100].copy()
    bad[42, 3] = np.inf
    with pytest.raises(Codec2EqError, match="vectors: row 42 .* is not finite"):
        train.train_codebooks(bad, [8])
    with pytest.raises(Codec2EqError, match="at least one entry"):
        train.train_codebooks(training, [0])
    with pytest.raises(Codec2EqError, match="iterations 0"):
        train.train_codebooks(training, [8], iterations=0)


@pytest.mark.parametrize("entry", [-1, 4, 2**40])
def test_sums_refuse_an_entry_that_is_not_there(entry):
    from codec2_eq.vq._assignment import add_assigned

    targets, entries = np.ones((3, 20), np.float32), np.zeros((4, 20), np.float32)
    sums, counts, errors = np.zeros((4, 20)), np.zeros(4, np.int64), np.zeros(4)
    outliers = np.zeros(1, np.int64)
    rest = (entries, np.ones(1), sums, counts, errors, outliers)
    with pytest.raises(IndexError, match=f"vector 1 is assigned to entry {entry} of 4"):
        add_assigned(targets, np.array([0, entry, 2]), *rest)
    assert not (sums.any() or counts.any() or errors.any() or outliers.any())
    with pytest.raises(ValueError, match="do not fit"):
        add_assigned(targets, np.array([0, 1]), *rest)
    add_assigned(targets, np.array([0, 3, 2]), *rest)
    assert counts.tolist() == [1, 0, 1, 1]


def test_vectors_at_the_limit_train_and_quantise(training):
    scale = np.float32(MOST_DB / np.abs(training).max())
    codebooks = train.train_codebooks(training * scale, [16, 8], iterations=3, survivors=3)
    plain = train.train_codebooks(training, [16, 8], iterations=3, survivors=3)
    ratio = vq.Quantiser(codebooks).distortion(training * scale) / vq.Quantiser(plain).distortion(
        training
    )
    assert ratio == pytest.approx(float(scale) ** 2, rel=0.05)


def test_quantiser_refuses_what_its_arithmetic_cannot_hold():
    with pytest.raises(Codec2EqError, match=r"codebook 1: entry 2 reaches -1e\+18 dB, at most"):
        vq.Quantiser([np.array([[0, 0], [1, 1], [0, -1e18]])])
    with pytest.raises(Codec2EqError, match=r"vector 1 reaches 3e\+38 dB, at most 1e\+09"):
        vq.Quantiser(codebook_700c()).search(np.array([[0] * 20, [3e38] * 20]))


# ---- the command ----------------------------------------------------------------------------


@pytest.fixture
def vectors_file(tmp_path, training) -> str:
    training[:300].astype("<f4").tofile(tmp_path / "in.f32")
    return str(tmp_path / "in.f32")


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


@pytest.mark.parametrize("spec", ["", ",", "a.f32,", ["a.f32", ""]])
def test_a_stage_without_name_is_said(tmp_path, monkeypatch, spec):
    codebook_700c()[0].astype("<f4").tofile(tmp_path / "a.f32")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Codec2EqError, match="a stage has no name; give 700c, or one file"):
        vq.load_codebooks(spec)


def test_the_last_band_is_said_as_it_was_given(vectors_file, capsys):
    assert (
        main(["vq", "quantise", vectors_file, "-o", os.devnull, "--format", "f32", "--en", "20"])
        == 1
    )
    assert "bands 0 to 20: expected a range within 0 to 19" in capsys.readouterr().err


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


def test_training_tells_of_a_cut_npy(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((10_000, 20), np.float32))
    os.truncate(tmp_path / "a.npy", 500_000)
    words = ["vq", "train", str(tmp_path / "a.npy"), "-o", str(tmp_path / "b"), "--sizes", "4"]
    assert main(words) == 1
    assert "a.npy: ends before its array does" in capsys.readouterr().err
