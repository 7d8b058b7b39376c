# SPDX-License-Identifier: LGPL-2.1-or-later
"""WAV files whose headers are wrong, as recorders write them: no sample is lost in silence."""

import contextlib
import os
import struct
import threading

import numpy as np
import pytest
import soundfile
from wav_files import noise, wav_bytes

from codec2_eq.audio import wav
from codec2_eq.audio.resample import to_8khz
from codec2_eq.audio.stream import open_native, read_audio, stream_audio
from codec2_eq.audio.wav import HeaderReader, read_wav_header
from codec2_eq.audio.writer import WavWriter
from codec2_eq.errors import Codec2EqError

SAMPLES = np.random.default_rng(3).integers(-30000, 30000, 4000).astype("<i2")
OTHERS = np.random.default_rng(4).integers(-30000, 30000, 3000).astype("<i2")


def fmt(*, tag=1, channels=1, rate=8000, bits=16, align=None):
    align = channels * ((bits + 7) // 8) if align is None else align
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits))


def chunk(tag, data, size=None):
    size = len(data) if size is None else size
    return tag + struct.pack("<I", size) + data + b"\0" * (len(data) % 2)


def riff(*chunks, magic=b"RIFF", size=None):
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def data(samples=SAMPLES, size=None):
    return chunk(b"data", samples.tobytes(), size)


@pytest.fixture(params=["file", "pipe"])
def read(request, tmp_path, monkeypatch):
    """Return a function that reads bytes as a file or from a pipe: samples and warnings."""

    def from_file(content):
        (tmp_path / "a.wav").write_bytes(content)
        with stream_audio(tmp_path / "a.wav", log=False) as stream:
            blocks = list(stream)
        return np.concatenate([np.empty(0, np.float32), *blocks]), stream.warnings

    def from_pipe(content):
        fifo = tmp_path / "fifo"
        if not fifo.exists():
            os.mkfifo(fifo)

        def write():
            with contextlib.suppress(BrokenPipeError):
                fifo.write_bytes(content)

        thread = threading.Thread(target=write)
        thread.start()
        with stream_audio(fifo, log=False) as stream:
            blocks = list(stream)
        thread.join()
        return np.concatenate([np.empty(0, np.float32), *blocks]), stream.warnings

    return from_file if request.param == "file" else from_pipe


BOTH = np.concatenate([SAMPLES, OTHERS])
LIST = chunk(b"LIST", b"hello")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (riff(fmt(), data()) + riff(fmt(), data(OTHERS)), BOTH),  # two files, joined
        (riff(fmt(), data(), LIST) + riff(LIST, fmt(), data(OTHERS)), BOTH),
        (riff(fmt(), data(), data(OTHERS)), BOTH),
        (riff(fmt(), data(), LIST, data(OTHERS), LIST), BOTH),
        (riff(fmt(), data(size=0)), SAMPLES),  # the length was never filled in
        (riff(fmt(), data(size=0), size=36), SAMPLES),
        (riff(chunk(b"FLLR", bytes(100)), fmt(), data(size=0), size=144), SAMPLES),
        (riff(fmt(), data(), LIST), SAMPLES),
        (riff(fmt(), data()) + b"TAG" + bytes(125), SAMPLES),
        (riff(fmt(), data()) + b"APETAGEX" + bytes(56), SAMPLES),
        (riff(fmt(), data(), LIST) + b"TAG" + bytes(125), SAMPLES),
        (riff(fmt(), data(), LIST) + b"APETAGEX" + bytes(56), SAMPLES),
        (riff(fmt(align=0), data()), SAMPLES),
        (riff(fmt(align=1), data()), SAMPLES),
        (riff(fmt(align=16), data()), SAMPLES),
        (riff(fmt(), data(), magic=b"BW64"), SAMPLES),
        (
            riff(
                chunk(b"ds64", struct.pack("<QQQI", 9000, 8000, 0, 0)),
                fmt(),
                data(size=0xFFFFFFFF),
                LIST,
                magic=b"BW64",
                size=0xFFFFFFFF,
            ),
            SAMPLES,
        ),
    ],
)
def test_all_samples_are_read(read, content, expected):
    samples, warnings = read(content)
    np.testing.assert_array_equal(samples, expected)
    assert warnings == []


