# SPDX-License-Identifier: LGPL-2.1-or-later
import base64
import io
import os
import re
import subprocess
import sys
import wave
from collections import Counter
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from conftest import require_package

from codec2_eq import cli
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.heard import heard_error
from codec2_eq.bench.measures import quantise_700c, speech_activity
from codec2_eq.codec2.library import codebook_700c
from codec2_eq.commands import report as command
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.equalisers.equaliser import load_equaliser, model_names
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract, extract_file
from codec2_eq.inspection import faults, measurements
from codec2_eq.records import remove_mean
from codec2_eq.report import examine, pictures
from codec2_eq.report import page as report_page
from codec2_eq.report.loudness import active_level_dbfs, at_one_level
from codec2_eq.stream700c import codec
from codec2_eq.vq.quantiser import Quantiser

require_package("matplotlib")
require_package("jinja2")

ODD_NAME = "odd <&> \"name' é.wav"
MODELS = ("none", "700c", "cmn")
VOID = {"meta", "img", "link", "br", "hr", "input", "source"}


class Page(HTMLParser):
    """Elements in order, each with its attributes and the text within; checks the nesting."""

    def __init__(self, html):
        super().__init__()
        self.elements: list[dict] = []
        self._open: list[dict] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        element = {"tag": tag, "text": "", **{f"@{k}": v for k, v in attributes}}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **attributes):
        wanted = {f"@{k}": v for k, v in attributes.items()}
        return [e for e in self.elements if e["tag"] == tag and wanted.items() <= e.items()]

    def rows(self):
        """Texts of the cells of all table rows."""
        rows: list[list[str]] = []
        for element in self.elements:
            if element["tag"] == "tr":
                rows.append([])
            elif element["tag"] in ("th", "td"):
                rows[-1].append(element["text"])
        return rows


def samples_of(uri):
    head, data = uri.split(",", 1)
    assert head == "data:audio/wav;base64"
    with wave.open(io.BytesIO(base64.b64decode(data, validate=True))) as sound:
        assert sound.getparams()[:3] == (1, 2, 8000)
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2")


def svg_of(uri):
    head, data = uri.split(",", 1)
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


@pytest.fixture(scope="module")
def long_wav(tmp_path_factory, speech):
    """Speech that is longer than what is shown, under a name that HTML has to escape."""
    path = tmp_path_factory.mktemp("long") / ODD_NAME
    soundfile.write(path, np.tile(speech, 2), 8000)
    return path


@pytest.fixture(scope="module")
def inputs(long_wav, samples_dir):
    return [str(samples_dir / "dialogue_stereo_16k.wav"), str(long_wav)]


@pytest.fixture(scope="module")
def decoded():
    """Streams that were decoded for the page, and what came out: no two decodes are the same."""
    return []


@pytest.fixture(scope="module")
def html(inputs, decoded, tmp_path_factory):
    def decode(bits):
        decoded.append((bits, codec.decode(bits)))
        return decoded[-1][1]

    out = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine, "decode", decode)
        summary = report_page.write_report(inputs, out, models=MODELS, seconds=4)
    assert (summary.recordings, summary.failures, summary.models) == (2, (), MODELS)
    assert summary.n_bytes == out.stat().st_size
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


# -- the page


def test_page_needs_nothing_else_and_names_all(page, html):
    assert html.startswith("<!DOCTYPE html>")
    for element in page.elements:
        for attribute in ("@src", "@href", "@srcset", "@poster", "@data"):
            assert element.get(attribute, "#").startswith(("#", "data:"))
    assert not page.all("link") and "@import" not in html
    without_data = re.sub(r"data:[^\"]*", "", html)
    assert "://" not in without_data and "url(" not in without_data
    for image in page.all("img"):
        svg = svg_of(image["@src"])
        links = re.findall(r'href="([^"]*)"', svg)
        assert links and all(link.startswith(("#", "data:image/png")) for link in links)
    assert len(page.all("h1")) == 1 and page.all("html")[0]["@lang"] == "en"


def test_ids_are_unique_and_links_lead_somewhere(page):
    ids = Counter(e["@id"] for e in page.elements if "@id" in e)
    assert ids and max(ids.values()) == 1
    links = page.all("a")
    assert len(links) == 2 and all(unquote(a["@href"][1:]) in ids for a in links)
    assert {e["@aria-labelledby"] for e in page.all("section")} <= set(ids)


