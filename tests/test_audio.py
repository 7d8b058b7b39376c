# SPDX-License-Identifier: LGPL-2.1-or-later
"""Audio from files and pipes: values, channels, and any blocks."""

import os
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from wav_files import noise, wav_bytes

from codec2_eq.audio.stream import audio_duration, read_audio, stream_audio
from codec2_eq.errors import Codec2EqError

WAV_SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")


# Values


def test_16_bit_at_8_khz_is_exact(tmp_path):
    samples = np.arange(-32768, 32768, dtype=np.int16)[:, np.newaxis]
    for name, kind in (("a.wav", "WAV"), ("a.flac", "FLAC"), ("a.aiff", "AIFF"), ("a.au", "AU")):
        soundfile.write(tmp_path / name, samples, 8000, format=kind, subtype="PCM_16")
        read = read_audio(tmp_path / name)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, samples[:, 0])
    for name in ("a.raw", "a.sw", "A.S16"):
        samples.astype("<i2").tofile(tmp_path / name)
        np.testing.assert_array_equal(read_audio(tmp_path / name), samples[:, 0])
    samples.astype("<i2").tofile(tmp_path / "a.bin")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.bin", raw=True), samples[:, 0])


@pytest.mark.parametrize("subtype", WAV_SUBTYPES)
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_our_wav_reader_agrees_with_libsndfile(tmp_path, stdin, subtype, kind):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5000, 3) / 32768, 8000, format=kind, subtype=subtype)
    expected = soundfile.read(path, dtype="float32")[0] * 32768
    np.testing.assert_array_equal(read_audio(path, channel=2), expected[:, 1])
    stdin(path.read_bytes())
    np.testing.assert_array_equal(read_audio("-", channel=2), expected[:, 1])


def test_full_scale_is_32768_and_is_not_clipped(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([1.0, -1.0, 1.5, 1e-6]), 8000, subtype="FLOAT")
    expected = np.array([32768, -32768, 49152, np.float32(1e-6) * 32768], np.float32)
    np.testing.assert_array_equal(read_audio(path), expected)


# Channels


def test_channels(tmp_path):
    samples = noise(1000, 3)
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(samples))
    mean = samples.astype(np.float64).mean(axis=1)
    np.testing.assert_allclose(read_audio(path), mean, rtol=1e-6, atol=1e-2)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(read_audio(path, channel=number), samples[:, number - 1])
    np.testing.assert_array_equal(read_audio(path, channel="3"), samples[:, 2])


def test_stereo_mix_is_exact(tmp_path):
    samples = noise(1000, 2)
    (tmp_path / "a.wav").write_bytes(wav_bytes(samples))
    np.testing.assert_array_equal(
        read_audio(tmp_path / "a.wav"), samples.astype(np.float32).sum(axis=1) / 2
    )


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (3, r"a\.wav: channel 3 asked for, has 2 channels; pass --channel 1 to 2, or mix"),
        (0, r"a\.wav: channel 0 asked for, has 2 channels"),
        ("left", r"channel 'left': expected 'mix' or a number from 1"),
    ],
)
def test_channel_that_is_not_there(tmp_path, channel, message):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(10, 2)))
    with pytest.raises(Codec2EqError, match=message):
        read_audio(tmp_path / "a.wav", channel=channel)


# Streams


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 3])
def test_file_is_its_stream_for_any_block(tmp_path, rate, channels):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(noise(rate, channels), rate))
    whole = read_audio(path)
    assert len(whole) == 8000
    for block_s in (0.0001, 0.0137, 0.5):
        blocks = list(stream_audio(path, block_s=block_s))
        assert all(len(block) and block.dtype == np.float32 for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


@settings(deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.integers(0, 6044), max_size=8),
    width=st.sampled_from(("<i2", "<i4", "<f8")),
)
def test_pipe_is_the_file_however_it_arrives(cuts, width):
    data = wav_bytes(noise(250, 3).astype(width), 12000, tag=3 if width == "<f8" else 1)
    expected = _read_from_pipe([data])
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    np.testing.assert_array_equal(_read_from_pipe(parts), expected)
    assert len(expected) == 167


