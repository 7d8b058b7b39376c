# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tutorial runs from end to end, shows and sounds what it says, and is kept without outputs."""

import json
import re

import pytest
from conftest import ROOT, load_script, require_package

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
LARGEST_BYTES = 20_000
PICTURES, SOUNDS = 6, 3


def test_no_outputs_are_kept():
    cells = json.loads(TUTORIAL.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert TUTORIAL.stat().st_size < LARGEST_BYTES


@pytest.mark.slow
def test_it_runs_and_the_equaliser_helps():
    for needed in ("mkdocs", "nbclient", "ipykernel", "matplotlib"):
        require_package(needed)
    docs_site = load_script("scripts/docs_site.py")
    files = docs_site.notebook_page(TUTORIAL)
    page = files.pop("tutorial.md")
    assert len(files) == PICTURES
    for name, picture in files.items():
        assert f"]({name})" in page
        assert picture.startswith(b"\x89PNG")
    assert page.count("<audio") == SOUNDS
    before, after, best = (float(n) for n in re.findall(r"^\w[\w ]*: ([\d.]+) dB", page, re.M))
    assert after < min(0.7 * before, best + 0.5)
    rows = re.findall(r"distortion +([\d.]+) dB², equalised +([\d.]+) dB²", page)
    assert len(rows) == 2
    assert all(float(equalised) < 0.5 * float(plain) for plain, equalised in rows)
