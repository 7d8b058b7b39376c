# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several recordings in one file, titles and damage: what libsndfile passes over in silence."""

import struct

import numpy as np
import pytest
import soundfile
from test_decoded import TONES, encoded, read

from codec2_eq.audio.flac import _FRAME_SUM, _HEAD_SUM, _remainder
from codec2_eq.audio.stream import read_audio
from codec2_eq.errors import Codec2EqError

JOINED = [
    ("OGG", "VORBIS", 8000),
    ("OGG", "OPUS", 8000),
    ("OGG", "OPUS", 48000),
    ("FLAC", "PCM_16", 8000),
    ("MP3", "MPEG_LAYER_III", 8000),
    ("MP3", "MPEG_LAYER_III", 16000),
    ("MP3", "MPEG_LAYER_III", 44100),
]


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


def mpeg_frames(content):
    """Return the frames of MP3 of 16 kHz, mono, as soundfile writes them."""
    kbps = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    frames = []
    while content:
        n_bytes = 72 * kbps[content[2] >> 4] * 1000 // 16000 + (content[2] >> 1 & 1)
        frames.append(content[:n_bytes])
        content = content[n_bytes:]
    return frames


def test_mp3_whose_length_is_not_stated_or_wrong(tmp_path):
    """libsndfile guesses the length by the first frame, and reads no more than that."""
    path = tmp_path / "a.mp3"
    noise = np.random.default_rng(5).normal(0, 0.2, len(TONES[1]))
    tone = np.concatenate([noise, 0.01 * TONES[1]])  # later frames are smaller
    whole = encoded(path, tone, "MP3", "MPEG_LAYER_III", 16000)
    expected, _ = read(path)
    first, *frames = mpeg_frames(whole)
    at = first.index(b"Info") if b"Info" in first else first.index(b"Xing")
    titles = b"VBRI" + struct.pack(">HHHII", 1, 0, 0, 0, len(frames))
    vbri = (frames[0][:4] + bytes(32) + titles).ljust(len(frames[0]), b"\0")
    for number, head in enumerate(
        [b"", vbri] + [first[: at + 8] + struct.pack(">I", n) + first[at + 12 :] for n in (0, 1, 9)]
    ):
        path.write_bytes(head + b"".join(frames))
        samples, warnings = read(path)
        assert warnings == [], number
        assert len(expected) <= len(samples) < len(expected) + 1200, number
        path.write_bytes((head + b"".join(frames)) * 2)
        assert len(read(path)[0]) >= 2 * len(expected), number


def test_mp3_cut_before_another_one(tmp_path):
    path = tmp_path / "a.mp3"
    whole = encoded(path, TONES[1], "MP3", "MPEG_LAYER_III", 16000)
    length = len(read(path)[0])
    path.write_bytes(whole[:-70] + whole)
    samples, warnings = read(path)
    assert warnings[0] == "is cut; processed as far as it goes"
    assert length < 2 * length - 600 < len(samples) < 2 * length


@pytest.mark.parametrize("other", [(24000, 1), (16000, 2)])
def test_mp3_that_changes_is_refused(tmp_path, other):
    path = tmp_path / "a.mp3"
    parts = [
        encoded(path, TONES[0], "MP3", "MPEG_LAYER_III", rate, channels)
        for rate, channels in ((16000, 1), other)
    ]
    plain = b"".join(mpeg_frames(parts[0])[1:])  # without a frame that states a length
    path.write_bytes(plain + parts[1])
    with pytest.raises(Codec2EqError, match="a recording of another rate or number of channels"):
        read_audio(path)


def test_mp3_with_titles_of_apes(tmp_path):
    path = tmp_path / "a.mp3"
    whole = encoded(path, TONES[0], "MP3", "MPEG_LAYER_III")
    foot = b"APETAGEX" + struct.pack("<IIII", 2000, 132, 1, 0x80000000) + bytes(8)
    head = foot[:20] + struct.pack("<I", 0xA0000000) + bytes(8)
    for title in (head + bytes(100) + foot, bytes(100) + foot):
        path.write_bytes(whole + title + whole + title + b"TAG" + bytes(125))
        samples, warnings = read(path)
        assert len(samples) == 2 * len(TONES[0]) and warnings == []


def test_mp3_with_another_format_behind(tmp_path):
    path = tmp_path / "a.mp3"
    noise = np.random.default_rng(6).normal(0, 0.2, 16000)
    flac = encoded(path, noise, "FLAC", "PCM_16")
    path.write_bytes(encoded(path, TONES[0], "MP3", "MPEG_LAYER_III") + flac)
    samples, warnings = read(path)
    assert len(samples) == len(TONES[0])
    assert warnings == [f"holds {len(flac)} bytes that are not MPEG audio, skipped"]