def test_samples_beyond_the_stated_length_are_read_with_a_warning(read):
    samples, warnings = read(riff(fmt(), data(size=2000)))
    np.testing.assert_array_equal(samples, SAMPLES)
    assert warnings == ["continues beyond the 0.125 s stated in its header; read to its end"]


@pytest.mark.parametrize("size", [1, 1001])
def test_a_stated_length_may_end_within_a_sample(read, size):
    content = riff(fmt(), b"data" + struct.pack("<I", size) + SAMPLES.tobytes())
    samples, warnings = read(content)
    np.testing.assert_array_equal(samples, SAMPLES)
    assert len(warnings) == 1 and "continues beyond the" in warnings[0]


@pytest.mark.parametrize("second", [fmt(rate=16000), fmt(channels=2), fmt(tag=0x55)])
def test_a_second_recording_of_another_kind_is_warned_of(read, second):
    samples, warnings = read(riff(fmt(), data()) + riff(second, data(OTHERS)))
    np.testing.assert_array_equal(samples, SAMPLES)
    assert len(warnings) == 1 and "second recording in it, of another rate" in warnings[0]


@pytest.mark.parametrize("head", [b"fLaC\0\0\0\x22", b"OggS\0\2\0\0", b"ID3\3\0\0\0\0"])
def test_a_file_of_another_format_behind_it_is_warned_of(read, head):
    samples, warnings = read(riff(fmt(), data()) + head + bytes(range(200)))
    np.testing.assert_array_equal(samples, SAMPLES)
    assert warnings == ["a file of another format after its samples is left out"]


def test_a_second_recording_that_is_damaged_is_warned_of(read):
    samples, warnings = read(riff(fmt(), data()) + riff(fmt())[:20])
    np.testing.assert_array_equal(samples, SAMPLES)
    assert len(warnings) == 1 and "second recording in it cannot be read" in warnings[0]


def test_a_second_recording_that_is_cut_is_warned_of(read):
    samples, warnings = read(riff(fmt(), data()) + riff(fmt(), data(OTHERS))[:-1000])
    np.testing.assert_array_equal(samples, BOTH[:-500])
    assert len(warnings) == 1 and "ends after 0.812 s, but its header states 0.875 s" in warnings[0]


@pytest.mark.parametrize("each", [b"JUNK\0\0\0\0", data(SAMPLES[:1]), riff(fmt(), data())])
def test_chunks_without_end_are_refused(read, monkeypatch, each):
    monkeypatch.setattr(wav, "_MOST_CHUNKS", 20)
    read(riff(fmt(), data(), *[each] * 19))
    with pytest.raises(Codec2EqError, match="has over 20 chunks: damaged; fetch it again"):
        read(riff(fmt(), data(), *[each] * 21))


