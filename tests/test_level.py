# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
import pytest

from codec2_eq.audiofilter._level_control import LevelControl
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.stream700c import level
from codec2_eq.stream700c._pitch_code import encode_pitch
from codec2_eq.stream700c.codec import FrameEncoder, encode
from codec2_eq.stream700c.frames import pack_frames, unpack_frames
from codec2_eq.stream700c.level import decoded_level_db, level_correction_db
from codec2_eq.vq.quantiser import Quantiser

STEP_DB = 2.5
GAINS_DB = (-18, -12, -6, 0, 6)


def speech_db(n: int, seed: int = 0, mean: float = 35) -> tuple[np.ndarray, np.ndarray]:
    """Energies and voicing of made-up speech: syllables of 0.2 s, each fourth a pause."""
    rng = np.random.default_rng(seed)
    vowels = mean + rng.normal(0, 4, n // 5 + 1).repeat(5)[:n]
    voiced = (np.arange(n) + 5) // 5 % 4 != 0
    return np.where(voiced, vowels, mean - 25 + rng.normal(0, 3, n)), voiced


# ---- what the decoder does ------------------------------------------------------------------


def test_harmonics_are_those_of_libcodec2(speech):
    oracle = libcodec2.oracle_mlfeat(speech)
    vectors = oracle.quantised + oracle.mean_db[:, None]
    for i in range(0, len(oracle.wo), 5):
        first, weights = level.harmonic_weights(2 * np.pi / float(oracle.wo[i]))
        points = np.concatenate([[0], vectors[i], [0]])
        want_db = np.sum(weights * points[first[:, None] + np.arange(3)], axis=1)
        n_harm = min(int(oracle.n_harm[i]), len(first))
        got = oracle.quantised_amplitudes[i, 1 : n_harm + 1]
        np.testing.assert_allclose(20 * np.log10(got), want_db[:n_harm], rtol=0, atol=1e-3)


def test_weights_reproduce_any_parabola():
    first, weights = level.harmonic_weights(100.0)
    points_hz = np.concatenate([[0], extract(np.zeros(320, np.int16)).freqs_hz, [4000]])
    parabola = (points_hz / 1000 - 1.5) ** 2
    harmonics_hz = 80 * np.arange(1, 51)
    interpolated = np.sum(weights * parabola[first[:, None] + np.arange(3)], axis=1)
    np.testing.assert_allclose(interpolated, (harmonics_hz / 1000 - 1.5) ** 2, atol=1e-5)


def test_predicted_levels_are_those_of_decoded_speech():
    """Steady voiced frames, so that the decoder's interpolation between frames changes nothing."""
    codebooks = libcodec2.codebook_700c()
    rng = np.random.default_rng(1)
    offsets = []
    for _ in range(12):
        indexes = rng.integers(0, 512, (1, 2)).repeat(12, axis=0)
        quantised = codebooks[0][indexes[:, 0]] + codebooks[1][indexes[:, 1]]
        energies = np.full(12, rng.integers(4, 11))
        codes = np.full(12, rng.integers(5, 60), np.uint8)
        mean_db = libcodec2.energy_codebook()[energies]
        predicted = decoded_level_db(level.post_filter(quantised), mean_db, codes)
        speech = libcodec2.Decoder700C().decode(pack_frames(indexes, energies, codes))[6 * 320 :]
        offsets.append(10 * np.log10(np.mean(speech.astype(float) ** 2)) - predicted[-1])
    assert np.ptp(offsets) < 0.5, offsets


def test_corrected_frames_are_as_loud(speech):
    frames = extract(speech)
    shapes = frames.vectors - frames.mean_db[:, None]
    quantised = Quantiser(libcodec2.codebook_700c()).quantise(0.3 * shapes)[0]
    codes = encode_pitch(frames.wo, frames.voiced)
    correction = level_correction_db(shapes, quantised, codes)
    assert np.abs(correction).max() > 2
    mean_db = np.full(len(shapes), level.TARGET_DB)
    wanted = decoded_level_db(shapes, mean_db, codes)
    got = decoded_level_db(level.post_filter(quantised), mean_db + correction, codes)
    assert np.abs(got - wanted).max() < 0.1


# ---- the energy step ------------------------------------------------------------------------


def test_steps_are_codec2s_nearest():
    energy_db = np.array([-150, 11.2, 11.25, 11.3, 30, 46.25, 46.3, 99], np.float32)
    np.testing.assert_array_equal(level.nearest_steps(energy_db), [0, 0, 0, 1, 8, 14, 15, 15])


def test_an_unknown_mode_is_said(speech):
    with pytest.raises(Codec2EqError, match="level 'loud': choose one of keep, auto"):
        encode(speech, model="cmn", level="loud")


def levels_of(bits: bytes) -> np.ndarray:
    """Decoded levels of a stream's frames [dB]."""
    indexes, energies, codes = unpack_frames(bits)
    quantised = Quantiser(libcodec2.codebook_700c()).lookup(indexes)
    filtered = level.post_filter(quantised)
    mean_db = libcodec2.energy_codebook()[energies]
    return decoded_level_db(filtered, mean_db, codes.astype(np.uint8))


@pytest.mark.parametrize("model", ["cmn", "channel_eq"])
def test_keep_sends_frames_as_loud_as_their_equalised_shapes(speech, model):
    frames = extract(speech)
    codes = encode_pitch(frames.wo, frames.voiced)
    shapes = load_equaliser(model)(frames.vectors)
    wanted = decoded_level_db(shapes, frames.mean_db, codes)
    inside = (frames.mean_db > 20) & (frames.mean_db < 40)  # of the steps, correction included
    bits = FrameEncoder(model, level="keep", knots="pick").process(frames)
    difference = (levels_of(bits) - wanted)[inside]
    assert inside.sum() > 30
    assert np.abs(difference).max() < STEP_DB / 2 + 0.25  # and of what hangs on the level


# ---- the control ----------------------------------------------------------------------------


def loud_db(energy_db: np.ndarray, voiced: np.ndarray) -> float:
    """Level of speech as the control weighs it: louder frames count more."""
    weights = 10 ** (energy_db / 20) * voiced
    return float(weights @ energy_db / weights.sum())


@pytest.mark.parametrize("gain_db", [-20, -7.7, 3, 12])
def test_speech_of_any_level_comes_to_the_nearer_end_of_the_range_and_stays(gain_db):
    energy_db, voiced = speech_db(750)
    energy_db += gain_db
    gain = level.level_control().process(energy_db, voiced)
    gain_db = gain[-1]
    level_db = loud_db(energy_db, voiced)
    off_db = level_db + gain_db - level.TARGET_DB
    if abs(off_db) > level.TOLERANCE_DB:
        assert abs(off_db) < level.TOLERANCE_DB + 0.5
    settled = gain[100:]
    assert np.abs(settled[5:] - settled[:-5]).max() < 1  # dB in 0.2 s
    assert settled.std() < 1


def test_speech_comes_up_by_so_many_decibels_a_second():
    energy_db, voiced = speech_db(250, mean=12)
    gain = level.level_control().process(energy_db, voiced)
    assert gain[75] + loud_db(energy_db, voiced) > level.TARGET_DB - level.TOLERANCE_DB - 1
    assert np.diff(gain).max() <= level.RISE_DB_PER_S * 0.04 + 1e-9


def test_any_blocks_give_the_same():
    energy_db, voiced = speech_db(100)
    whole = level.level_control().process(energy_db, voiced)
    control = level.level_control()
    parts = [
        control.process(energy_db[a:b], voiced[a:b])
        for a, b in ((0, 1), (1, 1), (1, 50), (50, 100))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("kind", ["silence", "white", "pink", "hum"])
@pytest.mark.parametrize("rms", [30, 3000, 10_000])
@pytest.mark.parametrize("step", [1, 4])
def test_before_speech_noise_comes_down_to_the_range_and_quiet_up_by_5_db(kind, rms, step):
    n = 8000 * 10
    rng = np.random.default_rng(3)
    spectrum = np.fft.rfft(rng.normal(size=n))
    sound = {
        "silence": np.zeros(n),
        "white": rng.normal(size=n),
        "pink": np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), n),
        "hum": np.sum(
            [np.sin(2 * np.pi * 100 * k * np.arange(n) / 8000) / k for k in range(1, 9)], axis=0
        ),
    }[kind]
    samples = (sound * rms / (sound.std() + 1e-9)).astype(np.int16)
    frames = extract(samples, frame_ms=40 // step)
    if kind == "hum":
        assert frames.voiced.mean() > 0.9
    gain = level.level_control(step).process(frames.mean_db, frames.voiced)
    levels_db = frames.mean_db.reshape(-1, step).max(axis=1)
    top_db = level.TARGET_DB + level.TOLERANCE_DB
    assert gain.max() <= 5
    assert (levels_db + np.maximum(gain, -30) < np.maximum(top_db, levels_db - 30) + 1e-4).all()
    if levels_db.max() + 5 < level.TARGET_DB - level.TOLERANCE_DB:
        assert (gain[5:] == 5).all()
    else:
        assert np.abs(gain[25:] + levels_db[25:] - level.TARGET_DB).mean() < level.TOLERANCE_DB + 1


def test_of_several_frames_in_40_ms_the_loudest_counts():
    energy_db, voiced = speech_db(100)
    alone = level.level_control().process(energy_db, voiced)
    quieter = energy_db[:, None] - np.array([2, 0, 1, 3])
    gain = level.level_control(4).process(quieter.ravel(), voiced.repeat(4))
    np.testing.assert_allclose(gain, alone, atol=0.01)


def test_pauses_and_noise_between_words_leave_the_gain():
    energy_db, voiced = speech_db(150)
    control = level.level_control()
    control.process(energy_db, voiced)
    gain_db = control.gain_db
    rng = np.random.default_rng(4)
    for noise_db, chance in ((-150, 0), (20, 0.15), (20, 0), (35, 0)):
        control.process(noise_db + rng.normal(0, 1, 250), rng.random(250) < chance)
        assert control.gain_db == gain_db


def test_hiss_that_passed_for_speech_is_forgotten_when_a_voice_comes():
    rng = np.random.default_rng(5)
    hiss_db = rng.choice([2.0, 14.0], 80)
    energy_db, voiced = speech_db(60, mean=45)
    gain = level.level_control().process(
        np.append(hiss_db, energy_db), np.append(hiss_db > 0, voiced)
    )
    assert gain[79] > 15  # the hiss was taken for a very quiet voice
    alone = level.level_control().process(energy_db, voiced)
    assert np.abs(gain[80 + 30 :] - alone[30:]).max() < 2 * level.TOLERANCE_DB


@pytest.mark.parametrize("off_db", [-20, 20])
def test_quiet_speech_comes_up_slowly_and_loud_speech_down_at_once(off_db):
    energy_db, voiced = speech_db(200)
    energy_db += off_db
    control = LevelControl(35, tolerance_db=2, rise_db_per_s=5)
    gain = control.process(np.append(np.full(10, -10), energy_db), np.append(np.zeros(10), voiced))
    if off_db > 0:
        first = np.flatnonzero(gain < 5)[5]
        assert gain[first] + energy_db[first - 10] == pytest.approx(37)
    else:
        assert 0 < np.diff(gain[6:]).max() <= 5 * 0.04 + 1e-9
        assert gain[-1] + loud_db(energy_db, voiced) == pytest.approx(33, abs=0.5)


def test_a_quieter_speaker_is_brought_up_slowly():
    loud, quiet = speech_db(250), speech_db(2000, seed=1, mean=20)
    gain = level.level_control().process(np.append(loud[0], quiet[0]), np.append(loud[1], quiet[1]))
    assert abs(gain[250 + 75] - gain[249]) < 3  # after 3 s
    assert gain[-1] + loud_db(*quiet) > level.TARGET_DB - level.TOLERANCE_DB - 1.5
    assert np.diff(gain[250:]).max() < 0.2  # dB in 40 ms


def test_the_gain_has_limits():
    energy_db, voiced = speech_db(100, mean=1)
    assert level.level_control().process(energy_db - 20, voiced).max() <= 30
    assert level.level_control().process(energy_db + 90, voiced).min() >= -30


@pytest.mark.parametrize("model", ["none", "700c", "cmn"])
def test_auto_brings_streams_near_each_other_whatever_the_input_level(sample_files, model):
    from codec2_eq.audio.stream import read_audio

    agreeing, at_an_end = [], []
    for path in [p for p in sample_files if p.stem.endswith("male_1")]:
        samples = read_audio(path)
        frames = extract(samples, full_scale=32768)
        active = frames.mean_db > np.percentile(frames.mean_db, 95) - 20
        heard = active & (np.cumsum(active) > 25)
        # without clipping, which would make another recording of it
        streams = [
            encode(
                samples * np.float32(10 ** (g / 20)), model=model, level="auto", full_scale=32768
            )
            for g in GAINS_DB
        ]
        energies = np.array([unpack_frames(s)[1][heard] for s in streams])
        agreeing.append(np.ptp(energies, axis=0) * STEP_DB < 2 * level.TOLERANCE_DB + STEP_DB)
        at_an_end.append((energies == 0) | (energies == 15))
    assert np.concatenate(agreeing).mean() > 0.95
    assert np.concatenate(at_an_end, axis=1).mean() < 0.1
