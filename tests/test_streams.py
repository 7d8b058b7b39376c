# SPDX-License-Identifier: LGPL-2.1-or-later
import json
from functools import reduce
from operator import add

import numpy as np
import pytest
from conftest import require_package

from codec2_eq.audio.pcm import to_s16
from codec2_eq.audiofilter.equaliser import AudioEqualiser
from codec2_eq.bench import streams
from codec2_eq.bench.filtering import load_filter
from codec2_eq.bench.heard import Heard, decoded_error, heard_error
from codec2_eq.bench.noise import Noise
from codec2_eq.bench.shaping import load_shaping
from codec2_eq.bench.speech import load_speech
from codec2_eq.bench.streams import HeardScores, Passages
from codec2_eq.bench.tables import heard_detail_table, heard_table
from codec2_eq.cli import main
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract


@pytest.fixture(scope="module")
def recording(samples_dir):
    (found,) = load_speech({"him": sorted(samples_dir.glob("espeak_male_*.wav")) * 2})
    return found


def test_c2enc_is_judged_by_its_bytes(recording):
    """By libcodec2's own encoder, 12 s by 12 s."""
    found = streams.run([recording], [load_shaping("boom")], streams.load_encoders([]))
    boomy = to_s16(load_shaping("boom")(recording.samples))
    plain = to_s16(recording.samples)
    for name, eq in (("c2enc", False), ("c2enc --eq", True)):
        for shaping, samples in (("none", plain), ("boom", boomy)):
            parts = []
            for start in range(0, len(plain) - 6 * 8000, 12 * 8000):
                part = slice(start, start + 12 * 8000)
                reference = extract(plain[part], 8000, frame_ms=10).vectors
                bits = libcodec2.oracle_mlfeat(samples[part], eq=eq).bits
                parts.append(heard_error(bits, reference))
            assert found.of(name, [shaping]).all == reduce(add, parts)
    assert found.of("c2enc", ["boom"]).all.total > found.of("c2enc", ["none"]).all.total


def test_own_encoders_stand_once_unless_told_otherwise():
    plain = streams.load_encoders(["none", "700c", "cmn"])
    own = ["c2enc", "c2enc --eq", "none fit", "700c fit"]
    assert list(plain) == [*own, "cmn pick", "cmn fit"]
    assert "none pick" in streams.load_encoders(["none"], level="auto")


def scores_of(**heard):
    """One filter, two speakers: H of each."""
    found = HeardScores()
    for encoder, totals in heard.items():
        for speaker, total in zip("ab", totals, strict=True):
            for shaping, more in (("none", 0.0), ("boom", 2.0)):
                part = Heard(level=total / 4 + more, shape=total * 3 / 4, frames=100)
                found.heard[encoder, shaping, speaker] = Passages(part, part)
    return found


def test_intervals_are_those_of_speakers_drawn_with_replacement():
    found = scores_of(one=(8.0, 12.0))
    assert found.of("one", ["none"]).all == Heard(2.5, 7.5, 200)
    assert found.interval("one", ["none"]) == [8, 12]
    assert found.interval("one", ["boom"]) == [10, 14]
    assert scores_of(one=(8.0, 8.0)).interval("one", ["none"]) == [8, 8]


def test_tables_and_json_name_everything():
    found = scores_of(one=(8.0, 12.0), two=(9.0, 9.0))
    lines = heard_table(found).splitlines()
    assert [line.split()[0] for line in lines] == ["encoder", "one", "two"]
    assert lines[1].split()[1:3] == ["10.00", "(8.0..12.0)"]
    assert lines[1].split()[6] == "12.00"
    by_speaker = heard_detail_table(found, "speaker").splitlines()
    assert by_speaker[1].split() == ["a", "10.0", "11.0"]
    assert heard_detail_table(found, "shaping").splitlines()[1].split() == ["none", "10.0", "9.0"]
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["one"]["unshaped"]["heard"] == 10
    assert told["one"]["filters"]["level"] == 4.5
    assert told["one"]["speakers"]["b"]["heard"] == 14
    assert told["two"]["shapings"]["boom"]["interval"] == [11, 11]


def test_the_command_prints_writes_and_draws(samples_dir, tmp_path, capsys):
    shapes, picture = tmp_path / "shapes.txt", tmp_path / "out.png"
    shapes.write_text("boom\n")
    words = ["evaluate", str(samples_dir), "--heard", "-m", "cmn", "--shapes", str(shapes)]
    assert main([*words, "--json", "-", "--by", "shaping", "--picture", str(picture)]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert {"c2enc", "c2enc --eq", "cmn pick", "cmn fit"} == set(told)
    assert set(told["c2enc"]["shapings"]) == {"none", "boom"}
    assert told["c2enc"]["unshaped"]["heard"] < told["c2enc"]["filters"]["heard"]
    assert "c2enc --eq" in err
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--heard", "--change"], "--change: not allowed with argument --heard"),
        (["--heard", "--classic"], "--heard: not allowed with argument --classic"),
        (["--level", "auto"], "--level: only with --heard"),
        (["--denoise"], "--denoise: only with --heard"),
        (["--gain", "6"], "--gain: only with --heard"),
    ],
)
def test_options_that_do_not_go_together(samples_dir, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(samples_dir), *words])
    assert message in capsys.readouterr().err