def test_odd_lengths_with_and_without_padding(read):
    eight_bits = (SAMPLES[:301] // 256 + 128).astype(np.uint8)
    expected = (eight_bits.astype(np.int16) - 128) * 256
    first = riff(fmt(bits=8), b"data" + struct.pack("<I", 301) + eight_bits.tobytes())
    for gap in (b"", b"\0"):
        samples, warnings = read(first + gap + riff(fmt(bits=8), data(eight_bits)))
        np.testing.assert_array_equal(samples, np.tile(expected, 2))
        assert warnings == []


@pytest.mark.parametrize("behind", [b"", LIST], ids=["bare", "with a chunk behind"])
def test_lengths_that_have_wrapped_round(tmp_path, behind):
    """4 GiB and more in RIFF: sparse, so that it costs no room."""
    n_bytes = (1 << 32) + 64000
    path = tmp_path / "a.wav"
    with open(path, "wb") as out:
        out.write(riff(fmt(), data(SAMPLES, n_bytes & 0xFFFFFFFF), size=36 + n_bytes & 0xFFFFFFFF))
        out.seek(44 + n_bytes - 8000)
        out.write(SAMPLES.tobytes() + behind)
    with open(path, "rb") as handle:
        found = read_wav_header(HeaderReader(handle, "a.wav"), path.stat().st_size)
    assert found is not None and found.data_bytes == n_bytes
    with open_native(path) as native:
        assert native.duration_s == n_bytes / 16000


@pytest.mark.slow
def test_all_of_4_gib_is_read(tmp_path):
    path = tmp_path / "a.wav"
    with open(path, "wb") as out:
        out.write(riff(fmt(channels=16, rate=48000), data(SAMPLES, 8000), size=8036))
        out.truncate((1 << 32) + 8044)
    with open_native(path, log=False) as native:
        assert sum(map(len, native)) == ((1 << 32) + 8000) // 32
    assert native.warnings == []


@pytest.mark.parametrize("bits", [17, 20, 24])
def test_up_to_24_bits_in_4_bytes(read, bits):
    wide = SAMPLES.astype("<i4") << bits - 16
    for shift in (0, 32 - bits):  # at the low end as ALSA has it, at the high end as Microsoft has
        samples, warnings = read(riff(fmt(bits=bits, align=4), data((wide << shift).astype("<i4"))))
        np.testing.assert_array_equal(samples, SAMPLES)
        assert warnings == []
    without_sign = (wide & (1 << bits) - 1).astype("<i4")  # as some drivers leave it
    samples, warnings = read(riff(fmt(bits=bits, align=4), data(without_sign)))
    np.testing.assert_array_equal(samples, SAMPLES)


def test_24_bits_in_4_bytes_that_change_their_end(read):
    mixed = np.repeat([2**20, 2**28], [100_000, 400_000]).astype("<i4")
    with pytest.raises(Codec2EqError, match="a?: its samples of 24 bits in 4 bytes begin at the l"):
        read(riff(fmt(bits=24, align=4), data(mixed)))


def test_antiphase_stereo_is_warned_of(read):
    both = np.stack([SAMPLES, -SAMPLES], axis=1)
    samples, warnings = read(riff(fmt(channels=2), data(both)))
    assert not samples.any()
    assert len(warnings) == 1 and warnings[0].startswith("its channels cancel each other")
    both[:, 1] = SAMPLES[::-1]
    assert read(riff(fmt(channels=2), data(both)))[1] == []


def test_empty_recordings_are_warned_of(read):
    nothing = data(SAMPLES[:0])
    wide = chunk(b"ds64", struct.pack("<QQQI", 0, 0, 0, 0))
    for content in (
        riff(fmt(), nothing),
        riff(fmt(), nothing, LIST),
        riff(fmt(), nothing, LIST) + b"TAG" + bytes(125),
        riff(wide, fmt(), data(SAMPLES[:0], size=0xFFFFFFFF), LIST, magic=b"RF64"),
    ):
        samples, warnings = read(content)
        assert len(samples) == 0 and warnings == ["holds no samples"]


def rifx(form, *samples):
    """Return a file of big-endian numbers."""
    chunks = [(b"fmt ", struct.pack(">HHIIHH", *form)), *((b"data", data) for data in samples)]
    chunks.append((b"note", b"text"))
    body = b"WAVE" + b"".join(tag + struct.pack(">I", len(data)) + data for tag, data in chunks)
    return b"RIFX" + struct.pack(">I", len(body)) + body


def test_rifx_is_never_noise_or_half_in_silence(tmp_path):
    path = tmp_path / "a.wav"
    big = SAMPLES.astype(">i2").tobytes()
    path.write_bytes(rifx((1, 1, 8000, 16000, 2, 16), big))
    np.testing.assert_array_equal(read_audio(path), SAMPLES)
    path.write_bytes(rifx((1, 1, 8000, 16000, 2, 16), big, big))
    with stream_audio(path, log=False) as stream:
        assert sum(map(len, stream)) >= len(SAMPLES)
    assert "is it two files?" in stream.warnings[0]
    path.write_bytes(rifx((1, 1, 8000, 32000, 4, 24), bytes(4000)))
    with pytest.raises(Codec2EqError, match="RIFX with samples of 24 bits in 4 bytes, .*; convert"):
        read_audio(path)


@pytest.mark.parametrize("sample_format", ["s16", "s24", "f32"])
@pytest.mark.parametrize("channels", [1, 2])
def test_written_and_read_again(tmp_path, sample_format, channels):
    block = (SAMPLES.reshape(-1, channels) / 3).astype(np.float32)
    path = tmp_path / "a.wav"
    with open(path, "wb") as out:
        wav = WavWriter(out, rate=44100, channels=channels, sample_format=sample_format)
        wav.write(block[:100])
        wav.write(block[100:])
        wav.finish()
    with open_native(path) as native:
        assert (native.rate, native.channels) == (44100, channels)
        assert native.sample_format == sample_format
        again = np.concatenate(list(native))
    step = {"s16": 1, "s24": 1 / 256, "f32": 2e-3}[sample_format]
    np.testing.assert_allclose(again, block, rtol=0, atol=step / 2)
    assert soundfile.info(path).frames == len(block)


def test_written_integers_are_clipped(tmp_path):
    for sample_format, top in (("s16", 32767), ("s24", 32768 - 1 / 256)):
        with open(tmp_path / "a.wav", "wb") as out:
            wav = WavWriter(out, rate=8000, sample_format=sample_format)
            wav.write(np.array([40000.0, -40000.0], np.float32))
            wav.finish()
        assert read_audio(tmp_path / "a.wav").tolist() == [top, -32768]


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFEFFFC, 0x80000000, 0xFFFFFFFF, 0xFFFFF000])
@pytest.mark.parametrize("riff_bytes", [0, 36, 0x7FFFF024, 0xFFFFFFFF])
def test_wav_of_unknown_length_is_read_to_its_end(tmp_path, stdin, caplog, size, riff_bytes):
    samples = noise(1000)
    data = wav_bytes(samples, data_bytes=size, riff_bytes=riff_bytes)
    stdin(data)
    np.testing.assert_array_equal(read_audio("-"), samples[:, 0])
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), samples[:, 0])
    assert caplog.records == []


