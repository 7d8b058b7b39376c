# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command report: same bytes, failures, outputs that exist, missing extras, options."""

import os
import subprocess
import sys

import pytest
from conftest import require_package
from html_page import Page

from codec2_eq import cli
from codec2_eq.commands import report as command
from codec2_eq.equalisers.equaliser import load_equaliser, model_names
from codec2_eq.errors import Codec2EqError
from codec2_eq.report import examine
from codec2_eq.report import page as report_page

require_package("matplotlib")
require_package("jinja2")


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
