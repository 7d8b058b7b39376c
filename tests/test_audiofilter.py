# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audio filter: gains in numbers, no click, no swell, no clipping, any division the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codec2_eq as ce
from codec2_eq.analysis import band_centres_hz
from codec2_eq.audiofilter.decimator import HALF_S, Decimator
from codec2_eq.audiofilter.follower import (
    LEVEL_TOLERANCE_DB,
    MOST_DB,
    TARGET_DB,
)
from codec2_eq.audiofilter.limiter import CEILING, Limiter
from codec2_eq.audiofilter.moving import MovingFilter
from codec2_eq.audiofilter.response import N_POINTS, MinimumPhase, gain_points
from codec2_eq.codec2 import K

RATES = [8000, 11025, 16000, 44100, 48000]
SMOOTH_DB = (8 * np.cos(np.arange(K) / 4)).astype(np.float32)


def points(curve_db, level_db=0.0):
    return gain_points(np.asarray(curve_db)[None], np.array([level_db]))


def taps(rate, curve_db):
    design = MinimumPhase(rate, 80)
    return np.fft.irfft(design.spectra(points(curve_db))[0], design.n_fft)


def gain_db(response, rate, hz):
    phases = np.exp(-2j * np.pi * np.outer(hz, np.arange(len(response))) / rate)
    return 20 * np.log10(np.abs(phases @ response))


def filtered(samples, rate=8000, channels=1, cuts=(), **options):
    filtering = ce.AudioEqualiser(rate=rate, channels=channels, **options)
    parts = [filtering.process(part) for part in np.split(samples, sorted(cuts))]
    return np.concatenate([*parts, filtering.flush()])


def tone(hz, seconds, rate=8000, amplitude=3000.0):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(
        np.float32
    )


def rms(samples):
    return np.sqrt(np.mean(np.square(np.asarray(samples, np.float64))))


# ------------------------------------------------------------------------------- response


@pytest.mark.parametrize("rate", RATES)
def test_the_filter_has_the_gain_asked_for_and_holds_it_beyond(rate):
    response = taps(rate, SMOOTH_DB)
    np.testing.assert_allclose(gain_db(response, rate, band_centres_hz()), -SMOOTH_DB, atol=0.5)
    beyond = gain_db(response, rate, np.linspace(3800, rate / 2, 20))
    np.testing.assert_allclose(beyond, -SMOOTH_DB[-1], atol=0.5)


def test_the_filter_has_the_least_delay():
    response = taps(8000, SMOOTH_DB)
    assert np.argmax(np.abs(response)) == 0
    assert rms(response[:40]) * np.sqrt(40) > 0.99 * rms(response) * np.sqrt(len(response))
    zeros = np.roots(np.trim_zeros(response[:200], "b"))
    assert np.abs(zeros).max() < 1 + 1e-3


def test_dc_and_hum_are_not_lifted():
    bass_missing = np.where(np.arange(K) < 6, -15.0, 0.0)
    gains = gain_db(taps(8000, bass_missing), 8000, np.array([0, 50, 60, 100, 120]))
    assert gains.max() < 1.5  # a short filter's edges are soft
    bass_too_loud = gain_db(taps(8000, -bass_missing), 8000, np.array([0, 50, 100]))
    np.testing.assert_allclose(bass_too_loud, -15, atol=0.5)


# --------------------------------------------------------------------------- moving filter


def test_a_moving_gain_leaves_a_steady_tone_clean():
    rate, seconds = 8000, 4.0
    moving = MovingFilter(rate, 1, points(np.zeros(K))[0])
    n_fades = int(seconds * rate) // moving.fade
    rng = np.random.default_rng(3)
    curve, gains = np.zeros(K), []
    for _ in range(n_fades):  # up to 3 dB from frame to frame, as at a cold start
        curve = 0.9 * curve + rng.uniform(-3, 3, K)
        gains.append(points(curve)[0])
    assert np.ptp(np.array(gains), axis=0).max() > 6
    samples = tone(1000, seconds)[None, : n_fades * moving.fade]
    out = moving.process(samples, np.array(gains))[0]
    power = np.square(np.abs(np.fft.rfft(out * np.blackman(len(out)))))
    hz = np.fft.rfftfreq(len(out), 1 / rate)
    beside_db = 10 * np.log10(power[np.abs(hz - 1000) > 100].max() / power.max())
    assert beside_db < -60