def test_pictures_are_described_in_words(page, inputs):
    images = page.all("img")
    assert len(images) == 3 * len(inputs)
    for i, (image, path) in enumerate(zip(images, np.repeat(inputs, 3), strict=True)):
        words = ("bass", "treble") if i % 3 == 2 else ("700c", "cmn")
        assert all(word in image["@alt"] for word in (path, *words))


def test_names_are_escaped(page, html, inputs):
    assert ODD_NAME not in html
    assert [a["text"] for a in page.all("a")] == inputs
    assert inputs[1] in [h["text"] for h in page.all("h2")]
    assert not page.all("&")


def test_tables_have_what_is_heard_and_the_quantisers_figures(page, inputs):
    quantiser = Quantiser(codebook_700c())
    table = []
    for path in inputs:
        audio = read_audio(path)[:32000]
        record = extract(audio, full_scale=32768)
        active = speech_activity(record.mean_db)
        own = extract(audio, full_scale=32768, frame_ms=10).vectors
        heard = [heard_error(codec.encode(audio, model=m, full_scale=32768), own) for m in MODELS]
        table.append([h.total for h in heard])
        for model, h in zip(MODELS, heard, strict=True):
            shapes = remove_mean(load_equaliser(model)(record.vectors))[1]
            off = np.sqrt(np.mean((shapes[active].mean(axis=0) - CODEBOOK_MEAN_DB) ** 2))
            d = [f"{quantiser.distortion(each):.2f}" for each in (shapes[active], shapes)]
            row = [model, *(f"{x:.1f}" for x in (h.total, h.level, h.shape)), *d, f"{off:.1f}"]
            assert row in page.rows()
    assert len({h for row in table for h in row}) == 6
    means = np.mean(table, axis=0)
    for name, row in [*zip(inputs, table, strict=True), ("mean of the recordings", means)]:
        assert [name, *(f"{h:.1f}" for h in row)] in page.rows()


def test_players_have_the_recording_and_what_700c_makes_of_it(page, inputs, decoded):
    streams = list(decoded)
    sounds = [samples_of(e["@src"]) for e in page.all("audio")]
    labels = [e["@aria-label"] for e in page.all("audio")]
    names = ("none (the stream of c2enc)", "700c (the stream of c2enc --eq)", "cmn")
    for path in inputs:
        audio = read_audio(path)[:32000]
        active = speech_activity(extract(audio, full_scale=32768).mean_db)
        label, original = labels.pop(0), sounds.pop(0)
        assert label.startswith("original") and label.endswith(path)
        assert active_level_dbfs(original, active) == pytest.approx(-26, abs=0.05)
        assert np.corrcoef(original, audio)[0, 1] > 0.999
        for model, name in zip(MODELS, names, strict=True):
            label, sound = labels.pop(0), sounds.pop(0)
            assert label == f"700C, {name}: {path}"
            bits, speech = streams.pop(0)
            assert bits == codec.encode(audio, model=model, full_scale=32768)
            assert len(sound) == len(speech)
            np.testing.assert_array_equal(sound, at_one_level(speech, active))
    assert not sounds and not streams and len(inputs) == 2


def test_none_is_louder_than_another(decoded, page):
    sounds = [samples_of(e["@src"]) for e in page.all("audio")][:4]
    levels = [np.sqrt(np.mean(np.square(s / 32768))) for s in sounds]
    assert max(levels) < 1.5 * min(levels)


def test_the_page_states_what_part_is_shown(page, inputs):
    lengths = [np.array(read_audio(path).size) / 8000 for path in inputs]
    assert lengths[0] < 4 < lengths[1]
    told = [e["text"] for e in page.all("dd") if e["text"].endswith(" s")]
    assert told == [f"{lengths[0]:.2f} s", f"the first 4.00 s of {lengths[1]:.2f} s"]


