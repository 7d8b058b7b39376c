# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
import pytest

from codec2_eq.bench import shaping
from codec2_eq.bench.cases import run_case, shape_recording
from codec2_eq.bench.kalman import KalmanMean
from codec2_eq.bench.measures import (
    Reference,
    Sums,
    canonical_offset,
    closed,
    cold_segments,
    cut_silences,
    frames_to_keep,
    measure,
    score,
    shapes_of,
    speech_activity,
)
from codec2_eq.bench.speech import load_speech
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.errors import Codec2EqError


@pytest.fixture(scope="module")
def cases(samples_dir, quantise):
    """Synthetic speakers through three filters: real vectors, real codebook."""
    paths = sorted(samples_dir.glob("espeak_*.wav"))
    assert paths
    speech = load_speech({"synthetic": paths})
    shapings = [shaping.load_shaping(name) for name in ("boom", "tilt+3", "handset")]
    return [shape_recording(s, shapings, quantise) for s in speech]


@pytest.fixture(scope="module")
def vectors(cases):
    case = cases[0]
    return case.reference, case.shaped["boom"]


def measures(output, reference, quantise):
    return measure(output, reference, quantise).measures()


def test_canonical_speech_itself_is_undisturbed(vectors, quantise):
    reference, _ = vectors
    found = measures(reference.canonical, reference, quantise)
    assert found.residual[0] == pytest.approx(0, abs=1e-6)
    assert found.canonical_error == pytest.approx(found.d)
    assert found.variance_ratio == pytest.approx(1)
    assert found.shape_error <= found.canonical_error
    assert found.frames == reference.active.sum()


def test_offset_is_a_fixed_point(vectors, quantise):
    reference, _ = vectors
    canonical = reference.canonical[reference.active]
    error = canonical - quantise(canonical)
    assert np.square(error.mean(axis=0)).mean() < 0.05
    for curve in np.eye(20, dtype=np.float32)[::4] * 2:  # no move of a band is for the better
        moved = canonical + curve - curve.mean()
        assert np.square(moved - quantise(moved)).mean() > np.square(error).mean()


def test_canonical_speech_does_not_depend_on_the_recordings_own_curve(vectors, quantise):
    reference, _ = vectors
    curve = np.linspace(-15, 15, 20, dtype=np.float32)
    shapes = reference.shapes[reference.active]
    moved = canonical_offset(shapes + curve, quantise)
    np.testing.assert_allclose(moved - reference.offset, curve, atol=0.05)


def test_oracle_and_none_lie_far_apart(cases, quantise):
    table = sum_tables(cases, {"none": load_equaliser("none")}, quantise)
    none, oracle = table["none"].measures(), table["oracle"].measures()
    assert none.canonical_error > 2 * oracle.canonical_error
    assert none.shape_error > oracle.shape_error
    assert none.residual[0] > 4 * oracle.residual[0]


def test_known_methods_stand_in_order(cases, quantise):
    models = {name: load_equaliser(name) for name in ("none", "700c", "cmn")}
    canonical_error = {
        name: sums.measures().canonical_error
        for name, sums in sum_tables(cases, models, quantise).items()
    }
    assert (
        canonical_error["oracle"]
        < canonical_error["utterance mean"]
        < canonical_error["cmn"]
        < canonical_error["700c"]
        < canonical_error["none"]
    )


def sum_tables(cases, models, quantise):
    total: dict[str, Sums] = {}
    for case in cases:
        for (model, _), sums in run_case(case, models, quantise).items():
            total[model] = total.get(model, Sums()) + sums
    return total


def test_collapse_is_caught(vectors, quantise):
    reference, shaped = vectors
    entry = quantise(reference.canonical[:1])
    collapsed = measures(np.repeat(entry, len(shaped), 0), reference, quantise)
    honest = measures(reference.oracle(shaped), reference, quantise)
    assert collapsed.d < 1e-6 < honest.d  # the diagnostic alone is deceived
    assert collapsed.variance_ratio < 0.01 < 0.7 < honest.variance_ratio
    assert collapsed.slope == pytest.approx(0, abs=1e-6)
    assert collapsed.shape_error > 2 * honest.shape_error
    assert collapsed.canonical_error > 2 * honest.canonical_error