ID3 = b"ID3\3\0\0\0\0\1\0" + bytes(128)
ID3_OLD = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0x80000000) + bytes(8)
APE = APE[:20] + struct.pack("<I", 0xA0000000) + bytes(8) + APE


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (ID3, b""),
        (b"", ID3),
        (b"", ID3_OLD),
        (b"", APE),
        (b"", ID3 + APE),
        (ID3 * 2, APE + ID3_OLD),
    ],
)
@pytest.mark.parametrize("bare", [False, True], ids=["with blocks", "without"])
def test_flac_with_titles(tmp_path, before, behind, bare):
    path = tmp_path / "a.flac"
    samples = (TONES[0] * 20000).astype(np.int16)
    soundfile.write(path, samples, 8000, format="FLAC")
    whole = path.read_bytes()
    if bare:  # only the block that each file must have, marked as the last
        at = 42
        while not whole[at] & 0x80:
            at += 4 + int.from_bytes(whole[at + 1 : at + 4], "big")
        at += 4 + int.from_bytes(whole[at + 1 : at + 4], "big")
        whole = b"fLaC\x80" + whole[5:42] + whole[at:]
    for times in (1, 3):
        path.write_bytes((before + whole + behind) * times)
        found, warnings = read(path)
        np.testing.assert_array_equal(found, np.tile(samples, times))
        assert warnings == []


STATES_TOO_LITTLE = "holds more samples than its header states; all are read"


def stating(flac, n_samples):
    """Return a FLAC file with another length in its header."""
    return flac[:22] + n_samples.to_bytes(4, "big") + flac[26:]


@pytest.mark.parametrize("stated", [1, 40000, 77824, 79000, 79999])
@pytest.mark.parametrize("silent", [0, 3000])
@pytest.mark.parametrize("behind", [b"", APE + ID3_OLD])
def test_flac_that_holds_more_than_it_states(tmp_path, stated, silent, behind):
    path = tmp_path / "a.flac"
    samples = np.random.default_rng(7).integers(-9000, 9000, 80000).astype(np.int16)
    samples[len(samples) - silent :] = 0  # the last frame is then very short
    soundfile.write(path, samples, 8000, format="FLAC")
    short = stating(path.read_bytes(), stated)
    for times in (1, 2):
        path.write_bytes((short + behind) * times)
        found, warnings = read(path)
        np.testing.assert_array_equal(found, np.tile(samples, times))
        assert warnings == [STATES_TOO_LITTLE]


def test_flac_of_blocks_of_various_lengths(tmp_path):
    def with_sum(data, polynomial, n_bytes):
        return data + _remainder(data, polynomial).to_bytes(n_bytes, "big")

    lengths, whole, at = (4096, 70000 - 65536, 300, 17), b"", 0
    for value, n_block in enumerate(lengths):
        head = b"\xff\xf9\x70\x08" + chr(at).encode() + (n_block - 1).to_bytes(2, "big")
        constant = bytes((0, 0, value + 5))
        whole += with_sum(with_sum(head, _HEAD_SUM, 1) + constant, _FRAME_SUM, 2)
        at += n_block
    facts = (8000 << 44 | 15 << 36 | at).to_bytes(8, "big")
    sizes = struct.pack(">HH", 17, 4464) + bytes(6)
    whole = b"fLaC\x80\0\0\x22" + sizes + facts + bytes(16) + whole
    path = tmp_path / "a.flac"
    for stated in (at, at - 1, at - 500, 1):
        path.write_bytes(stating(whole, stated))
        found, warnings = read(path)
        np.testing.assert_array_equal(found, np.repeat([5, 6, 7, 8], lengths))
        assert warnings == [STATES_TOO_LITTLE] * (stated < at)


def test_flac_that_states_too_little_and_is_damaged(tmp_path):
    """Where its end is unknown, what is left out is told if it is more than libFLAC reads ahead."""
    path = tmp_path / "a.flac"
    samples = np.random.default_rng(7).integers(-9000, 9000, 80000).astype(np.int16)
    soundfile.write(path, samples, 8000, format="FLAC")
    path.write_bytes(stating(path.read_bytes(), 40000)[:-9])
    found, warnings = read(path)
    np.testing.assert_array_equal(found, samples[:40000])
    assert len(warnings) == 1 and "bytes and more after the end stated in its header" in warnings[0]


@pytest.mark.parametrize(
    ("kind", "subtype", "name", "order"),
    [
        ("WAV", "IMA_ADPCM", b"data", "<I"),
        ("WAV", "GSM610", b"data", "<I"),
        ("AIFF", "PCM_16", b"SSND", ">I"),
    ],
)
def test_samples_beyond_what_chunks_state(tmp_path, kind, subtype, name, order):
    path = tmp_path / "a.audio"
    whole = encoded(path, TONES[0], kind, subtype)
    at = whole.index(name) + 4
    for size in (8, 1040):
        path.write_bytes(whole[:at] + struct.pack(order, size) + whole[at + 4 :])
        assert "after the end stated in its header" in read(path)[1][0]


