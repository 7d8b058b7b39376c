# SPDX-License-Identifier: LGPL-2.1-or-later
"""Audio that is empty, cut, damaged or not there: what is warned of, and what is refused."""

import io
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from wav_files import noise, wav_bytes

from codec2_eq.audio.stream import read_audio
from codec2_eq.errors import Codec2EqError


def test_no_samples_are_no_error_but_warned_of(tmp_path, stdin, caplog):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(0), 16000))
    (tmp_path / "b.wav").write_bytes(wav_bytes(noise(0), after=b"LIST\2\0\0\0ab"))
    (tmp_path / "a.raw").touch()
    soundfile.write(tmp_path / "a.aiff", noise(0), 8000)
    for name in ("a.wav", "b.wav", "a.raw", "a.aiff"):
        read = read_audio(tmp_path / name)
        assert read.shape == (0,)
        assert read.dtype == np.float32
    stdin(b"")
    assert read_audio("-", raw=True).shape == (0,)
    names = [str(tmp_path / name) for name in ("a.wav", "b.wav", "a.raw", "a.aiff")]
    assert caplog.messages == [f"{name}: holds no samples" for name in [*names, "stdin"]]


def test_odd_last_byte_of_raw_is_dropped(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"\1\0\2\0\3")
    assert read_audio(tmp_path / "a.raw").tolist() == [1, 2]


def test_truncated_samples_are_processed_with_a_warning(tmp_path, caplog):
    samples = noise(16000)
    (tmp_path / "a.wav").write_bytes(wav_bytes(samples)[: 44 + 2 * 4000 + 1])
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), samples[:4000, 0])
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("codec2_eq", logging.WARNING)
    ]
    assert caplog.messages[0].endswith(
        "a.wav: ends after 0.500 s, but its header states 2.000 s; processed as far as it goes"
    )


HEADER = wav_bytes(noise(10))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.wav", b"", r"is empty \(0 bytes\)"),
        ("a.flac", b"", r"is empty \(0 bytes\)"),
        *[
            ("a.wav", HEADER[:n], f"ends within its WAV header, after {n} bytes")
            for n in (4, 8, 11, 12, 30, 43)
        ],
        ("a.wav", HEADER[:12] + HEADER[36:], r"no 'fmt ' chunk before 'data'"),
        (
            "a.wav",
            HEADER[:12] + b"LIST\xff\xff\xff\x0f",
            r"a chunk of 268435455 bytes, more than 67108864",
        ),
        ("a.wav", HEADER[:16] + b"\x08\0\0\0" + HEADER[20:], r"format chunk has 8 bytes, at leas"),
        ("a.wav", HEADER[:22] + b"\0\0" + HEADER[24:], r"states 0 channels of 16 bits in 2 bytes"),
        ("a.wav", HEADER[:22] + b"\x01\x04" + HEADER[24:], r"states 1025 channels .*at most 1024"),
        ("a.wav", HEADER[:34] + b"\x0c\0" + HEADER[36:], None),
        ("a.wav", HEADER[:34] + b"\x28\0" + HEADER[36:], r"1 channels of 40 bits in 2 bytes"),
        ("a.wav", wav_bytes(noise(10), 6000), r"sample rate 6000 Hz: at least 8000 Hz needed"),
        ("a.wav", wav_bytes(noise(10), 0), r"sample rate 0 Hz: at least 8000 Hz needed"),
        (
            "a.wav",
            wav_bytes(noise(10), 1_000_001),
            r"rate 1000001 Hz: at most 1000000 Hz; is the h",
        ),
        ("a.wav", wav_bytes(noise(10), 20_000_000), r"at most 1000000 Hz; is the header damaged"),
        ("notes.txt", b"only some words\n" * 99, r"not audio that libsndfile reads \(.*--raw"),
        ("a.wav", b"only some words\n" * 99, r"not audio that libsndfile reads \(.*--raw"),
        ("a.mp3", os.urandom(5000), r"not audio that libsndfile reads \("),
    ],
)
def test_damaged_files(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    if message is None:  # 12 bits in two bytes are lawful
        assert len(read_audio(path)) == 10
        return
    with pytest.raises(Codec2EqError, match=message) as caught:
        read_audio(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^stdin: is empty \(0 bytes\)"),
        (HEADER[:30], r"^stdin: ends within its WAV header, after 30 bytes"),
        (b"only some words\n" * 99, r"^stdin: not WAV, FLAC, .* pass --raw for headerless 16-bit"),
        (b"fLaC" + b"\0" * 50, r"^stdin: not audio that libsndfile reads"),
        (wav_bytes(noise(10), 4000), r"^stdin: sample rate 4000 Hz"),
    ],
)
def test_damaged_streams(stdin, data, message):
    stdin(data)
    with pytest.raises(Codec2EqError, match=message):
        read_audio("-")


def test_endless_stream_that_is_no_audio_is_refused_at_once():
    command = [
        sys.executable,
        "-c",
        "from codec2_eq.audio.stream import read_audio\ntry: read_audio('-')\n"
        "except ValueError as error: print(error)",
    ]
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run(command, stdin=zeros, capture_output=True, timeout=30, check=True)
    assert done.stdout.startswith(b"stdin: not WAV")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is a directory, not a file"),
        ("none.wav", "no such file"),
        ("none.raw", "no such file"),
    ],
)
def test_no_file(tmp_path, name, message):
    with pytest.raises(Codec2EqError, match=message):
        read_audio(tmp_path / name)


def test_reader_that_fails_on_the_way(stdin):
    class Failing(io.BytesIO):
        def read1(self, size=-1):
            raise OSError(5, "Input/output error")

    stdin(Failing(HEADER))
    with pytest.raises(Codec2EqError, match=r"^stdin: Input/output error"):
        read_audio("-")