def test_a_gain_at_rest_is_a_plain_convolution():
    moving = MovingFilter(8000, 2, points(SMOOTH_DB)[0])
    noise = np.random.default_rng(1).normal(0, 1000, (2, 20 * moving.block)).astype(np.float32)
    out = moving.process(noise, np.repeat(points(SMOOTH_DB), 5, axis=0))
    response = taps(8000, SMOOTH_DB)
    expected = [np.convolve(line, response)[: noise.shape[1]] for line in noise]
    np.testing.assert_allclose(out, expected, atol=0.02)


# --------------------------------------------------------------------------------- limiter


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 400), max_size=5))
def test_the_limiter_never_exceeds_its_ceiling(seed, cuts):
    rng = np.random.default_rng(seed)
    envelope = np.repeat(10 ** rng.uniform(2, 6, 10), 40)
    samples = (envelope * rng.uniform(-1, 1, (2, 400))).astype(np.float32)
    whole, limiter = Limiter(40, 8000, 2), Limiter(40, 8000, 2)
    once = np.concatenate([whole.process(samples), whole.flush()], axis=1)
    parts = [limiter.process(part) for part in np.split(samples, sorted(cuts), axis=1)]
    assert np.array_equal(np.concatenate([*parts, limiter.flush()], axis=1), once)
    assert once.shape == samples.shape and np.abs(once).max() <= CEILING
    assert (np.abs(once) <= np.abs(samples)).all()


def test_the_limiter_leaves_alone_what_fits_and_comes_back():
    limiter = Limiter(40, 8000, 1)
    quiet = tone(500, 0.2)[None]
    loud = np.concatenate([quiet, 20 * quiet, np.tile(quiet, 5)], axis=1)
    out = np.concatenate([limiter.process(loud), limiter.flush()], axis=1)
    assert np.array_equal(out[:, :1500], loud[:, :1500])
    assert np.array_equal(out[:, -800:], loud[:, -800:])


# ------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (11025, 1), (48000, 2)])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_division_gives_the_same_bits(speech, rate, channels, data):
    samples = np.repeat(speech, rate // 8000, axis=0)[: 2 * rate].astype(np.float32)
    if channels == 2:
        samples = np.stack([samples, 0.3 * samples[::-1]], axis=1)
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=12))
    whole = filtered(samples, rate, channels, full_scale=32768)
    assert len(whole) == len(samples)
    assert np.array_equal(filtered(samples, rate, channels, cuts, full_scale=32768), whole)