def test_putting_out_codebook_entries_is_caught(vectors, quantise):
    """Moving each frame to its codebook entry lowers D, and what is decoded stays."""
    reference, shaped = vectors
    honest = reference.oracle(shaped)
    gamed = measures(quantise(honest), reference, quantise)
    assert gamed.d < 0.01 * measures(honest, reference, quantise).d
    assert gamed.canonical_error == pytest.approx(
        measures(honest, reference, quantise).canonical_error, rel=0.02
    )
    assert gamed.variance_ratio < 0.96


def test_a_constant_curve_is_a_canonical_error_but_no_shape_error(vectors, quantise):
    """Exactly: where the decoder's cells move along with the speech."""
    reference, _ = vectors
    moved = quantise(reference.canonical) + np.float32(3) * np.cos(np.arange(20, dtype=np.float32))
    plain = measures(reference.canonical, reference, quantise)
    curve = measures(moved, reference, lambda shapes: shapes)
    still = measures(quantise(reference.canonical), reference, lambda shapes: shapes)
    assert curve.shape_error == pytest.approx(still.shape_error, rel=1e-4)
    assert curve.shape_error == pytest.approx(plain.shape_error, rel=1e-4)
    assert curve.canonical_error > still.canonical_error + 2


def test_wander_costs_fv(vectors, quantise):
    reference, shaped = vectors
    honest = reference.oracle(shaped)
    drift = np.linspace(-5, 5, len(honest), dtype=np.float32)[:, None] * np.linspace(-1, 1, 20)
    wandering = measures((honest + drift).astype(np.float32), reference, quantise)
    assert wandering.shape_error > measures(honest, reference, quantise).shape_error + 1


def test_residual_is_reported_by_active_time(quantise):
    shapes = np.zeros((60, 20), np.float32)
    active = np.ones(60, bool)
    active[:20] = False  # silence first: time starts with speech
    output = shapes.copy()
    output[20:26] += np.tile([4, -4], 10)  # its first 0.24 s
    reference = Reference(shapes, active, np.zeros(20, np.float32))
    residual = measures(output, reference, quantise).residual
    assert residual[0] == pytest.approx(16 * 6 / 7)
    assert residual[1:4] == (0, 0, 0)
    assert np.isnan(residual[4])


def test_mean_of_the_output_does_not_count(vectors, quantise):
    reference, shaped = vectors
    honest = reference.oracle(shaped)
    assert measures(honest + 7, reference, quantise).d == pytest.approx(
        measures(honest, reference, quantise).d, rel=1e-3
    )


def test_activity_and_silences():
    mean_db = np.full(100, 40.0)
    mean_db[30:60] = 10.0
    mean_db[80] = 20.5
    active = speech_activity(mean_db)
    assert active.sum() == 70
    assert active[80]
    keep = frames_to_keep(active)
    assert keep.sum() == 80  # 0.4 s of the pause stay
    assert keep[30:40].all()
    samples = np.arange(100 * 320, dtype=np.float32)
    cut = cut_silences(samples, mean_db)
    assert cut.shape == (80 * 320,)
    assert cut[40 * 320] == 60 * 320


def test_segments_are_cold_and_leave_little():
    parts = cold_segments(780)
    assert [(p.start, p.stop) for p in parts] == [(0, 300), (300, 600), (600, 780)]
    assert len(cold_segments(700)) == 2
    assert cold_segments(40) == [slice(0, 40)]
    calls = []

    def equalise(block):
        calls.append(len(block))
        return block

    shapes = np.zeros((700, 20), np.float32)
    reference = Reference(shapes, np.ones(700, bool), np.zeros(20, np.float32))
    score(equalise, shapes, reference, lambda shapes: shapes)
    assert calls == [300, 300]


