# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that libsndfile decodes: joined ones in full, cut ones not in silence, nothing printed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from codec2_eq.audio.stream import read_audio, stream_audio
from codec2_eq.errors import Codec2EqError

TONES = [0.4 * np.sin(np.arange(n) * step) for n, step in ((16000, 0.2), (24000, 0.3))]
JOINED = [
    ("OGG", "VORBIS", 8000),
    ("OGG", "OPUS", 8000),
    ("OGG", "OPUS", 48000),
    ("FLAC", "PCM_16", 8000),
    ("MP3", "MPEG_LAYER_III", 8000),
    ("MP3", "MPEG_LAYER_III", 16000),
    ("MP3", "MPEG_LAYER_III", 44100),
]


def encoded(path, tone, kind, subtype, rate=8000, channels=1):
    """Return the bytes of a file of a tone."""
    samples = np.repeat(tone[:, np.newaxis], channels, axis=1)
    soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    return path.read_bytes()


def read(path):
    with stream_audio(path, log=False) as stream:
        blocks = list(stream)
    return np.concatenate([np.empty(0, np.float32), *blocks]), stream.warnings


@pytest.mark.parametrize(("kind", "subtype", "rate"), JOINED)
@pytest.mark.parametrize("channels", [1, 2])
def test_joined_files_are_read_in_full(tmp_path, kind, subtype, rate, channels):
    path = tmp_path / "a.audio"
    parts = [encoded(path, tone, kind, subtype, rate, channels) for tone in TONES]
    lengths = []
    for part in parts:
        path.write_bytes(part)
        lengths.append(len(read(path)[0]))
    path.write_bytes(b"".join(parts) + parts[0])
    samples, warnings = read(path)
    assert len(samples) == pytest.approx(2 * lengths[0] + lengths[1], abs=3)
    assert warnings == []


def test_joined_mp3_with_titles_between(tmp_path):
    path = tmp_path / "a.mp3"
    part = encoded(path, TONES[0], "MP3", "MPEG_LAYER_III")
    title = b"ID3\3\0\0\0\0\1\0" + bytes(128)
    path.write_bytes(title + part + b"TAG" + bytes(125) + title + part)
    samples, warnings = read(path)
    assert len(samples) == 2 * len(TONES[0]) and warnings == []


def test_joined_parts_of_different_rates_are_refused(tmp_path):
    path = tmp_path / "a.ogg"
    parts = [encoded(path, TONES[0], "OGG", "VORBIS", rate) for rate in (8000, 16000)]
    path.write_bytes(b"".join(parts))
    with pytest.raises(Codec2EqError, match=r"after 2\.0 s a recording of another rate .*16000 Hz"):
        read_audio(path)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("W64", "PCM_16"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "GSM610"),
        ("NIST", "PCM_16"),
        ("VOC", "PCM_16"),
        ("SVX", "PCM_16"),
        ("CAF", "PCM_16"),
    ],
)
def test_what_is_cut_is_told(tmp_path, kind, subtype):
    path = tmp_path / "a.audio"
    whole = encoded(path, TONES[1], kind, subtype)
    length = len(read(path)[0])
    assert read(path)[1] == []
    path.write_bytes(whole[: len(whole) * 2 // 3])
    try:
        samples, warnings = read(path)
    except Codec2EqError:
        return  # told as well
    assert len(samples) < length
    assert warnings, f"{kind}: {len(samples)} of {length} in silence"


def test_recordings_of_other_programs_get_the_remedy_that_works(tmp_path):
    for head, kind in (
        (b"\0\0\0\x1cftypM4A \0\0\2\0", "MP4"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "Matroska or WebM"),
        (b"\x30\x26\xb2\x75" + bytes(40), "Windows Media"),
    ):
        path = tmp_path / "a.m4a"
        path.write_bytes(head + bytes(1000))
        with pytest.raises(Codec2EqError) as caught:
            read_audio(path)
        assert f"{path}: is {kind}" in str(caught.value)
        assert caught.value.remedy == (
            f"let ffmpeg decode it: ffmpeg -i '{path}' -f wav - | codec2-eq run - -o OUT"
        )


def test_what_a_decoder_prints_is_one_warning_and_no_data(tmp_path):
    path = tmp_path / "a.mp3"
    damaged = bytearray(encoded(path, TONES[0], "MP3", "MPEG_LAYER_III"))
    damaged[900:1000] = bytes(100)
    damaged[1300] ^= 255
    path.write_bytes(damaged)
    code = "import sys; from codec2_eq.cli import main; sys.exit(main(['extract', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert len(done.stdout) % 80 == 0
    lines = done.stderr.decode().splitlines()
    assert all(line.startswith("codec2-eq: warning: ") for line in lines)
    assert sum("its decoder says" in line for line in lines) == 1


def test_a_decoder_that_prints_to_standard_output(tmp_path):
    """libsndfile prints its notes on damaged files of MIDI samples."""
    path = tmp_path / "a.sds"
    damaged = bytearray(encoded(path, TONES[0], "SDS", "PCM_16"))
    for at in range(21, len(damaged), 127):
        damaged[at + 4 : at + 5] = b"\1"
    path.write_bytes(damaged)
    code = "import sys; from codec2_eq.cli import main; sys.exit(main(['extract', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True)
    assert len(done.stdout) % 80 == 0 and b"block" not in done.stdout
    assert all(line.startswith(b"codec2-eq: ") for line in done.stderr.splitlines())


def test_standard_streams_may_be_closed(tmp_path):
    path = tmp_path / "a.ogg"
    encoded(path, TONES[0], "OGG", "VORBIS")
    code = "from codec2_eq.audio import read_audio; assert len(read_audio('a.ogg')) == 16000"
    command = [sys.executable, "-c", code]
    subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&-', "sh", *command], cwd=tmp_path, check=True, env=os.environ
    )
