# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scores of equalisers, their tables and figures, and the command `evaluate`."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from codec2_eq import messages
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench import shaping
from codec2_eq.bench.cases import distortion, shape_recording
from codec2_eq.bench.measures import Sums, cold_segments, measure, shapes_of
from codec2_eq.bench.methods import load_method
from codec2_eq.bench.scores import Scores, run
from codec2_eq.bench.speech import Speech, analyse, find_speech, load_speech
from codec2_eq.bench.tables import as_csv, detail_table, overall_table
from codec2_eq.cli import main
from codec2_eq.equalisers.equaliser import load_equaliser
from codec2_eq.errors import Codec2EqError

FIND_SPEECH = "codec2_eq.bench.speech.find_speech"


@pytest.fixture
def shapes_file(tmp_path):
    path = tmp_path / "shapes.txt"
    path.write_text("boom\ntilt+3\n")
    return str(path)


@pytest.fixture(scope="module")
def cases(samples_dir, quantise):
    paths = sorted(samples_dir.glob("espeak_male_*.wav")) * 2
    (speech,) = load_speech({"him": paths})
    other = Speech("her", "her", speech.samples[::-1].copy())
    shapings = [shaping.load_shaping(name) for name in ("boom", "tilt+3")]
    return [shape_recording(s, shapings, quantise) for s in (speech, other)]


@pytest.fixture(scope="module")
def models():
    return {name: load_equaliser(name) for name in ("none", "cmn")}


@pytest.fixture(scope="module")
def found(cases, models, quantise):
    return run(cases, models, quantise)


def test_scores_add_up(found):
    assert found.names(0) == ["none", "cmn", "utterance mean", "oracle"]
    assert found.names(1) == ["boom", "tilt+3"]
    assert found.names(2) == ["him", "her"]
    whole = found.of("cmn")
    parts = [found.of("cmn", shaping=f, speaker=s) for f in found.names(1) for s in found.names(2)]
    assert whole.count == sum(part.count for part in parts) > 0
    assert whole.canonical_error == pytest.approx(sum(part.canonical_error for part in parts))


def test_the_ends_of_the_scale(found):
    assert 0 < found.row("cmn").canonical_closed < 1
    assert found.row("none").d_over_oracle > found.row("cmn").d_over_oracle > 1


def test_the_oracle_knows_the_filter_and_no_more(cases, found, quantise):
    """y - mean(y - x) - c*: what the filter does besides its mean curve is left."""
    case = cases[0]
    boomy, reference = shapes_of(case.shaped["boom"]), case.reference
    curve = (boomy - reference.shapes)[reference.active].mean(axis=0)
    sums = [
        measure((boomy - curve - reference.offset)[part], reference.part(part), quantise)
        for part in cold_segments(len(boomy))
    ]
    wanted = sum(sums, Sums()).measures()
    assert found.of(
        "oracle", shaping="boom", speaker="him"
    ).measures().canonical_error == pytest.approx(wanted.canonical_error, rel=1e-4)
    assert wanted.residual[-1] > 0.5


def test_intervals_hold_the_figure(found):
    spans = found.intervals("cmn")
    row = found.row("cmn")
    assert (
        spans["canonical_error"][0] <= row.measures.canonical_error <= spans["canonical_error"][1]
    )
    assert spans["canonical_closed"][0] <= row.canonical_closed <= spans["canonical_closed"][1]
    assert spans["canonical_error"][0] < spans["canonical_error"][1]


def test_intervals_are_those_of_speakers_drawn_with_replacement():
    """Of two speakers, both draws are the same one in a quarter of the cases each."""
    found = Scores()
    for speaker, canonical_error in (("a", 8.0), ("b", 12.0)):
        for model, value in (("cmn", canonical_error), ("none", 20.0), ("oracle", 4.0)):
            found.sums[model, "boom", speaker] = Sums(
                count=10, canonical_error=10 * value, shape_error=10 * value
            )
    spans = found.intervals("cmn")
    assert spans["canonical_error"] == spans["shape_error"] == [8, 12]
    assert spans["canonical_closed"] == [0.5, 0.75]
    found.sums["cmn", "boom", "b"] = found.sums["cmn", "boom", "a"]
    assert found.intervals("cmn")["canonical_error"] == [8, 8]


def test_a_change_costs_what_remembers(cases, models, found, quantise):
    changed = run(cases, models, quantise, change=True)
    for model in ("none", "oracle"):
        assert changed.of(model).canonical_error == found.of(model).canonical_error
    residual = changed.of("cmn").measures().residual
    assert residual[1] > found.of("cmn").measures().residual[1] + 1
    assert residual[-1] < residual[1]
    with pytest.raises(Codec2EqError, match="another"):
        run(cases[:1], models, quantise, change=True)