def _read_from_pipe(parts):
    """Return what `read_audio` makes of a pipe that is written part by part."""
    reader, writer = os.pipe()

    def write():
        with open(writer, "wb", buffering=0) as out:
            for part in parts:
                out.write(part)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reader, encoding="latin1") as handle:
        before, sys.stdin = sys.stdin, handle
        try:
            return read_audio("-")
        finally:
            sys.stdin = before
            thread.join()


@pytest.mark.parametrize("head", [b"", wav_bytes(noise(0), data_bytes=0x7FFFF000)])
@pytest.mark.parametrize("name", ["-", "fifo"])
def test_every_sample_is_handed_on_before_the_next_arrives(tmp_path, monkeypatch, head, name):
    samples = noise(800)[:, 0].astype("<i2")
    if name == "-":
        reader, writer = os.pipe()
        monkeypatch.setattr(sys, "stdin", open(reader, encoding="latin1"))
        path = "-"
    else:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        keep = os.open(path, os.O_RDWR)  # so that neither end waits for the other to open
        writer = os.open(path, os.O_WRONLY)
    os.write(writer, head + samples[:80].tobytes())
    with stream_audio(path, raw=not head) as stream:
        for start in range(0, 800, 80):
            np.testing.assert_array_equal(next(stream), samples[start : start + 80])
            if start + 80 < 800:
                # Nothing else is in the pipe: had the reader waited for more, it would hang.
                os.write(writer, samples[start + 80 : start + 160].tobytes())
        os.close(writer)
        if name == "fifo":
            os.close(keep)
        assert list(stream) == []
    if name == "-":
        sys.stdin.close()


def test_sample_that_arrives_in_halves():
    data = np.array([1, 2, 3], "<i2").tobytes()
    reader, writer = os.pipe()
    with open(reader, encoding="latin1") as handle:
        before, sys.stdin = sys.stdin, handle
        try:
            with stream_audio("-", raw=True) as stream:
                os.write(writer, data[:3])
                assert next(stream).tolist() == [1]
                os.write(writer, data[3:])
                assert next(stream).tolist() == [2, 3]
                os.close(writer)
                assert next(stream, None) is None
        finally:
            sys.stdin = before


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(noise(48000 * 100, 2), 48000))  # 19 MB
    for _ in stream_audio(path, block_s=0.01):  # imports what is imported once
        break
    tracemalloc.start()
    n_samples = sum(len(block) for block in stream_audio(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_samples == 800_000
    assert peak < 8 << 20


def test_raw_and_wav_need_no_library(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(10)))
    code = (
        "import sys; from codec2_eq.audio.stream import read_audio; read_audio(sys.argv[1]);"
        "print(sorted({'soundfile', 'soxr', 'scipy', 'tempfile', 'logging'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.wav")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"[]\n"


def test_duration(tmp_path, stdin):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(24000, 2), 16000))
    noise(4000).tofile(tmp_path / "a.raw")
    soundfile.write(tmp_path / "a.flac", noise(2000), 8000)
    assert audio_duration(tmp_path / "a.wav") == 1.5
    assert audio_duration(tmp_path / "a.raw") == 0.5
    assert audio_duration(tmp_path / "a.flac") == 0.25
    stdin(wav_bytes(noise(100)))
    assert audio_duration("-") is None


def test_stream_closes_its_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(100)))
    with stream_audio(tmp_path / "a.wav", block_s=0.001) as stream:
        assert iter(stream) is not None
        assert (stream.rate, stream.channels, stream.duration_s) == (8000, 1, 0.0125)
        next(stream)
    assert not [
        link
        for link in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{link}")
        and os.readlink(f"/proc/self/fd/{link}") == os.path.realpath(tmp_path / "a.wav")
    ]


def test_block_must_have_a_length(tmp_path):
    with pytest.raises(ValueError, match=r"block_s 0: must be above 0"):
        stream_audio(tmp_path / "a.wav", block_s=0)
