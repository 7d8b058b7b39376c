# SPDX-License-Identifier: LGPL-2.1-or-later
import json

import numpy as np
import pytest
from conftest import require_package

from codec2_eq.bench import words
from codec2_eq.bench.shaping import load_shaping
from codec2_eq.bench.tables import words_table
from codec2_eq.bench.words import WordScores, known_sentences, read_transcripts, word_errors
from codec2_eq.cli import main
from codec2_eq.errors import Codec2EqError

require_package("pocketsphinx")


@pytest.mark.parametrize(
    "said, heard, errors",
    [
        ("a red fox", "a red fox", 0),
        ("a red fox", "a red box", 1),
        ("a red fox", "red fox", 1),
        ("a red fox", "a very red fox", 1),
        ("a red fox", "", 3),
        ("", "a red fox", 3),
        ("one two three", "three two one", 2),
    ],
)
def test_word_errors_are_those_of_levenshtein(said, heard, errors):
    assert word_errors(said.split(), heard.split()) == errors


TEXTS = {
    "flite_male_1": "Read the numbers slowly: four, nineteen, sixty.",
    "flite_male_2": "A quiet voice is easy to hear when the wind has gone.",
    "flite_female_1": "She shook the old radio twice, and it began to sing again.",
    "espeak_male_1": "The green lamp at the end of the pier went out just before seven.",
}


@pytest.fixture
def transcripts(samples_dir, tmp_path):
    """By path, by name and by id."""
    names = [str(samples_dir / "flite_male_1.wav"), "flite_male_2.wav", *list(TEXTS)[2:]]
    path = tmp_path / "texts.txt"
    lines = [f"{name} {text}" for name, text in zip(names, TEXTS.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


@pytest.fixture
def sentences(samples_dir, transcripts):
    return known_sentences(read_transcripts(transcripts, [samples_dir], None))


def test_transcripts_name_recordings_by_path_name_or_id(sentences):
    assert [sentence.path.stem for sentence in sentences] == list(TEXTS)
    assert sentences[0].words[:3] == ("read", "the", "numbers")
    assert sentences[0].words[-1] == "sixty"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\0b hello\n", "line 1: holds a NUL"), (b"x y\n\xff z\n", "line 2: is not UTF-8")],
)
def test_transcripts_that_are_no_text_are_an_error(samples_dir, tmp_path, content, message):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(Codec2EqError, match=message):
        read_transcripts(tmp_path / "t.txt", [samples_dir], None)


def test_clean_speech_is_understood_and_noise_is_not(sentences):
    heard = words.run(sentences, [], {})
    assert not heard.errors[words.ORIGINAL, "none"][:3].any()  # flite, not espeak
    recognise = words.Recogniser(sentence.words for sentence in sentences)
    noise = np.random.default_rng(1).normal(0, 1000, 16000).astype(np.int16)
    assert tuple(recognise(noise)) not in [sentence.words for sentence in sentences[1:3]]


def test_what_an_encoder_spoils_is_counted(sentences):
    """An encoder that sends the same frame for ever says nothing."""
    found = words.run(
        sentences, [load_shaping("boom")], {"mute": lambda pcm: bytes(len(pcm) // 320 * 4)}
    )
    assert list(found.errors) == [
        (name, shaping) for shaping in ("none", "boom") for name in (words.ORIGINAL, "mute")
    ]
    assert found.rate("mute", "none") > 0.5


def test_intervals_are_those_of_sentences_drawn_with_replacement():
    found = WordScores(np.array([4, 4]))
    found.errors["original", "none"] = np.array([0, 0])
    found.errors["c2enc", "none"] = np.array([0, 2])
    found.errors["other", "none"] = np.array([1, 3])
    assert found.rate("c2enc", "none") == 0.25
    assert found.interval("c2enc", "none") == [0, 0.5]
    assert found.interval("other", "none", less="c2enc") == [0.25, 0.25]
    told = json.loads(json.dumps(found.as_json()))
    assert told["other"]["none"]["over c2enc"] == [0.25, 0.25]
    assert words_table(found).splitlines()[2].split() == ["c2enc", "25.0%", "(0..50)"]


def test_sentences_of_unknown_words_are_left_out(samples_dir, sentences):
    told: list[str] = []
    texts = {sentence.path: " ".join(sentence.words) for sentence in sentences}
    texts[samples_dir / "x.wav"] = "A zzyzx!"
    texts[samples_dir / "y.wav"] = "123"
    assert known_sentences(texts, told.append) == sentences
    assert [line.partition(": ")[2] for line in told] == [
        "left out, the recogniser does not know zzyzx",
        "left out, the recogniser does not know its text",
    ]
    with pytest.raises(Codec2EqError, match="fewer than two different sentences"):
        known_sentences({samples_dir / "a.wav": "a dog", samples_dir / "b.wav": "A dog."})


@pytest.mark.parametrize(
    "line, problem", [("nobody hello", "names no recording"), ("flite_male_1", "has no text")]
)
def test_lines_that_are_no_transcripts(samples_dir, transcripts, line, problem):
    with open(transcripts, "a", encoding="utf-8") as file:
        file.write(line)
    with pytest.raises(Codec2EqError, match=rf"texts.txt: line 6: {problem}"):
        read_transcripts(transcripts, [samples_dir], None)


def test_texts_of_a_manifest(tmp_path):
    rows = [
        {"path": "a.wav", "speaker": "s", "use": "train", "text": "A frog."},
        {"path": "b.wav", "speaker": "s", "use": "train", "text": ""},
        {"path": "c.wav", "speaker": "s", "use": "validate"},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert words.texts_of([tmp_path], "train") == {tmp_path / "a.wav": "A frog."}
    with pytest.raises(Codec2EqError, match="none for use 'validate' has a text"):
        words.texts_of([tmp_path], "validate")


@pytest.mark.slow
def test_the_command(samples_dir, tmp_path, transcripts, capsys):
    shapes = tmp_path / "shapes.txt"
    shapes.write_text("boom\n")
    words_ = ["evaluate", str(samples_dir), "--words", "--transcripts", str(transcripts)]
    assert main([*words_, "-m", "cmn", "--shapes", str(shapes), "--json", "-"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert list(told) == ["original", "c2enc", "c2enc --eq", *list(told)[3:]]
    assert 0 <= told["c2enc"]["boom"]["word_error_rate"] <= 1.5
    assert err.splitlines()[0].split() == ["encoder", "none", "boom"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--transcripts", "a.txt"], "--transcripts: only with --words"),
        (["--words", "--picture", "a.png"], "--picture: not allowed with argument --words"),
    ],
)
def test_options_that_do_not_go_together(samples_dir, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(samples_dir), *options])
    assert message in capsys.readouterr().err
