# SPDX-License-Identifier: LGPL-2.1-or-later
import numpy as np
import pytest
import soundfile

from codec2_eq.bench import shaping
from codec2_eq.errors import Codec2EqError

FREQS = np.array([100.0, 200, 400, 800, 1000, 1600, 3200])
TOL_DB = 0.05  # of a realised filter against its curve: the cepstrum's aliasing


@pytest.mark.parametrize("slope", [-6, -3, 3, 6])
def test_tilt_has_its_slope(slope):
    gain = shaping.load_shaping(f"tilt{slope:+d}").gain_db(FREQS)
    np.testing.assert_allclose(gain, slope * np.log2(FREQS / 1000), atol=TOL_DB)


def test_handset_is_the_table_of_p48():
    inside = np.array(shaping.P48_SEND_HZ[1:-1], float)
    gain = shaping.load_shaping("handset").gain_db(inside)
    np.testing.assert_allclose(gain, shaping.P48_SEND_DB[1:-1], atol=0.2)  # 1024 taps at 125 Hz


@pytest.mark.parametrize("name", shaping.SHAPINGS)
def test_every_filter_follows_its_curve_at_the_bands(name):
    bands = 700 * (10 ** (np.linspace(283, 2072, 20) / 2595) - 1)
    wanted = shaping.CURVES[name](bands)
    np.testing.assert_allclose(shaping.load_shaping(name).gain_db(bands), wanted, atol=TOL_DB)


def test_the_bench_has_at_least_twelve_filters_that_differ():
    gains = [shaping.load_shaping(name).gain_db(FREQS) for name in shaping.SHAPINGS]
    assert len(gains) >= 12
    gains = np.array(gains) - np.mean(gains, axis=1, keepdims=True)
    for i, gain in enumerate(gains):
        others = np.delete(gains, i, axis=0)
        assert np.square(others - gain).mean(axis=1).min() > 0.5


@pytest.mark.parametrize(
    ("curve", "low", "high"),
    [
        (shaping.high_pass(400), -24.1, 0),
        (shaping.low_pass(2000), 0, -8.8),
        (shaping.shelf(500, 10, high=False), 9.6, 0.2),
        (shaping.shelf(500, -8, high=True), -0.3, -7.8),
        (shaping.bell(100, 12, 1), 12, 0),
    ],
)
def test_curves_reach_their_gains(curve, low, high):
    np.testing.assert_allclose(curve(np.array([100.0, 3200.0])), [low, high], atol=0.15)


def test_a_seed_is_a_microphone():
    first, again, other = (shaping.load_shaping(n).taps for n in ("mic7", "mic7", "mic8"))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_minimum_phase_keeps_frames_in_place():
    taps = shaping.load_shaping("boom").taps
    energy = np.cumsum(taps**2) / np.sum(taps**2)
    assert energy[40] > 0.9  # 5 ms of a frame of 40


def test_level_stays_and_int16_does_not_clip():
    rng = np.random.default_rng(0)
    speech = (rng.standard_normal(8000) * 3000).astype(np.float32)
    before = speech.copy()
    shaped = shaping.load_shaping("tilt-6")(speech)
    np.testing.assert_array_equal(speech, before)
    assert shaped.dtype == np.float32
    assert np.sqrt(np.mean(shaped**2.0)) == pytest.approx(np.sqrt(np.mean(speech**2.0)), rel=1e-4)
    loud = shaping.load_shaping("tilt-6")(speech * 4)
    assert np.abs(loud).max() <= 32767


def test_silence_and_nothing_stay():
    boom = shaping.load_shaping("boom")
    assert boom(np.zeros(0, np.float32)).shape == (0,)
    assert not boom(np.zeros(800, np.float32)).any()


