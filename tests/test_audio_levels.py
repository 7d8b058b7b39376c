# SPDX-License-Identifier: LGPL-2.1-or-later
"""Levels of the samples that come in: clipping, wrong scales, and what is not finite."""

import numpy as np
import pytest
import soundfile
from wav_files import noise, wav_bytes

from codec2_eq.audio.stream import read_audio, stream_audio
from codec2_eq.errors import Codec2EqError


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
def test_samples_that_are_no_numbers(tmp_path, value, kind):
    samples = np.zeros((50000, 2), np.float32)
    samples[40000, 1] = value
    soundfile.write(tmp_path / "a.x", samples, 10000, format=kind, subtype="FLOAT")
    message = r"a\.x: sample 40000 \(at 4\.000 s\) is NaN or infinite; only finite"
    with pytest.raises(Codec2EqError, match=message):
        list(stream_audio(tmp_path / "a.x", block_s=0.7))
    assert len(read_audio(tmp_path / "a.x", channel=1)) == 40000


def test_doubles_beyond_float32_are_infinite(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, 1e300]), 8000, subtype="DOUBLE")
    with pytest.raises(Codec2EqError, match=r"sample 1 \(at 0\.000 s\) is NaN or infinite"):
        read_audio(tmp_path / "a.wav")


def test_clipping_is_warned_of(tmp_path, caplog):
    tone = 40000 * np.sin(np.arange(8000) * 0.05)
    clipped = tone.clip(-32768, 32767).astype(np.int16)[:, np.newaxis]
    share = np.mean(np.abs(tone) >= 32767)
    (tmp_path / "a.wav").write_bytes(wav_bytes(clipped))
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), clipped[:, 0])
    assert f"a.wav: {share:.1%} of the samples are at full scale" in caplog.text


def test_clipping_at_the_lower_end_alone_is_warned_of(tmp_path, speech, caplog):
    clipped = np.clip(speech * 8.0, -32768, 20000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", clipped, 8000)
    read_audio(tmp_path / "a.wav")
    assert len(caplog.messages) == 1 and "full scale" in caplog.messages[0]


def test_a_normalised_recording_does_not_pass_for_clipped(tmp_path, caplog):
    samples = noise(8000)
    samples[[10, 20, 30]] = [[32767], [-32768], [32767]]
    (tmp_path / "a.wav").write_bytes(wav_bytes(samples))
    read_audio(tmp_path / "a.wav")
    assert caplog.records == []


def test_integers_in_a_float_file_are_warned_of(tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", noise(100).astype(np.float32), 8000, subtype="FLOAT")
    read_audio(tmp_path / "a.wav")
    assert "times full scale; 1.0 is full scale" in caplog.text