# The header that SoX 14.4.2 writes: sox -n -t wav -r 16000 -b 24 -c 2 - synth 0.01 sine 440
SOX_PIPE_HEADER = bytes.fromhex(
    "5249464644f0ff7f57415645666d742028000000feff0200803e0000007701000600180016001800"
    "030000000100000000001000800000aa00389b716661637404000000aa52551564617461fcefff7f"
)


def test_what_sox_writes_to_a_pipe(tmp_path, stdin):
    left = noise(8000).astype(np.int32) * 256
    samples = np.hstack([left, -left]).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    data = SOX_PIPE_HEADER + samples.tobytes()
    stdin(data)
    np.testing.assert_array_equal(
        read_audio("-", channel=1), to_8khz(noise(8000)[:, 0].astype(np.float32), 16000)
    )
    stdin(data)
    assert not read_audio("-").any()


def test_chunks_around_the_samples(tmp_path, stdin, caplog):
    samples = noise(100)
    data = wav_bytes(
        samples, before=b"LIST" + struct.pack("<I", 5) + b"hello\0", after=b"LIST\2\0\0\0ab"
    )
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), samples[:, 0])
    stdin(data)
    np.testing.assert_array_equal(read_audio("-"), samples[:, 0])
    assert caplog.records == []


def test_rf64_states_its_length_in_a_chunk_of_its_own(stdin):
    samples = noise(100)
    wide = b"ds64" + struct.pack("<IQQQI", 28, 1000, 200, 100, 0)
    stdin(
        wav_bytes(
            samples,
            data_bytes=0xFFFFFFFF,
            riff_bytes=0xFFFFFFFF,
            before=wide,
            after=b"LIST\2\0\0\0ab",
            magic=b"RF64",
        )
    )
    np.testing.assert_array_equal(read_audio("-"), samples[:, 0])