def test_aiff_of_pipes(tmp_path):
    path = tmp_path / "a.aiff"
    whole = encoded(path, TONES[0], "AIFF", "PCM_16")
    at = whole.index(b"SSND") + 4
    for size in (b"\0" * 4, b"\xff" * 4, b"\x7f\0\0\x08"):  # sox writes the last one
        path.write_bytes(whole[:4] + size + whole[8:at] + size + whole[at + 4 :])
        samples, warnings = read(path)
        assert len(samples) == len(TONES[0]) and warnings == []


def test_joined_parts_of_different_rates_are_refused(tmp_path):
    path = tmp_path / "a.ogg"
    parts = [encoded(path, TONES[0], "OGG", "VORBIS", rate) for rate in (8000, 16000)]
    path.write_bytes(b"".join(parts))
    with pytest.raises(Codec2EqError, match=r"after 2\.0 s a recording of another rate .*16000 Hz"):
        read_audio(path)


def ogg_sum(page):
    """Return the sum of a page, bit by bit as RFC 3533 has it."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if crc >> 31 else 0)
    return crc


def ogg_page(body, serial, number, flags):
    """Return a page of Ogg."""
    lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
    head = struct.pack("<4sBBqII", b"OggS", 0, flags, 0, serial, number)
    rest = bytes([len(lacing)]) + lacing + body
    return head + struct.pack("<I", ogg_sum(head + bytes(4) + rest)) + rest


def ogg_pages(content):
    """Return the pages of a file."""
    starts = [at for at in range(len(content)) if content[at : at + 5] == b"OggS\0"]
    return [content[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_that_lacks_something_is_warned_of(tmp_path, subtype):
    """Decoders pass over what is missing in silence."""
    path = tmp_path / "a.ogg"
    noise = np.random.default_rng(8).normal(0, 0.2, 24000)
    whole = encoded(path, noise, "OGG", subtype)
    length = len(read(path)[0])
    pages = ogg_pages(whole)
    assert b"".join(pages) == whole and len(pages) > 4
    damaged = bytes([pages[-2][-1] ^ 1])
    without_end = whole[:-30]
    for content, told in [
        (b"".join(pages[:-2] + pages[-1:]), "lacks pages in the middle"),
        (b"".join(pages[:-2]) + pages[-2][:-1] + damaged + pages[-1], "has damaged pages"),
        (b"".join(pages[:-2] + pages[-1:]) + whole, "lacks pages in the middle"),
        (b"".join(pages[:-1]) + whole, "has no end mark"),
        (without_end + whole, "has damaged pages"),
    ]:
        path.write_bytes(content)
        samples, warnings = read(path)
        assert told in warnings[0]
        if content.endswith(whole):
            assert len(samples) > length  # the second recording is whole


def test_streams_side_by_side_are_warned_of(tmp_path):
    path = tmp_path / "a.ogg"
    first = ogg_pages(encoded(path, TONES[0], "OGG", "VORBIS"))
    second = ogg_page(b"OpusHead" + bytes(11), 77, 0, 2)
    end = ogg_page(b"", 77, 1, 4)
    path.write_bytes(b"".join([first[0], second, *first[1:], end]))
    samples, warnings = read(path)
    assert len(samples) == len(TONES[0])
    assert warnings == ["holds several streams at once, of which only one is read"]


def test_more_pages_than_any_file_has_are_refused(tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(b"OggS\0" * 100_002)
    with pytest.raises(Codec2EqError, match="damaged pages or beginnings of recordings; repair it"):
        read_audio(path)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("less", [False, True])
def test_flac_in_ogg(tmp_path, parts, less):
    path = tmp_path / "a.oga"
    samples = (TONES[0] * 20000).astype(np.int16)
    soundfile.write(path, samples, 8000, format="FLAC")
    flac = stating(path.read_bytes(), len(samples) - 500 * less)
    pages = [flac[at : at + 9000] for at in range(42, len(flac), 9000)]
    content = b""
    for serial in range(parts):
        content += ogg_page(b"\x7fFLAC\1\0\0\1" + flac[:42], serial, 0, 2)
        for number, body in enumerate(pages):
            content += ogg_page(body, serial, number + 1, 4 * (number == len(pages) - 1))
    path.write_bytes(content)
    found, warnings = read(path)
    np.testing.assert_array_equal(found, np.tile(samples, parts))
    assert warnings == [STATES_TOO_LITTLE] * less
    path.write_bytes(content[:-500])
    try:
        assert "is cut within its last page" in read(path)[1][0]
    except Codec2EqError as error:
        assert "cut or damaged" in str(error)


def test_mp3_of_too_little(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(encoded(path, TONES[0], "MP3", "MPEG_LAYER_III")[:20])
    with pytest.raises(Codec2EqError, match="no frame of MPEG audio that can be decoded"):
        read_audio(path)
