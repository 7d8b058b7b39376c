# SPDX-License-Identifier: LGPL-2.1-or-later
"""The report in a real browser: three widths, light and dark, and the rules of screen readers."""

import json
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
from conftest import missing, require_package

from codec2_eq.cli import main

require_package("matplotlib")
require_package("jinja2")
pytestmark = pytest.mark.slow

WIDTHS = (390, 768, 1280)
SCHEMES = {"light": 1, "dark": 0}  # Chromium's preferredColorScheme
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--virtual-time-budget=20000"
).split()
PROBE = """
<script>addEventListener("load", async () => {
  const found = await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "best-practice"]});
  const headers = [...document.querySelectorAll("thead th")].map(h => getComputedStyle(h));
  const broken = headers.filter(h => h.overflowWrap != "normal" || h.wordBreak == "break-all");
  const probe = JSON.stringify({
    violations: found.violations.map(v => v.id + ": " + v.nodes[0].html),
    headers: headers.length, broken: broken.length,
    width: PAGE_WIDTH, inner: innerWidth});
  parent.postMessage(probe, "*");
});
const PAGE_WIDTH = document.documentElement.scrollWidth;
</script>
"""
FRAME = """<!DOCTYPE html>
<iframe src="{url}" style="width:{width}px; height:1400px; border:0"></iframe>
<script>addEventListener("message", message => document.body.dataset.probe = message.data);</script>
"""  # a window of Chromium is at least 500 wide


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = shutil.which("chromium")
    if program is None:
        missing("chromium")

    def run(url, width, scheme, *options):
        profile = tmp_path_factory.mktemp("profile")
        words = [
            str(program),
            *QUIET,
            f"--user-data-dir={profile}",
            f"--window-size={width},1400",
            f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
            *options,
            url,
        ]
        return subprocess.run(words, capture_output=True, text=True, timeout=120).stdout

    return run


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The rules of axe-core, as one script."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    fetched = npm and subprocess.run(
        [npm, "pack", "--silent", "axe-core@4"], cwd=folder, capture_output=True
    )
    archives = list(folder.glob("axe-core-*.tgz"))
    if not fetched or not archives:
        missing("axe-core, which npm fetches,")
    with tarfile.open(archives[0]) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.fixture(scope="module")
def page(samples_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    samples = [str(samples_dir / f"{name}.wav") for name in ("espeak_male_1", "flite_female_1")]
    models = ["-m", "none", "-m", "700c", "-m", "cmn", "-m", "channel_eq"]
    assert main(["report", *samples, "-o", str(out), "--seconds", "2", *models]) == 0
    return out


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_can_be_read_by_all(page, axe, chromium, tmp_path, width, scheme):
    probed = tmp_path / "probed.html"
    script = "<script>" + axe.replace("</script", "<\\/script") + "</script>"
    probed.write_text(page.read_text().replace("</body>", f"{script}{PROBE}</body>"))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(url=probed.as_uri(), width=width))
    shown = chromium(frame.as_uri(), width, scheme, "--dump-dom")
    assert 'data-probe="' in shown, shown[-500:]
    text = shown.split('data-probe="')[1].split('"')[0].replace("&quot;", '"')
    found = json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["violations"] == []
    assert found["headers"] > 10 and found["broken"] == 0
    assert found["width"] <= found["inner"] == width


@pytest.mark.parametrize("width", WIDTHS)
def test_light_and_dark_pages_are_drawn(page, chromium, tmp_path, width):
    from PIL import Image

    brightness = {}
    for scheme in SCHEMES:
        picture = tmp_path / f"{scheme}.png"
        chromium(page.as_uri(), width, scheme, f"--screenshot={picture}")
        drawn = np.asarray(Image.open(picture).convert("L"))
        assert drawn.shape == (1400, width) and drawn.std() > 5
        brightness[scheme] = np.median(drawn)
    assert brightness["light"] > 200 and brightness["dark"] < 60
