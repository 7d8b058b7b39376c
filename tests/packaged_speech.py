# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recordings as packages hold them, and the table of those packages."""

import numpy as np
import soundfile as sf
from conftest import load_script

packages = load_script("scripts/speech_packages.py")


def source_of(package):
    return next(source for source in packages.SOURCES if source.package == package)


def tone(seed, seconds=0.1, rate_hz=8000):
    noise = np.random.default_rng(seed).normal(size=int(seconds * rate_hz))
    return np.clip(noise * 3000, -32768, 32767).astype(np.int16)


def write(root, path, samples, rate_hz=8000, **options):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".raw":
        samples.astype("<i2").tofile(target)
    else:
        sf.write(target, samples, rate_hz, **options)
    return target
