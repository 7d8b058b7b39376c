# SPDX-License-Identifier: LGPL-2.1-or-later
"""Noise reduction keeps time, length and speech, and lowers noise."""

import numpy as np
import pytest
import soundfile
from conftest import require_package

from codec2_eq.audiofilter.denoise import KEPT, Denoiser
from codec2_eq.cli import main
from codec2_eq.errors import Codec2EqError

require_package("pyrnnoise")


def denoised(samples, rate, sizes=()):
    denoiser = Denoiser(rate, samples.shape[1])
    parts = [denoiser.process(part) for part in np.split(samples, np.cumsum(sizes))]
    return np.concatenate([*parts, denoiser.flush()])


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("seconds", [0, 0.001, 0.5])
def test_as_many_samples_come_out_as_went_in(rate, seconds):
    samples = np.zeros((int(seconds * rate), 2), np.float32)
    assert denoised(samples, rate).shape == samples.shape


def test_speech_keeps_its_time(speech):
    samples = speech[:, None].astype(np.float32)
    out = denoised(samples, 8000)[:, 0]
    start, stop = 8000, 20000
    fits = [out[start:stop] @ speech[start + k : stop + k] for k in range(-100, 101)]
    assert np.argmax(fits) == 100


def test_noise_is_lowered_to_what_is_kept(speech):
    rng = np.random.default_rng(1)
    noise = 500 * rng.standard_normal((24000, 1)).astype(np.float32)
    out = denoised(noise, 8000)[8000:]
    lowered = np.sqrt(np.mean(out**2) / np.mean(noise**2))
    assert KEPT * 0.9 < lowered < KEPT * 1.5


def test_blocks_do_not_matter():
    rng = np.random.default_rng(2)
    samples = 1000 * rng.standard_normal((48000, 2)).astype(np.float32)
    whole = denoised(samples, 48000)
    np.testing.assert_array_equal(denoised(samples, 48000, [0, 7, 479, 480, 5000]), whole)


def test_another_number_of_channels_is_refused():
    with pytest.raises(Codec2EqError, match=r"expected \(n, 1\)"):
        Denoiser(8000).process(np.zeros((10, 2)))


@pytest.mark.parametrize("passes", ["1", "2"])
def test_filter_denoises_first(tmp_path, speech, passes):
    noisy, clean, plain = (tmp_path / f"{name}.wav" for name in ("noisy", "clean", "plain"))
    rng = np.random.default_rng(3)
    pauses = np.concatenate((speech, np.zeros(16000)))
    soundfile.write(noisy, (pauses + 300 * rng.standard_normal(len(pauses))) / 32768, 8000)
    words = ["filter", str(noisy), "--level", "keep", "--passes", passes, "-o"]
    assert main([*words, str(plain)]) == main([*words, str(clean), "--denoise"]) == 0
    with_noise, without = (soundfile.read(path)[0] for path in (plain, clean))
    assert len(with_noise) == len(without) == len(pauses)
    assert np.std(without[-8000:]) < 0.6 * np.std(with_noise[-8000:])