def test_tables_name_everything(found):
    table = overall_table(found)
    assert table.splitlines()[0].split()[:3] == ["model", "D", "canonical_error"]
    assert [line.split("  ")[0] for line in table.splitlines()[1:]] == found.names(0)
    by_speaker = detail_table(found, "speaker")
    assert [line.split()[0] for line in by_speaker.splitlines()] == ["speaker", "him", "her"]
    assert detail_table(found, "shaping").splitlines()[1].startswith("boom")


def test_times_that_nobody_speaks_at_have_no_number(found):
    silent, spoken = Scores(), [1, 1, 1, 1, 1, 0]
    for key, sums in found.sums.items():
        silent.sums[key] = replace(
            sums, residual=sums.residual * spoken, residual_count=sums.residual_count * spoken
        )
    rows = overall_table(silent).splitlines()[1:]
    assert [row.split()[-1] for row in rows] == ["-"] * len(rows)


def test_json_round_trip(found):
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["cmn"]["canonical_error"] == pytest.approx(
        found.row("cmn").measures.canonical_error
    )
    assert set(told["cmn"]["shapings"]) == {"boom", "tilt+3"}
    assert set(told["oracle"]["speakers"]) == {"him", "her"}


def test_command_prints_writes_and_draws(samples_dir, tmp_path, shapes_file, capsys):
    report, picture = tmp_path / "out.json", tmp_path / "out.png"
    words = ["evaluate", str(samples_dir), "-m", "cmn", "-m", "kalman-cmn", "--shapes", shapes_file]
    words += ["--by", "speaker", "--json", str(report), "--picture", str(picture)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["none", "cmn", "kalman-cmn"]
    told = json.loads(report.read_text())
    assert told["cmn"]["canonical_error"] < told["none"]["canonical_error"]
    assert told["kalman-cmn"]["canonical_error"] < told["none"]["canonical_error"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_to_stdout_is_nothing_else(samples_dir, shapes_file, capsys):
    words = ["evaluate", str(samples_dir), "-m", "none", "--shapes", shapes_file, "--json", "-"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "oracle" in json.loads(out)
    assert "oracle" in err
    assert [row.split()[0] for row in err.splitlines()[-3:]] == ["shaping", "boom", "tilt+3"]


def test_classic_table(samples_dir, quantise, capsys):
    files = [str(path) for path in sorted(samples_dir.glob("espeak_male_*.wav"))[:2]]
    assert main(["evaluate", *files, "--classic", "-m", "700c"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "sample none D 700c D none shape_error 700c shape_error".split()
    assert len(lines) == 4
    vectors = analyse(read_audio(files[0]))
    expected = distortion(vectors, quantise)
    assert float(lines[1].split()[1]) == pytest.approx(expected, abs=0.006)
    figures = np.array([[float(cell) for cell in line.split()[1:]] for line in lines[1:]])
    np.testing.assert_allclose(figures[-1], figures[:-1].mean(axis=0), atol=0.0101)
    assert np.ptp(figures[-1]) > 0.5  # D and shape_error are not alike


def test_change_is_another_table(samples_dir, tmp_path, shapes_file, capsys):
    for voice in ("espeak_male", "flite_male"):
        (tmp_path / voice).mkdir()
        speech = read_audio(samples_dir / f"{voice}_1.wav").astype(np.int16)
        soundfile.write(tmp_path / voice / "a.wav", np.tile(speech, 6), 8000)
    told = []
    for words in ([], ["--change"]):
        assert (
            main(
                [
                    "evaluate",
                    str(tmp_path),
                    "-m",
                    "cmn",
                    "--shapes",
                    shapes_file,
                    "--json",
                    "-",
                    *words,
                ]
            )
            == 0
        )
        told.append(json.loads(capsys.readouterr().out))
    cold, changed = told
    assert changed["none"] == cold["none"]
    assert changed["cmn"]["residual"][0] > cold["cmn"]["residual"][0]


@pytest.mark.parametrize(
    "missing, words",
    [
        ("scipy", []),
        ("matplotlib", ["--picture", "a.png"]),
    ],
)
def test_a_missing_extra_is_reported_before_the_work(
    samples_dir, tmp_path, capsys, monkeypatch, missing, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(FIND_SPEECH, lambda *_: pytest.fail("work was done"))
    assert main(["evaluate", str(samples_dir), *words]) == 1
    assert f"needs {missing}, which is not installed" in capsys.readouterr().err


def test_what_holds_no_speech_is_named(samples_dir, tmp_path, capsys):
    soundfile.write(tmp_path / "tiny.wav", np.zeros(100, np.int16), 8000)
    soundfile.write(tmp_path / "mute.wav", np.zeros(16000, np.int16), 8000)
    for name in ("tiny", "mute"):
        files = [str(samples_dir / "espeak_male_1.wav"), str(tmp_path / f"{name}.wav")]
        assert main(["evaluate", *files, "--classic", "-m", "none"]) == 1
        assert f"{name}: no active speech" in capsys.readouterr().err


def test_too_little_speech_is_an_error(tmp_path, capsys):
    with pytest.raises(Codec2EqError, match="12 s"):
        load_speech({"s": []})
    assert main(["evaluate", str(tmp_path / "nowhere")]) == 1
    assert "not found" in capsys.readouterr().err


def test_nothing_measured():
    with pytest.raises(Codec2EqError, match="nothing to measure"):
        run([], {}, lambda shapes: shapes)
    assert Sums().count == 0


def test_a_speaker_left_out_is_reported(samples_dir, tmp_path, shapes_file, monkeypatch):
    for name in ("short", "shorter"):
        (tmp_path / name).mkdir()
        samples = read_audio(samples_dir / "espeak_male_1.wav")[: 16000 if name == "short" else 100]
        soundfile.write(tmp_path / name / "a.wav", samples.astype(np.int16), 8000)
    told: list[str] = []
    speakers = find_speech([tmp_path, samples_dir])
    (only, *_) = load_speech(speakers, report=told.append)
    assert only.speaker == "samples"
    assert [line.split(":")[0] for line in told] == ["short", "shorter"]
    assert all("left out, has under 12 s of speech" in line for line in told)
    warned: list[str] = []
    monkeypatch.setattr(messages, "warn", warned.append)
    words = ["evaluate", str(samples_dir), str(tmp_path), "-m", "none", "--shapes", shapes_file]
    assert main(words) == 0
    assert warned == told


def test_classic_table_loses_no_file_of_the_same_name(samples_dir, tmp_path, capsys):
    files = []
    for folder, source in (("a", "espeak_male_1"), ("b", "flite_male_1")):
        (tmp_path / folder).mkdir()
        files.append(str(tmp_path / folder / "x.wav"))
        shutil.copy(samples_dir / f"{source}.wav", files[-1])
    same = samples_dir / "espeak_male_1.wav"
    files += [str(same), str(same.parent / ".." / "samples" / same.name)]
    assert main(["evaluate", *files, "--classic", "-m", "none"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:-1]
    assert sorted(line.split()[0] for line in lines) == sorted([*files[:2], "espeak_male_1"])


@pytest.mark.parametrize(
    "words",
    [
        ["--shapes", "list.txt"],
        ["--change"],
        ["--by", "speaker"],
        ["--picture", "a.png"],
    ],
)
def test_classic_refuses_what_it_would_not_do(samples_dir, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(samples_dir), "--classic", *words])
    assert f"{words[0]}: not allowed with argument --classic" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--csv", "--picture"])
@pytest.mark.parametrize(
    "name, message",
    [
        ("old.png", "exists already; pass -f"),
        ("no/where.png", "its folder does not exist"),
    ],
)
def test_outputs_are_refused_before_the_work(
    tmp_path, samples_dir, capsys, monkeypatch, option, name, message
):
    (tmp_path / "old.png").write_bytes(b"kept")
    monkeypatch.setattr(FIND_SPEECH, lambda *_: pytest.fail("work was done"))
    assert main(["evaluate", str(samples_dir), option, str(tmp_path / name)]) == 1
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--picture", "-"], "--picture: needs a file of its own"),
        (["--picture", "a", "--json", "./a"], "--json and --picture are both ./a"),
        (["--csv", "-", "--json"], "--json and --csv are both stdout"),
    ],
)
def test_each_output_needs_a_file_of_its_own(samples_dir, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(samples_dir), *words])
    assert message in capsys.readouterr().err


def test_figures_as_csv():
    figures = {"a": {"d": 1.5, "speakers": {"x": {"d": 2, "e": 3}}, "residual": [1]}, "b": {"d": 4}}
    assert as_csv(figures) == "of,d,e\na,1.5,\na/speakers/x,2,3\nb,4,\n"


def test_noise_is_an_axis(samples_dir, shapes_file, capsys):
    words = ["evaluate", str(samples_dir / "espeak_male_1.wav"), str(samples_dir)]
    words += ["-m", "cmn", "--shapes", shapes_file, "--noise", "20,0", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    kinds = [f"{kind} {snr} dB" for snr in (20, 0) for kind in ("car", "babble", "white")]
    assert list(told) == ["no noise", *kinds]
    assert "white 0 dB:\nmodel" in err
    errors = [told[name]["none"]["shape_error"] for name in ("no noise", "white 20 dB")]
    assert errors[0] < errors[1] < told["white 0 dB"]["none"]["shape_error"]


def test_two_passes_are_a_column(cases, quantise):
    methods = {name: load_method(name) for name in ("none", "cmn", "cmn:2")}
    twice = run(cases, methods, quantise)
    assert twice.row("cmn:2").canonical_closed > twice.row("cmn").canonical_closed + 0.02
    segment = cases[0].shaped["boom"][:300]
    expected = load_equaliser("cmn")(segment, passes=2)
    np.testing.assert_array_equal(methods["cmn:2"](segment), expected)
    with pytest.raises(Codec2EqError, match="no equaliser 'cmm'"):
        load_method("cmm:2")


def test_noise_levels_are_numbers(samples_dir, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(samples_dir), "--noise", "20,loud"])
    assert "'20,loud': not dB, separated by commas" in capsys.readouterr().err