def test_noise_reduction_is_heard(recording):
    """Less error in hiss, and never the same as without."""
    require_package("pyrnnoise")
    hiss = Noise("white", 5)
    heard = [
        streams.run([recording], [], streams.load_encoders([]), noise=hiss, reduce_noise=reduced)
        .of("c2enc", ["none"])
        .all.total
        for reduced in (False, True)
    ]
    assert heard[1] < 0.9 * heard[0]


def test_the_level_hardly_changes_what_is_heard(recording):
    """The claim, and that the gain arrives: c2enc does hear it."""
    heard: dict[str, list[float]] = {"channel_eq fit": [], "c2enc": []}
    for gain_db in (0, -18, 6):
        found = streams.run([recording], [], streams.load_encoders(["channel_eq"]), gain_db=gain_db)
        for name, totals in heard.items():
            totals.append(found.of(name, ["none"]).all.total)
    changes = {name: np.ptp(totals) / totals[0] for name, totals in heard.items()}
    assert changes["channel_eq fit"] < 0.03
    assert changes["c2enc"] > 0.02


def test_nothing_measured():
    with pytest.raises(Codec2EqError, match="nothing to measure"):
        streams.run([], [], {})


def test_passages_with_hardly_any_speech_are_passed_over(recording):
    speech = recording.samples[: 12 * 8000]
    silent = np.concatenate([recording.samples[: 2 * 8000], np.zeros(10 * 8000)])
    encoders = streams.load_encoders([])
    both = streams.hear(
        np.concatenate([speech, silent]), np.concatenate([speech, silent]), encoders
    )
    assert both == streams.hear(speech, speech, encoders)
    assert not streams.hear(silent, silent, encoders)


def test_fields_of_a_recording_without_shaping():
    found = HeardScores({("one", "none", "a"): Passages(Heard(1, 2, 3), Heard(1, 2, 3))})
    assert found.shapings() == ["none"]
    assert np.isfinite(found.as_json()["one"]["filters"]["heard"])


def test_plain_speech_behind_the_filter_is_an_encoder_too(recording):
    """As `filter` on the segment and c2enc on that; at 48 kHz in stereo nearly the same."""
    name, at_48_khz = "cmn:filter", "cmn:filter:48000"
    found = streams.run([recording], [], streams.load_encoders([name, at_48_khz]))
    plain, parts = to_s16(recording.samples), []
    for start in range(0, len(plain) - 6 * 8000, 12 * 8000):
        part = plain[start : start + 12 * 8000]
        filtering = AudioEqualiser("cmn")
        filtered = np.concatenate([filtering.process(part), filtering.flush()])
        bits = libcodec2.oracle_mlfeat(filtered).bits
        parts.append(heard_error(bits, extract(part, 8000, frame_ms=10).vectors))
    heard = reduce(add, parts)
    assert found.of(name, ["none"]).all == heard
    assert found.of(at_48_khz, ["none"]).all.total == pytest.approx(heard.total, rel=0.15)


def test_a_filter_that_hears_twice_starts_with_what_it_has_learnt(recording):
    passage = to_s16(recording.samples)[: 12 * 8000]
    first, known = AudioEqualiser("cmn"), AudioEqualiser("cmn")
    first.hear(passage)
    known.restore(first.state())
    expected = np.concatenate([known.process(passage), known.flush()])
    np.testing.assert_array_equal(load_filter("cmn:2:filter")(passage), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cmn:filter:fast", "'fast' is not a rate"),
        ("cmn:filter:96000", "at most 48000"),
        ("none:filter", "removes no curve"),
    ],
)
def test_a_filter_that_cannot_be_measured_is_refused(name, message):
    with pytest.raises(Codec2EqError, match=message):
        streams.load_encoders([name])


def test_another_mode_is_heard_as_it_decodes(recording):
    """3200 is nearer to the speech than 1300, and noise is farther still."""
    found = streams.run([recording], [], streams.load_encoders(["codec2:3200", "codec2:1300"]))
    fine, coarse = (found.of(f"codec2:{mode}", ["none"]).all.total for mode in (3200, 1300))
    assert 5 < fine < 0.9 * coarse
    plain = to_s16(recording.samples)[: 4 * 8000]
    reference = extract(plain, 8000, frame_ms=10).vectors
    late = np.concatenate([np.zeros(320, np.int16), plain])
    assert decoded_error(late, reference).total == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(
    ("name", "message"), [("codec2:fast", "'fast' is not a mode"), ("codec2:99", "no such mode")]
)
def test_a_mode_that_is_none_is_refused(name, message):
    with pytest.raises(Codec2EqError, match=message):
        streams.load_encoders([name])
