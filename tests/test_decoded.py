# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that libsndfile decodes: cut ones not in silence, nothing printed."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from wav_files import noise

from codec2_eq.audio import window
from codec2_eq.audio.stream import read_audio, stream_audio
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract_file

TONES = [0.4 * np.sin(np.arange(n) * step) for n, step in ((16000, 0.2), (24000, 0.3))]


def encoded(path, tone, kind, subtype, rate=8000, channels=1):
    """Return the bytes of a file of a tone."""
    samples = np.repeat(tone[:, np.newaxis], channels, axis=1)
    soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    return path.read_bytes()


def read(path):
    with stream_audio(path, log=False) as stream:
        blocks = list(stream)
    return np.concatenate([np.empty(0, np.float32), *blocks]), stream.warnings


def kinds(text):
    """Return formats and encodings of soundfile, (kind, subtype)."""
    return [tuple(each.split("/")) for each in text.split()]


WITH_LENGTH = kinds(
    "OGG/VORBIS OGG/OPUS MP3/MPEG_LAYER_III FLAC/PCM_16 AIFF/PCM_16 AIFF/ALAW AU/PCM_16 "
    "W64/PCM_16 AVR/PCM_16 WAV/IMA_ADPCM WAV/GSM610 RF64/PCM_16 NIST/PCM_16 NIST/ULAW "
    "VOC/PCM_16 SVX/PCM_16 CAF/PCM_16 CAF/ALAC_16 MAT4/FLOAT MAT5/PCM_U8 MPC2K/PCM_16 "
    "WVE/ALAW HTK/PCM_16 SDS/PCM_16 SDS/PCM_24"
)
WITHOUT_LENGTH = kinds("PAF/PCM_16 PAF/PCM_24 PVF/PCM_16 IRCAM/FLOAT XI/DPCM_16")


@pytest.mark.parametrize(("kind", "subtype"), WITH_LENGTH + WITHOUT_LENGTH)
def test_what_is_cut_is_warned_of(tmp_path, kind, subtype):
    path = tmp_path / "a.audio"
    whole = encoded(path, 0.4 * TONES[1][:-1], kind, subtype)
    length = len(read(path)[0])
    assert read(path)[1] == (
        ["states no length, so a cut end would go unnoticed"]
        if (kind, subtype) in WITHOUT_LENGTH
        else []
    )
    for end in (len(whole) * 2 // 3, len(whole) - 2, len(whole) // 2 + 1):
        path.write_bytes(whole[:end])
        try:
            samples, warnings = read(path)
        except Codec2EqError:
            continue  # told as well
        assert warnings or len(samples) == length, f"{len(samples)} of {length} in silence"


@pytest.mark.parametrize(
    ("kind", "subtype"), [k for k in WITH_LENGTH if k[0] not in ("FLAC", "HTK", "RF64")]
)
def test_what_is_behind_the_end_is_warned_of(tmp_path, kind, subtype):
    path = tmp_path / "a.audio"
    whole = encoded(path, TONES[0], kind, subtype)
    path.write_bytes(whole + b"\1\2\3\4" * 800)
    try:
        warnings = read(path)[1]
    except Codec2EqError:
        return
    assert len(warnings) == 1 and ("skipped" in warnings[0] or "after the end" in warnings[0])


def test_samples_in_many_blocks_are_refused(tmp_path):
    """Creative Voice Files: libsndfile would read the heads of the blocks as samples."""
    path = tmp_path / "a.voc"
    whole = encoded(path, TONES[0], "VOC", "PCM_16")
    block = b"\2" + (2000).to_bytes(3, "little") + bytes(2000)
    path.write_bytes(whole[:-1] + block + block + b"\0")
    with pytest.raises(Codec2EqError, match="of 3 blocks, only files of one block can be read"):
        read_audio(path)


@pytest.mark.parametrize(
    "content",
    [b"fLaC" + bytes(500), b"\xf0\x7e\0\1\0\0\x10\0\0\0\0", b"2BIT" + bytes(20)]
    + [b"Extended Instrument: " + bytes(275) + b"\xff\xff", b"MATLAB 5.0" + bytes(118)],
)
def test_what_only_begins_like_audio_is_refused(tmp_path, content):
    path = tmp_path / "a.audio"
    path.write_bytes(content)
    with pytest.raises(Codec2EqError, match="not audio that libsndfile reads"):
        read_audio(path)


@pytest.mark.parametrize(("kind", "at", "n_bytes"), [("AU", 8, 4), ("W64", 16, 8)])
def test_an_unknown_length_is_warned_of(tmp_path, kind, at, n_bytes):
    """As programs leave it that write to a pipe."""
    path = tmp_path / "a.audio"
    whole = encoded(path, TONES[0], kind, "PCM_16")
    path.write_bytes(whole[:at] + b"\xff" * n_bytes + whole[at + n_bytes :])
    samples, warnings = read(path)
    assert len(samples) == len(TONES[0])
    assert warnings == ["states no length, so a cut end would go unnoticed"]


def test_a_file_that_shrinks_while_it_is_looked_through(tmp_path, monkeypatch):
    """It is read, not mapped: no signal ends the process."""
    path = tmp_path / "a.mp3"
    whole = encoded(path, TONES[1], "MP3", "MPEG_LAYER_III")
    path.write_bytes(whole * 20)
    with open(path, "r+b") as handle:
        monkeypatch.setattr(window, "_WINDOW_BYTES", 4096)
        data = window.FileWindow(handle.fileno())
        assert data[4096:4100] == (whole * 20)[4096:4100]
        handle.truncate(len(whole))
        assert data[8 * len(whole) : 9 * len(whole)] == b"" and len(data) <= 8 * len(whole)
        assert data.search(re.compile(b"nowhere"), 0) == len(data) == len(whole)


def test_windows_find_what_lies_across_them(tmp_path, monkeypatch):
    monkeypatch.setattr(window, "_WINDOW_BYTES", 16)
    content = np.random.default_rng(5).integers(0, 4, 400, np.uint8).tobytes()
    path = tmp_path / "a"
    path.write_bytes(content)
    with open(path, "rb") as handle:
        data = window.FileWindow(handle.fileno())
        for start in range(0, 400, 7):
            for sought in (b"\1\2\3", b"\0", bytes(9)):
                found = content.find(sought, start)
                assert data.search(re.compile(sought), start) == (found if found >= 0 else 400)
            assert data[start : start + 30] == content[start : start + 30]


def test_recordings_of_other_programs_get_the_remedy_that_works(tmp_path):
    for head, kind in (
        (b"\0\0\0\x1cftypM4A \0\0\2\0", "MP4"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "Matroska or WebM"),
        (b"\x30\x26\xb2\x75" + bytes(40), "Windows Media"),
        (b"\xff\xf1\x50\x80" + bytes(40), "AAC"),
        (b"wvpk" + bytes(40), "WavPack"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(40), "AVI"),
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


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"),
        ("AIFF", "FLOAT"),
        ("CAF", "ALAC_16"),
        ("W64", "PCM_16"),
        ("AU", "ULAW"),
        ("NIST", "PCM_16"),
        ("VOC", "PCM_16"),
    ],
)
def test_other_formats_from_files_and_pipes(tmp_path, stdin, kind, subtype):
    path = tmp_path / "a.audio"
    tone = 0.5 * np.sin(np.arange(16000) * 0.3)
    soundfile.write(path, tone, 8000, format=kind, subtype=subtype)
    expected = soundfile.read(path, dtype="float32")[0] * np.float32(32768)
    read = read_audio(path)
    # A float32 of full scale has steps of 0.002; the decoders of MP3 round as they please.
    np.testing.assert_allclose(read, expected, rtol=0, atol=0.05 if kind == "MP3" else 0)
    stdin(path.read_bytes())
    np.testing.assert_array_equal(read_audio("-"), read)
    short = np.concatenate(list(stream_audio(path, block_s=0.0131)))
    np.testing.assert_array_equal(short, read)