def test_heat_map_shows_the_vectors(long_wav):
    from matplotlib import colormaps
    from PIL import Image

    recording = examine.examine(long_wav, {"cmn": load_equaliser("cmn")}, seconds=3)
    svg = svg_of(pictures.heat_maps(recording).uri)
    assert len(recording.frames) == 75
    pngs = re.findall(r"data:image/png;base64,([^\"]*)", svg)
    drawn = [np.asarray(Image.open(io.BytesIO(base64.b64decode(p))).convert("RGB")) for p in pngs]
    maps = [image for image in drawn if image.shape[1] >= 75 and image.shape[0] >= 20]
    scale = pictures.SHAPE_COLOURS
    for shapes in (recording.before, recording.outcomes[0].shapes):
        level = np.clip((shapes.T - scale["vmin"]) / (scale["vmax"] - scale["vmin"]), 0, 1)
        expected = colormaps[scale["cmap"]](level, bytes=True)[..., :3].astype(int)
        assert any(np.abs(_sampled(m, expected.shape) - expected).max() <= 2 for m in maps)


def drawn(draw, recording, monkeypatch):
    """Return the axes of a picture by their titles, and its words."""
    figures: list[Any] = []
    monkeypatch.setattr(pictures, "_svg_uri", lambda f: figures.append(f) or "")  # type: ignore
    words = draw(recording).alt
    return {axis.get_title("left"): axis for axis in figures[0].axes}, words


def test_taken_away_is_before_less_after(long_wav, monkeypatch):
    recording = examine.examine(long_wav, {"cmn": load_equaliser("cmn")}, seconds=3)
    axes, words = drawn(pictures.heat_maps, recording, monkeypatch)
    vectors = extract_file(long_wav).vectors[:75]
    before = vectors - vectors.mean(axis=1, keepdims=True)
    removed = before - load_equaliser("cmn")(vectors)
    (image,) = axes["taken away by cmn"].get_images()
    np.testing.assert_allclose(np.asarray(image.get_array()).T, removed, atol=1e-4)
    red, _, blue, opaque = image.cmap(1.0)
    assert red > blue and opaque == 1  # what is taken away is warm, what is added cold
    mean = removed[recording.active].mean(axis=0)
    hz = recording.frames.freqs_hz
    assert f"cmn takes away {mean.max():+.1f} dB at {hz[mean.argmax()]:.0f} Hz" in words
    assert f"and {mean.min():+.1f} dB at {hz[mean.argmin()]:.0f} Hz" in words
    (level,) = (axis for title, axis in axes.items() if title.startswith("level"))
    np.testing.assert_allclose(level.patches[0].get_data().values, vectors.mean(axis=1), atol=1e-3)


def test_spectra_are_those_of_the_speech(long_wav, monkeypatch):
    models = {name: load_equaliser(name) for name in ("none", "cmn")}
    recording = examine.examine(long_wav, models, seconds=3)
    axes, words = drawn(pictures.spectra, recording, monkeypatch)
    vectors = extract_file(long_wav).vectors[:75]
    spectrum, error = axes.values()
    for index, (name, equalise) in enumerate(models.items()):
        rows = equalise(vectors)[recording.active]
        shapes = rows - rows.mean(axis=1, keepdims=True)
        off = shapes - quantise_700c()(shapes.astype(np.float32))
        line = spectrum.lines[1 + index]  # behind the codebook's
        np.testing.assert_allclose(line.get_ydata(), shapes.mean(axis=0), atol=1e-3)
        rms = np.sqrt(np.square(off).mean(axis=0))
        np.testing.assert_allclose(error.lines[index].get_ydata(), rms, atol=1e-3)
        away = np.sqrt(np.square(shapes.mean(axis=0) - CODEBOOK_MEAN_DB).mean())
        assert f"{name} {away:.1f} dB" in words


def test_the_microphone_is_what_check_finds(long_wav, monkeypatch):
    recording = examine.examine(long_wav, {"none": load_equaliser("none")}, seconds=3)
    axes, words = drawn(pictures.microphone, recording, monkeypatch)
    samples = read_audio(long_wav)[: 3 * 8000, None]
    measured = measurements.examine([samples], name="x", rate=8000)
    as_recorded, equalised = axes["mean shape of active speech"].lines
    np.testing.assert_allclose(as_recorded.get_ydata(), measured.mean_curve_db, atol=1e-4)
    np.testing.assert_allclose(equalised.get_ydata(), measured.equalised_curve_db, atol=1e-4)
    assert f"the speech at {measured.active_dbfs:.0f} dB" in words
    assert [f.name for f in recording.faults] == [f.name for f in faults.find_faults(measured)]