def test_sums_add_up(vectors, quantise):
    reference, shaped = vectors
    halves = [slice(0, 150), slice(150, 300)]
    first, second = (measure(shaped[half], reference.part(half), quantise) for half in halves)
    both = (first + second).measures()
    weights = [first.count, second.count]
    for name in ("d", "canonical_error", "shape_error"):
        parts = [getattr(sums.measures(), name) for sums in (first, second)]
        assert getattr(both, name) == pytest.approx(np.average(parts, weights=weights))
        assert parts[0] != pytest.approx(parts[1], rel=1e-3)
    assert both.frames == sum(weights)


def test_closed_is_a_share_of_the_way():
    assert [closed(50, canonical_error, 10) for canonical_error in (50, 20, 10, 60)] == [
        0,
        0.75,
        1,
        -0.25,
    ]
    assert np.isnan(closed(10, 10, 10))


def test_slope_is_that_of_what_is_decoded(vectors, quantise):
    reference, _ = vectors
    canonical = reference.canonical[reference.active].astype(np.float64)
    decoded = quantise(reference.canonical[reference.active])
    spread = canonical - canonical.mean(axis=0)
    slope = np.polyfit(spread.ravel(), (decoded - decoded.mean(axis=0)).ravel(), 1)[0]
    found = measures(reference.canonical, reference, quantise).slope
    assert found == pytest.approx(slope, rel=1e-4)
    assert 0.5 < found < 0.95


def test_digital_silence_is_no_speech():
    assert not speech_activity(np.full(50, -150.0)).any()
    assert speech_activity(np.array([-20.0, -10, -10])).tolist() == [False, True, True]


def test_kalman_mean_finds_a_constant_curve():
    rng = np.random.default_rng(1)
    curve = 6 * np.cos(np.arange(20) / 3)
    curve -= curve.mean()
    speech = rng.normal(0, 5, (2000, 20)) + CODEBOOK_MEAN_DB
    kalman = KalmanMean(np.eye(20) * 25, np.eye(20) * 36, np.zeros(20), spacing=1)
    out = kalman((speech + curve).astype(np.float32))
    left = out[-500:].mean(axis=0) - shapes_of(speech.astype(np.float32))[-500:].mean(0)
    assert np.square(left).mean() < 0.1


def test_kalman_mean_is_the_mean_of_the_posterior():
    """After n frames: that of a Gaussian prior and n independent frames, in closed form."""
    rng = np.random.default_rng(2)
    noise, prior = (a @ a.T + np.eye(20) for a in rng.normal(0, 2, (2, 20, 20)))
    shapes = shapes_of(rng.normal(0, 6, (30, 20)).astype(np.float32))
    start = rng.normal(0, 3, 20)
    information = np.linalg.inv(prior) + len(shapes) * np.linalg.inv(noise * 4)
    told = np.linalg.solve(prior, start) + np.linalg.solve(
        noise * 4, (shapes - CODEBOOK_MEAN_DB).sum(axis=0)
    )
    wanted = shapes[-1] - np.linalg.solve(information, told)
    kalman = KalmanMean(noise, prior, start, spacing=4)
    np.testing.assert_allclose(kalman(shapes + 40)[-1], wanted - wanted.mean(), atol=1e-3)


def test_kalman_mean_learns_nothing_from_pauses():
    rng = np.random.default_rng(3)
    speech = rng.normal(0, 6, (40, 20)).astype(np.float32) + 40
    pauses = rng.normal(0, 6, (20, 20)).astype(np.float32) + 5
    kalman = KalmanMean.from_codebook()
    out = kalman(np.concatenate([speech[:20], pauses, speech[20:]]))
    np.testing.assert_allclose(np.delete(out, slice(20, 40), axis=0), kalman(speech), atol=1e-5)


def test_lengths_must_agree(vectors, quantise):
    reference, shaped = vectors
    with pytest.raises(Codec2EqError, match="equalised segment"):
        measure(shaped[:-1], reference, quantise)


def test_silence_has_no_measures(quantise):
    with pytest.raises(Codec2EqError, match="no active speech"):
        Sums().measures()
    with pytest.raises(Codec2EqError, match="no active speech"):
        canonical_offset(np.zeros((0, 20), np.float32), quantise)