@pytest.mark.parametrize("limit", [True, False])
@pytest.mark.parametrize("rate", RATES)
def test_no_sample_is_held_longer_than_the_latency(rate, limit):
    filtering = ce.AudioEqualiser(rate=rate, limit=limit)
    assert filtering.latency_s <= 0.02
    hum = tone(440, 1, rate, 0.1)
    n_in = n_out = 0
    for n in np.random.default_rng(4).integers(0, rate // 50, 200):
        n_in += n
        n_out += len(filtering.process(hum[:n]))
        assert n_in - n_out <= filtering.latency_s * rate
    assert n_out + len(filtering.flush()) == n_in


def test_the_curve_of_a_filter_on_the_speech_is_taken_off(speech):
    filtering = ce.AudioEqualiser(level="keep")
    filtering.process(np.tile(speech, 3))
    plain = filtering.curve_db
    shaped = np.convolve(speech, taps(8000, -SMOOTH_DB))[: len(speech)].astype(np.float32)
    filtering = ce.AudioEqualiser(level="keep", full_scale=32768)
    filtering.process(np.tile(shaped, 3))
    added = SMOOTH_DB - SMOOTH_DB.mean()
    assert abs(filtering.curve_db.mean()) < 1e-3
    assert rms(filtering.curve_db - plain - added) < 0.4 * rms(added)


def test_levels_far_apart_come_out_within_the_range(speech):
    speech = np.tile(speech, 4)
    quiet, loud = (filtered((speech * gain).astype(np.int16)) for gain in (0.05, 1))
    assert quiet.dtype == loud.dtype == np.int16
    second_half = slice(len(speech) // 2, None)
    apart_db = 20 * np.log10(rms(loud[second_half]) / rms(quiet[second_half]))
    assert 0 < apart_db < 2 * LEVEL_TOLERANCE_DB  # 26 dB before


def gains_after_quiet(samples):
    """Levels and gains of 0.4 s of quiet, and of samples after it."""
    frames = ce.extract(samples, 8000)
    levels_db = np.append(np.full(10, -10), frames.mean_db)
    voiced = np.append(np.zeros(10, bool), frames.voiced)
    return levels_db, ce.AudioEqualiser()._follower._control.process(levels_db, voiced)


def test_the_gain_with_which_a_voice_is_waited_for_is_the_one_that_usual_speech_keeps(speech):
    usual = (speech * (32768 * 10 ** (-26 / 20) / rms(speech))).astype(np.int16)
    _, gains_db = gains_after_quiet(usual)
    assert (np.diff(gains_db[:5]) > 0).all()
    assert (gains_db[5:] == 5).all()


def test_a_voice_that_is_too_loud_comes_down_with_its_first_frame(speech):
    levels_db, gains_db = gains_after_quiet(np.clip(speech * 10.0, -32768, 32767).astype(np.int16))
    first = np.flatnonzero(np.diff(gains_db) < 0)[0] + 1
    assert levels_db[first] + gains_db[first - 1] > TARGET_DB + LEVEL_TOLERANCE_DB
    assert levels_db[first] + gains_db[first] == pytest.approx(TARGET_DB + LEVEL_TOLERANCE_DB)


def test_nothing_and_noise_do_not_swell(speech):
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 30, 60 * 8000)
    silence = np.zeros(600 * 8000)
    samples = np.concatenate([speech, noise, silence, speech, speech]).astype(np.int16)
    out = filtered(samples)
    n = len(speech)
    before = rms(out[n + 8000 : n + 16000])
    assert rms(out[n + len(noise) - 8000 : n + len(noise)]) < 1.2 * before
    assert not out[n + len(noise) + 8000 : -2 * n].any()
    last, fresh = out[-n:].astype(float), filtered(np.tile(speech, 3))[-n:].astype(float)
    assert 20 * abs(np.log10(rms(last) / rms(fresh))) < 2


@pytest.mark.parametrize("kind", ["nothing", "noise", "music", "clipped", "impulses", "dc"])
def test_two_seconds_after_what_is_no_speech_the_level_is_right(kind, speech):
    """Ten seconds of it, after speech that it may mislead, and then speech again."""
    n, t = 10 * 8000, np.arange(10 * 8000) / 8000
    samples = {
        "nothing": np.zeros(n),
        "noise": np.random.default_rng(7).normal(0, 1000, n),
        "music": 8000 * np.sin(2 * np.pi * np.outer([220, 277, 330], t)).mean(axis=0),
        "clipped": np.clip(np.tile(speech, 3)[:n] * 10.0, -32768, 32767),
        "impulses": np.where(np.arange(n) % 4000 == 0, 32767, 0),
        "dc": np.full(n, 20000),
    }[kind].astype(np.int16)
    before = np.tile(speech, 2)
    disturbed = filtered(np.concatenate([before, samples, before]))[-len(before) :]
    undisturbed = filtered(np.concatenate([before, before]))[-len(before) :]
    assert np.abs(disturbed.astype(int)).max() <= CEILING + 0.5
    for start in range(2 * 8000, len(before) - 8000, 4000):
        second = slice(start, start + 8000)
        off_db = 20 * np.log10(rms(disturbed[second]) / rms(undisturbed[second]))
        # from the top of where it rests to the bottom, and the curve's part of the power
        assert abs(off_db) < 2 * LEVEL_TOLERANCE_DB + 1


def test_a_known_station_starts_where_it_ended(speech):
    first = ce.AudioEqualiser()
    first.hear(np.tile(speech, 3))
    known = ce.AudioEqualiser()
    known.restore(first.state())
    np.testing.assert_allclose(known.curve_db, first.curve_db, atol=0.5)  # the last frames wait
    n = 8000
    known = ce.AudioEqualiser(level="keep")
    known.restore(first.state())
    fresh, settled = filtered(speech, level="keep")[:n], known.process(speech)[:n]
    reference = filtered(np.tile(speech, 4), level="keep")[-len(speech) :][:n]
    assert rms(settled - reference[: len(settled)].astype(float)) < rms(fresh - reference * 1.0)
    with pytest.raises(ce.Codec2EqError, match="after the first samples"):
        known.restore(first.state())
    with pytest.raises(ce.Codec2EqError, match="same equaliser"):
        ce.AudioEqualiser("cmn").restore(first.state())


@pytest.mark.parametrize("gain", [0.05, 1])
def test_speech_of_a_known_level_begins_at_the_target(gain, speech):
    first = ce.AudioEqualiser()
    samples = (speech * gain).astype(np.int16)
    first.hear(samples)
    first.hear(np.zeros(8000, np.int16))
    known = ce.AudioEqualiser()
    known.restore(first.state())
    frames = ce.extract(samples, 8000)
    weights = 10 ** (frames.mean_db / 20) * frames.voiced
    level_db = weights @ frames.mean_db / weights.sum()  # of loud vowels, nearly
    assert known._follower._control.gain_db == pytest.approx(TARGET_DB - level_db, abs=2.5)
    damaged = first.state() | {"filter.level": np.full(4, np.nan)}
    with pytest.raises(ce.Codec2EqError, match="level is damaged"):
        ce.AudioEqualiser().restore(damaged)


@pytest.mark.parametrize("model", ["channel_eq", "cmn", "700c"])
def test_every_equaliser_with_a_curve_filters(model, speech):
    filtering = ce.AudioEqualiser(model, level="keep")
    out = filtering.process(np.tile(speech, 2))
    assert np.ptp(filtering.curve_db) > 1 and np.abs(filtering.curve_db).max() <= MOST_DB
    assert out.any()


@pytest.mark.parametrize("model", ["none", "mean", "mean_removal"])
def test_an_equaliser_without_a_curve_is_refused(model):
    with pytest.raises(ce.Codec2EqError, match=f"{model}: removes no curve.*channel_eq"):
        ce.AudioEqualiser(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 7999}, "at least 8000 Hz"),
        ({"rate": 0}, "at least 8000 Hz"),
        ({"rate": -8000}, "at least 8000 Hz"),
        ({"rate": np.nan}, "at least 8000 Hz"),
        ({"rate": 8e9}, "at most 1000000 Hz"),
        ({"rate": "8000"}, "sample rate '8000'; expected a number"),
        ({"model": ce.load_equaliser("cmn", frame_ms=10)}, "cmn: was loaded for frames 10 ms"),
        ({"rate": 96000}, "at most 48000 Hz can be filtered"),
        ({"level": "loud"}, "choose keep or auto"),
        ({"channels": 0}, "at least one"),
        ({"full_scale": 0}, "expected a positive number"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(options, message):
    with pytest.raises(ce.Codec2EqError, match=message):
        ce.AudioEqualiser(**options)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(5), r"expected \(n_samples, 2\)"),
        (np.zeros((5, 3)), r"expected \(n_samples, 2\)"),
        (np.zeros((9000, 3)), r"shape \(9000, 3\): expected \(n_samples, 2\); state their number"),
        (np.zeros(20000), r"shape \(20000,\): expected"),
        (np.zeros((5, 2), np.int32), "expected int16 or float"),
        (np.full((5, 2), np.nan), "NaN or infinite"),
    ],
)
def test_samples_that_cannot_be_are_refused(samples, message):
    with pytest.raises(ce.Codec2EqError, match=message):
        ce.AudioEqualiser(channels=2).process(samples)


