# SPDX-License-Identifier: LGPL-2.1-or-later
"""scripts/speech_conversion.py: any format of a package to WAV, and what is left out."""

import numpy as np
import pytest
import soundfile as sf
from conftest import load_script
from packaged_speech import source_of, tone, write

from codec2_eq.bench.speech import ManifestEntry

conversion = load_script("scripts/speech_conversion.py")


# Decoding -------------------------------------------------------------------------------------


def test_decode_int16_wav_is_exact(tmp_path):
    samples = tone(1)
    decoded, rate_hz = conversion.decode(write(tmp_path, "a.wav", samples, 11025))
    assert rate_hz == 11025
    assert decoded.dtype == np.int16
    np.testing.assert_array_equal(decoded, samples)


def test_decode_raw_ignores_half_a_sample(tmp_path):
    path = write(tmp_path, "a.raw", tone(2))
    with open(path, "ab") as out:
        out.write(b"\x01")
    decoded, rate_hz = conversion.decode(path)
    assert rate_hz == 8000
    np.testing.assert_array_equal(decoded, tone(2))


def test_decode_als_skips_its_head_and_centres(tmp_path):
    path = tmp_path / "7.ALS"
    path.write_bytes(b"\xff" * 32 + bytes([0, 128, 255]))
    decoded, rate_hz = conversion.decode(path)
    assert rate_hz == 11025
    np.testing.assert_array_equal(decoded, [-32768, 0, 127 * 256])


def test_decode_headerless_gsm(tmp_path):
    t = np.arange(1600) / 8000
    wave = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    path = write(tmp_path, "a.gsm", wave, format="RAW", subtype="GSM610")
    decoded, rate_hz = conversion.decode(path)
    assert rate_hz == 8000
    assert len(decoded) == len(wave)
    spectrum = np.abs(np.fft.rfft(decoded.astype(float)))
    assert np.argmax(spectrum) * 8000 / len(decoded) == 440


def test_decode_mixes_channels_without_wrapping(tmp_path):
    stereo = np.array([[32767, 32767], [1000, 3000], [-32768, -32768]], np.int16)
    decoded, _ = conversion.decode(write(tmp_path, "a.wav", stereo))
    np.testing.assert_array_equal(decoded, [32767, 2000, -32768])


def test_decode_clips_lossy_overshoot(tmp_path):
    square = np.where(np.arange(8000) // 20 % 2, 0.999, -0.999)
    decoded, _ = conversion.decode(write(tmp_path, "a.ogg", square, format="OGG", subtype="VORBIS"))
    assert np.sign(decoded[4010]) == np.sign(square[4010])
    assert decoded.max() == 32767


def test_decode_names_a_broken_file(tmp_path):
    path = tmp_path / "broken.ogg"
    path.write_bytes(b"no sound at all")
    with pytest.raises(conversion.FetchError, match=r"^broken\.ogg: cannot be decoded"):
        conversion.decode(path)


# Packages -------------------------------------------------------------------------------------


@pytest.fixture
def klettres(tmp_path):
    """Lay out an unpacked klettres-data: speech of three sides, copies, silence and rubbish."""
    root = tmp_path / "root"
    base = "usr/share/klettres"
    flac = {"format": "FLAC", "subtype": "PCM_16"}  # lossless, so that copies stay equal
    write(root, f"{base}/hu/alpha/a.ogg", tone(1), **flac)
    write(root, f"{base}/hu/alpha/b.ogg", tone(1), **flac)
    write(root, f"{base}/hu/alpha/c.ogg", np.zeros(800, np.int16), **flac)
    write(root, f"{base}/hu/alpha/d.ogg", tone(2, rate_hz=4000), 4000, **flac)
    write(root, f"{base}/hu/alpha/stolen.ogg", tone(4), **flac)
    write(root, f"{base}/da/alpha/a.ogg", tone(3), **flac)
    write(root, f"{base}/fr/alpha/a.ogg", tone(4), **flac)
    write(root, f"{base}/hu/pic.png.wav", tone(5))
    (root / base / "hu/alpha/e.ogg").write_bytes(b"rubbish")
    return root


def test_convert_package(klettres, tmp_path):
    out = tmp_path / "out"
    converted = conversion.convert_package(source_of("klettres-data"), "1.2-3", klettres, out)
    by_path = {r["path"]: r for r in converted.records if r["path"]}
    assert set(by_path) == {"hu/alpha/a.wav", "da/alpha/a.wav"}
    assert all(set(r) == set(ManifestEntry.__annotations__) for r in converted.records)
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.wav")) == sorted(by_path)
    samples, rate_hz = sf.read(out / "hu/alpha/a.wav", dtype="int16")
    np.testing.assert_array_equal(samples, tone(1))
    assert by_path["hu/alpha/a.wav"] == {
        "path": "hu/alpha/a.wav",
        "package": "klettres-data",
        "version": "1.2-3",
        "source": "usr/share/klettres/hu/alpha/a.ogg",
        "use": "train",
        "speaker": "klettres-hu",
        "language": "hu",
        "licence": "GPL-2+",
        "single_speaker": True,
        "duration": 0.1,
        "rate": rate_hz,
        "sha256": conversion.hash_samples(tone(1)),
        "text": "",
    }
    assert dict(converted.left_out) == {
        "copies": 2,
        "silent": 1,
        "below 8000 Hz": 1,
        "reserved": 1,
        "undecodable": 1,
    }


def test_the_text_beside_an_english_stamp_is_kept(tmp_path):
    folder = tmp_path / "usr/share/tuxpaint/stamps/animals"
    folder.mkdir(parents=True)
    tone = np.sin(np.arange(8000)).astype(np.float32) / 2
    for name, gain in (("frog_desc", 1.0), ("frog_desc_lt", 0.5), ("newt_desc", 0.25)):
        sf.write(folder / f"{name}.ogg", gain * tone, 8000)
    (folder / "frog.txt").write_text("A frog.\nlt.utf8=Varlė.\n", encoding="utf-8")
    source = source_of("tuxpaint-stamps-default")
    records = conversion.convert_package(source, "1", tmp_path, tmp_path / "out").records
    texts = {str(record["path"]): record["text"] for record in records}
    assert texts == {"frog_desc.wav": "A frog.", "frog_desc_lt.wav": "", "newt_desc.wav": ""}


def test_two_files_of_one_name_are_an_error(tmp_path):
    write(tmp_path / "root", "usr/share/codec2/raw/hts1.raw", tone(1))
    write(tmp_path / "root", "usr/share/codec2/raw/hts1.wav", tone(2))
    with pytest.raises(conversion.FetchError, match="two files of the package"):
        conversion.convert_package(
            source_of("codec2-examples"), "1", tmp_path / "root", tmp_path / "out"
        )
