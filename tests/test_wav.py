# SPDX-License-Identifier: LGPL-2.1-or-later
"""The short way to plain WAV files gives what the long one does, or nothing."""

import logging.handlers
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from codec2_eq.audio.resample import MAX_RATE_HZ, to_8khz
from codec2_eq.audio.stream import read_audio
from codec2_eq.audio.wav import plain_samples
from codec2_eq.errors import Codec2EqError


def wav(samples: np.ndarray, rate: int = 8000, channels: int = 1, bits: int = 16) -> bytes:
    data = samples.astype("<i2").tobytes()
    frame = channels * bits // 8
    return (
        struct.pack(
            "<4sI8sIHHIIHH4sI",
            b"RIFF",
            36 + len(data),
            b"WAVEfmt ",
            16,
            1,
            channels,
            rate,
            rate * frame,
            frame,
            bits,
            b"data",
            len(data),
        )
        + data
    )


SPEECH = np.random.default_rng(5).integers(-32000, 32000, 900)


def test_plain_file_as_others_write_it(tmp_path):
    soundfile.write(tmp_path / "a.wav", SPEECH.astype(np.int16), 8000, subtype="PCM_16")
    plain = plain_samples((tmp_path / "a.wav").read_bytes())
    assert plain is not None and plain[0].dtype == np.int16 and plain[1] == 8000
    np.testing.assert_array_equal(plain[0], SPEECH)


def test_rate_is_returned():
    plain = plain_samples(wav(SPEECH, rate=44100))
    assert plain is not None and plain[1] == 44100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        wav(SPEECH)[:43],
        wav(SPEECH[:0]),
        wav(SPEECH)[:-2],
        wav(SPEECH) + b"\0\0",
        wav(SPEECH)[:-1],
        wav(SPEECH, channels=2),
        wav(SPEECH, bits=8),
        wav(SPEECH).replace(b"RIFF", b"RIFX"),
        wav(SPEECH).replace(b"data", b"LIST"),
    ],
)
def test_all_else_is_left_to_the_long_way(data):
    assert plain_samples(data) is None


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_never_read_otherwise(tmp_path_factory, data):
    damaged = bytearray(wav(SPEECH[: data.draw(st.integers(0, 30))]))
    for _ in range(data.draw(st.integers(0, 2))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged)))) :]
    plain = plain_samples(bytes(damaged))
    if plain is None or not 8000 <= plain[1] <= MAX_RATE_HZ:
        return
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    path.write_bytes(damaged)
    watch = logging.handlers.BufferingHandler(99)
    logging.getLogger("codec2_eq").addHandler(watch)
    try:
        np.testing.assert_array_equal(to_8khz(*plain), read_audio(path))
    except Codec2EqError as error:
        pytest.fail(f"read, although {error}")
    finally:
        logging.getLogger("codec2_eq").removeHandler(watch)
    assert not watch.buffer
