# SPDX-License-Identifier: LGPL-2.1-or-later
"""A report: its page, the pictures and sounds on it, and the facts about each recording."""

import base64
import io
import re
import wave
from collections import Counter
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from conftest import require_package
from html_page import ODD_NAME, Page

from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.heard import heard_error
from codec2_eq.bench.measures import quantise_700c, speech_activity
from codec2_eq.codec2.library import codebook_700c
from codec2_eq.equalisers.classic import CODEBOOK_MEAN_DB
from codec2_eq.equalisers.equaliser import load_equaliser
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

MODELS = ("none", "700c", "cmn")


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
