# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
import pytest

from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.measures import speech_activity
from codec2_eq.bench.noise import NOISES, Noise, noises
from codec2_eq.bench.speech import analyse
from codec2_eq.errors import Codec2EqError


@pytest.fixture(scope="module")
def speech(samples_dir):
    return read_audio(samples_dir / "espeak_male_1.wav")


def power_db(samples):
    return 10 * np.log10(np.square(samples, dtype=np.float64).mean())


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("snr_db", [20, 5])
def test_noise_lies_so_far_below_the_active_speech(speech, kind, snr_db):
    added = Noise(kind, snr_db)(speech) - speech
    active = np.repeat(speech_activity(analyse(speech).mean(axis=1)), 320)
    found = power_db(speech[: len(active)][active]) - power_db(added)
    assert found == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize("kind", NOISES)
def test_the_same_seed_gives_the_same_noise(speech, kind):
    once, again, other = (Noise(kind, 10, seed)(speech) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def octaves_db(samples):
    """Power in the octaves from 125 Hz up."""
    power = np.square(np.abs(np.fft.rfft(samples)))
    freqs_hz = np.fft.rfftfreq(len(samples), 1 / 8000)
    edges = 125 * 2.0 ** np.arange(6)
    return np.array(
        [
            10 * np.log10(power[(freqs_hz >= low) & (freqs_hz < high)].mean())
            for low, high in zip(edges, edges[1:], strict=False)
        ]
    )


def test_spectra_of_the_kinds():
    rng = np.random.default_rng(1)
    spectra = {kind: octaves_db(make(160000, rng)) for kind, make in NOISES.items()}
    np.testing.assert_allclose(np.diff(spectra["white"]), 0, atol=0.5)
    np.testing.assert_allclose(np.diff(spectra["car"]), -9, atol=0.7)
    assert spectra["babble"][2] > spectra["babble"][4] + 6  # 500 Hz to 1 kHz, 2 to 4 kHz


def test_babble_moves_as_speech_does_and_white_noise_does_not():
    rng = np.random.default_rng(2)
    moves = {
        kind: np.log(np.square(NOISES[kind](80000, rng).reshape(-1, 800)).mean(axis=1)).std()
        for kind in ("babble", "white")
    }
    assert moves["babble"] > 3 * moves["white"]


def test_all_kinds_at_all_levels():
    assert [noise.name for noise in noises([20, 10])] == [
        *("car 20 dB", "babble 20 dB", "white 20 dB"),
        *("car 10 dB", "babble 10 dB", "white 10 dB"),
    ]


def test_silence_takes_no_noise():
    with pytest.raises(Codec2EqError, match="no active speech"):
        Noise("car", 10)(np.zeros(8000, np.float32))