def test_the_points_below_the_bands_are_one_more():
    assert points(np.zeros(K)).shape == (1, N_POINTS)


def test_blocks_of_a_whole_fade_give_the_same_sound(speech):
    speech = np.tile(speech, 3)
    quick, soon = (filtered(speech, blocks_per_fade=n).astype(float)[-20000:] for n in (1, 4))
    assert rms(quick - soon) < 0.02 * rms(soon)  # their filters fade out at other lengths
    assert ce.AudioEqualiser(limit=False, blocks_per_fade=1).latency_s == 0.04


# ------------------------------------------------------------------------------ decimator


@pytest.mark.parametrize("factor", [2, 6])
def test_the_decimator_keeps_speech_and_stops_what_would_fold_onto_it(factor):
    rate = 8000 * factor
    for hz, least_db, most_db in ((200, -0.1, 0.1), (3600, -0.1, 0.1), (4400, -90, -55)):
        out = Decimator(factor).process(tone(hz, 1, rate))[800:]
        assert least_db < 20 * np.log10(rms(out) / rms(tone(hz, 1, rate))) < most_db


def test_the_decimator_is_late_by_half_its_filter_and_not_more():
    out = Decimator(6).process(np.eye(1, 9600, 960, np.float32)[0])  # a click after 20 ms
    assert len(out) == 1600 and np.argmax(out) == 160 + round(8000 * HALF_S)


@given(st.lists(st.integers(0, 12000), max_size=6))
def test_the_decimator_gives_the_same_bits_for_any_division(cuts):
    noise = np.random.default_rng(6).normal(0, 1000, 12000).astype(np.float32)
    decimator = Decimator(3)
    parts = [decimator.process(part) for part in np.split(noise, sorted(cuts))]
    assert np.array_equal(np.concatenate(parts), Decimator(3).process(noise))
