# SPDX-License-Identifier: LGPL-2.1-or-later
"""The training of codebooks."""

import numpy as np
import pytest
from conftest import require_package
from vq_shapes import N_TRAIN, shapes_of

from codec2_eq import vq
from codec2_eq.errors import Codec2EqError
from codec2_eq.records import MOST_DB
from codec2_eq.vq import train

N_ENTRIES = 64


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