def test_cut_flac_is_refused(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(80000), 8000)
    path.write_bytes(path.read_bytes()[:120000])
    with pytest.raises(Codec2EqError, match=r"a\.flac: cannot be decoded between 5\.1 and 10\.2 s"):
        read_audio(path)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")]
)
def test_other_cut_files_are_processed_as_far_as_they_go(tmp_path, kind, subtype):
    path = tmp_path / "a.audio"
    soundfile.write(path, noise(80000), 8000, format=kind, subtype=subtype)
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    part = read_audio(path)
    assert 0.3 < len(part) / len(whole) < 0.7
    # The last frames before the cut may be decoded in another way.
    np.testing.assert_array_equal(part[:-3000], whole[: len(part) - 3000])


def test_a_flac_that_states_no_length(tmp_path, speech, caplog):
    """As one made on a pipe: libsndfile then reports the largest number there is."""
    path = tmp_path / "a.flac"
    soundfile.write(path, speech, 8000)
    data = bytearray(path.read_bytes())
    assert data[:4] == b"fLaC" and data[4] & 127 == 0  # STREAMINFO is the first block
    data[21] &= 0xF0  # 36 bits of length
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with stream_audio(path) as audio:
        assert audio.duration_s is None
        assert sum(map(len, audio)) == len(speech)
    assert not caplog.messages


def test_no_room_to_spool(stdin, monkeypatch, tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(100000), 8000)
    stdin((tmp_path / "a.flac").read_bytes())
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: open("/dev/full", "w+b", buffering=0))
    with pytest.raises(
        Codec2EqError, match=r"^stdin: cannot be stored in .*: No space left .*TMPD"
    ):
        read_audio("-")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_names_that_are_not_utf8(tmp_path, speech, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", speech, 8000)
    wanted = extract_file(tmp_path / f"a.{suffix}").vectors
    named = os.path.join(os.fsencode(tmp_path), b"\xfe\xff." + suffix.encode())
    os.rename(tmp_path / f"a.{suffix}", named)
    np.testing.assert_array_equal(extract_file(os.fsdecode(named)).vectors, wanted)
