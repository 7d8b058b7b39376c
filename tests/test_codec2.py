# SPDX-License-Identifier: LGPL-2.1-or-later
"""Codec 2's numbers: the same in both languages, and the library's own."""

import re
from pathlib import Path

import numpy as np

from codec2_eq import analysis, codec2
from codec2_eq.codec2 import library as libcodec2


def test_compiled_modules_have_the_same_numbers():
    text = Path(codec2.__file__).with_suffix(".pxd").read_text()
    compiled = dict(re.findall(r"^    (\w+) = (\d+)$", text, re.MULTILINE))
    assert len(compiled) >= 7
    for name, value in compiled.items():
        assert getattr(codec2, name) == int(value), name


def test_they_are_the_librarys():
    stages = libcodec2.codebook_700c()
    assert [stage.shape for stage in stages] == [codec2.STAGE_SHAPE] * 2
    mean = sum(stage.mean(axis=0, dtype=float) for stage in stages)
    np.testing.assert_allclose(codec2.CODEBOOK_MEAN_DB, mean, rtol=0, atol=1e-4)
    assert libcodec2.energy_codebook().min() == codec2.LOWEST_ENERGY_DB
    assert len(analysis.band_centres_hz()) == codec2.K