def test_impulse_response_from_a_file(tmp_path):
    wanted = shaping.load_shaping("scoop")
    late = np.concatenate([np.zeros(300), wanted.taps])
    soundfile.write(tmp_path / "room.wav", late / 4, 8000, subtype="FLOAT")
    room = shaping.load_shaping(str(tmp_path / "room.wav"))
    assert room.name == "room"
    difference = room.gain_db(FREQS) - wanted.gain_db(FREQS)
    np.testing.assert_allclose(difference, difference[0], atol=0.1)
    assert np.argmax(np.abs(room.taps)) < 20


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_impulse_responses_of_any_rate(tmp_path, rate):
    """A one-pole low pass, sampled at two rates: 0 dB at the bottom, 3 dB less at its corner."""

    def response(rate):
        return np.exp(-2 * np.pi * 700 * np.arange(rate // 10) / rate) / rate

    rooms = []
    for name, at in (("own", 8000), ("other", rate)):
        soundfile.write(tmp_path / f"{name}.wav", response(at) * 4000, at, subtype="DOUBLE")
        rooms.append(shaping.load_shaping(str(tmp_path / f"{name}.wav")).gain_db(FREQS[:4]))
    assert rooms[1][0] - rooms[1][3] == pytest.approx(10 * np.log10(1 + (8 / 7) ** 2), abs=0.3)
    np.testing.assert_allclose(rooms[1] - rooms[1][0], rooms[0] - rooms[0][0], atol=0.5)


def test_one_sample_is_an_impulse_response(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.ones(1), 48000, subtype="FLOAT")
    gain = shaping.load_shaping(str(tmp_path / "one.wav")).gain_db(FREQS)
    np.testing.assert_allclose(gain, gain[0], atol=0.6)  # of the resampler's ringing a part is cut


def test_filters_of_one_name_are_told_apart(tmp_path):
    for name in ("a/room", "b/room", "boom", "own", "tilt+6"):
        path = tmp_path / f"{name}{'' if name == 'tilt+6' else '.wav'}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.eye(1, 50)[0], 8000, format="WAV", subtype="FLOAT")
    listed = ["a/room.wav", "b/room.wav", "boom", "boom.wav", "own.wav", "tilt+6", "./tilt+6"]
    (tmp_path / "list.txt").write_text("\n".join(listed))
    found = {s.name: s for s in shaping.read_shapings(tmp_path / "list.txt")}
    assert list(found) == [*listed[:4], "own", *listed[5:]]
    for name, shape in found.items():
        flat = np.ptp(shape.gain_db(FREQS)) < 0.1
        assert flat == (name not in ("boom", "tilt+6")), name


def test_a_filter_listed_twice_is_an_error(tmp_path):
    (tmp_path / "list.txt").write_text("boom\nmic3\nboom # again\n")
    with pytest.raises(Codec2EqError, match=r"list\.txt: names boom twice"):
        shaping.read_shapings(tmp_path / "list.txt")


def test_list_of_shapings(tmp_path):
    soundfile.write(tmp_path / "ir.wav", np.eye(1, 50)[0], 8000, subtype="FLOAT")
    (tmp_path / "list.txt").write_text("boom # a comment\n\nir.wav\nmic9\n")
    assert [s.name for s in shaping.read_shapings(tmp_path / "list.txt")] == ["boom", "ir", "mic9"]


@pytest.mark.parametrize("content", [b"", b"not audio"])
def test_a_file_that_is_no_impulse_response(tmp_path, content):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(Codec2EqError, match="bad.wav"):
        shaping.load_shaping(str(path))


def test_a_silent_impulse_response(tmp_path):
    soundfile.write(tmp_path / "mute.wav", np.zeros(50), 8000)
    with pytest.raises(Codec2EqError, match="silent"):
        shaping.load_shaping(str(tmp_path / "mute.wav"))


@pytest.mark.parametrize(
    ("rate", "n_samples", "message"),
    [
        (100, 50, "sample rate 100 Hz: at least 8000 Hz needed"),
        (2**32 - 1, 50, "ir.wav: (not an impulse response|sample rate)"),
        (8000, 31 * 8000, "is longer than 30 s"),
    ],
)
def test_absurd_impulse_responses_are_refused_unread(tmp_path, rate, n_samples, message):
    path = tmp_path / "ir.wav"
    soundfile.write(path, np.ones(n_samples) / 2, 8000)
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(Codec2EqError, match=message):
        shaping.load_shaping(str(path))


def test_unknown_name_lists_the_names():
    with pytest.raises(Codec2EqError, match="bottle.*tilt-6.*boom"):
        shaping.load_shaping("bottle")


def test_a_list_that_names_nothing(tmp_path):
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(Codec2EqError, match="no shaping"):
        shaping.read_shapings(tmp_path / "list.txt")


@pytest.mark.parametrize("content", [b"boom\n\xff\xfe", bytes(80), b"#" * (2 << 20)])
def test_a_list_that_is_no_text(tmp_path, content):
    (tmp_path / "list.f32").write_bytes(content)
    with pytest.raises(Codec2EqError, match="list.f32: not UTF-8 text"):
        shaping.read_shapings(tmp_path / "list.f32")


def test_errors_of_a_list_name_it(tmp_path):
    with pytest.raises(Codec2EqError, match="none.txt: no such file"):
        shaping.read_shapings(tmp_path / "none.txt")
    (tmp_path / "list.txt").write_text("bloom\n")
    with pytest.raises(Codec2EqError, match="list.txt: bloom: neither a shaping nor a file; shap"):
        shaping.read_shapings(tmp_path / "list.txt")


@pytest.mark.parametrize("seed", ["\N{SUPERSCRIPT TWO}", "9" * 200, "-1", ""])
def test_what_is_no_seed(seed):
    with pytest.raises(Codec2EqError, match="neither a shaping nor a file"):
        shaping.load_shaping(f"mic{seed}")