def test_faults_are_on_the_page_with_their_advice(long_wav, tmp_path):
    quiet = (0.003 * read_audio(long_wav)[: 3 * 8000]).astype(np.int16)
    (tmp_path / "quiet.raw").write_bytes(quiet.tobytes())
    report_page.write_report([tmp_path / "quiet.raw"], tmp_path / "r.html", models=["none"])
    html = (tmp_path / "r.html").read_text()
    assert "<strong>quiet</strong>: " in html and 'aria-label="Microphone"' in html


def _sampled(image, shape):
    """Middles of the cells of an image of (bands, frames) cells, lowest band first."""
    rows = ((np.arange(shape[0]) + 0.5) * image.shape[0] / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * image.shape[1] / shape[1]).astype(int)
    return image[rows][:, columns].astype(int)


# -- facts


def test_facts_of_a_known_signal(tmp_path):
    # pulses at 125 Hz for 1 s, every tenth at full scale, then 1 s of silence
    samples = np.zeros(32000)
    samples[:16000:128] = 0.5
    samples[:12800:1280] = 1.0
    path = tmp_path / "pulses.wav"
    soundfile.write(path, samples, 16000)
    facts = examine.examine(path, {"none": load_equaliser("none")}).facts
    assert facts["Length"] == "2.00 s" and facts["File"] == "16000 Hz, 1 channel"
    assert facts["At full scale"] == f"{10 / 32000:.2%} of the samples"
    assert facts["Speech"] in ("48% of the time", "50% of the time", "52% of the time")
    assert facts["Median pitch"] == "125 Hz" and facts["Voiced"] in (
        "96% of the speech",
        "100% of the speech",
    )
    at_8khz = read_audio(path)
    rms_db = 10 * np.log10(np.mean((at_8khz / 32768) ** 2))
    assert facts["Level (full scale is 0 dB)"].startswith(f"{rms_db:.1f} dB rms, peak ")


def test_the_page_reports_clipping(tmp_path, speech):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.clip(speech * 8.0, -32768, 32767).astype(np.int16), 8000)
    recording = examine.examine(path, {})
    share = np.mean(np.abs(read_audio(path)) >= 32767)
    assert share > 0.01 and recording.clipped_share == share
    assert (
        recording.facts["At full scale"] == f"{share:.2%} of the samples: distorted, its "
        "spectra too"
    )


# -- the command


@pytest.mark.slow
def test_same_inputs_same_bytes(tmp_path, long_wav):
    """Whatever the hash seed, and whatever the user's own style of drawing."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 30\n")
    words = ["report", str(long_wav), "--seconds", "1", "-m", "cmn", "-o", "-"]
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "codec2_eq", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": seed, **style},
        )
        for seed, style in (("1", {}), ("2", {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}))
    ]
    (first, told), (second, _) = (each.communicate(timeout=120) for each in runs)
    assert [each.returncode for each in runs] == [0, 0]
    assert len(Page(first.decode()).all("audio")) == 2
    assert first == second
    assert told.decode().startswith("-: recordings 1, models 1, ")


def test_one_failure_is_reported_and_the_others_go_on(tmp_path, long_wav, capsys):
    bad, out = tmp_path / "not <audio>.wav", tmp_path / "r.html"
    bad.write_text("no sound")
    silence, short = tmp_path / "silence.raw", tmp_path / "short.raw"
    silence.write_bytes(bytes(16000))
    short.write_bytes(b"\1\0" * 319)
    files = [str(f) for f in (bad, silence, short, tmp_path / "none.wav", long_wav)]
    words = ["report", *files, "-o", str(out), "-m", "mean", "--seconds", "0.5"]
    assert cli.main(words) == 1
    told = capsys.readouterr()
    page = Page(out.read_text())
    listed = [e["text"] for e in page.all("li")[:4]]
    lines = told.err.splitlines()
    assert told.out == "" and len(lines) == 6
    reasons = (
        "not audio that libsndfile reads",
        "silence in its first 0.50 s; show",
        "0.040 s long, at least 40 ms needed",
        "no such file",
    )
    for item, line, name, reason in zip(listed, lines, files, reasons, strict=False):
        assert item.startswith(f"{name}: {reason}") and line == f"codec2-eq: {item}"
    assert lines[4].startswith(f"{out}: recordings 1, models 1, ")
    assert lines[5] == "4 failed, see the page"
    assert len(page.all("audio")) == 2


def test_nothing_but_failures_is_a_page_too(tmp_path, capsys):
    out = tmp_path / "r.html"
    assert cli.main(["report", str(tmp_path), "-o", str(out)]) == 1
    assert "is a directory, not a file" in Page(out.read_text()).all("li")[0]["text"]
    assert not Page(out.read_text()).all("audio")
    assert capsys.readouterr().err.endswith("1 failed, see the page\n")


def test_an_output_is_kept_unless_forced(tmp_path, long_wav, capsys):
    out = tmp_path / "r.html"
    out.write_text("mine")
    words = ["report", str(long_wav), "-o", str(out), "-m", "mean", "--seconds", "0.2"]
    assert cli.main(words) == 1
    assert out.read_text() == "mine"
    assert "exists already; pass -f to overwrite it" in capsys.readouterr().err
    assert cli.main([*words, "-f"]) == 0
    assert Page(out.read_text()).all("audio")
    assert os.listdir(tmp_path) == ["r.html"]


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_reported_in_a_line(tmp_path, long_wav, missing, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["report", str(long_wav), "-o", str(tmp_path / "r.html")]) == 1
    assert capsys.readouterr().err == (
        f"codec2-eq: error: report: needs {missing}, which is not installed; in the "
        "folder of the sources run: pip install '.[report]'\n"
    )
    assert not os.listdir(tmp_path)


def test_unknown_model_leaves_no_page(tmp_path, long_wav, capsys):
    assert cli.main(["report", str(long_wav), "-o", str(tmp_path / "r"), "-m", "nope"]) == 1
    assert "no equaliser 'nope'" in capsys.readouterr().err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("seconds", ["0", "0.03", "-1", "nan", "inf", "601"])
def test_seconds_have_limits(tmp_path, long_wav, seconds, capsys):
    words = ["report", str(long_wav), "-o", str(tmp_path / "r"), "--seconds", seconds]
    assert cli.main(words) == 1
    assert f"{float(seconds):g} seconds of each recording: from 0.04 to 600" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_page_has_only_so_much_sound(tmp_path, long_wav, monkeypatch, capsys):
    first = 4 / 3 * 2 * (2 * 8000 + 44)  # original and decoded speech of 1 s, in base64
    monkeypatch.setattr(report_page, "SOUND_BYTES_LIMIT", int(1.5 * first))
    out = tmp_path / "r.html"
    words = ["report", str(long_wav), str(long_wav), "-o", str(out), "-m", "mean"]
    assert cli.main([*words, "--seconds", "1"]) == 0
    page = Page(out.read_text())
    assert len(page.all("audio")) == 2 and len(page.all("img")) == 6
    assert "1 have no sound" in capsys.readouterr().err
    assert [p for p in page.all("p") if p["text"].startswith("Left out: this page")]


def test_defaults(long_wav):
    import argparse

    parser = argparse.ArgumentParser()
    command.configure(parser)
    args = parser.parse_args([str(long_wav)])
    assert args.seconds == examine.DEFAULT_SECONDS and args.models is None
    shown = report_page.default_models()
    assert shown[:3] == ["none", "700c", "cmn"] and set(shown) <= set(model_names())
    assert ("channel_eq" in shown) == ("channel_eq" in model_names())


def test_models_are_listed_once_each_with_their_weights(tmp_path, long_wav):
    out = tmp_path / "r.html"
    models = ["mean_removal", "mean", "mean_removal"]
    summary = report_page.write_report([long_wav], out, models=models, seconds=0.2)
    assert summary.models == ("mean_removal", "mean")
    text = Page(out.read_text()).all("main")[0]["text"]
    assert f"(weights {load_equaliser('mean_removal').sha256[:12]})" in text
    with pytest.raises(Codec2EqError, match="exists already"):
        report_page.write_report([long_wav], out)
