# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build of the compiled parts; all else is in setup.cfg."""

import platform
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Bit-equality with libcodec2 needs float32 in the order written: no fused multiply-add, no
# reassociation. -O3 alone keeps to it.
EXACT = [
    "-O3",
    "-g0",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-D_GNU_SOURCE",
]

MODULES = {
    "codec2_eq.equalisers._affine": [],
    "codec2_eq.analysis.baseline": [],
    "codec2_eq.analysis.cpu": [],
    "codec2_eq.analysis.knots": [],
    "codec2_eq.vq._assignment": [],
    "codec2_eq.stream700c._decoded_level": [],
    "codec2_eq.audiofilter._level_control": [],
    "codec2_eq.equalisers._estimator": [],
    "codec2_eq.stream700c._pitch_code": [],
    "codec2_eq.equalisers._recursions": [],
    "codec2_eq.vq._search": [],
}
if platform.machine() == "x86_64":
    MODULES["codec2_eq.analysis.x86_64_v3"] = ["-march=x86-64-v3"]


def extension(name: str, flags: list[str]) -> Extension:
    """Describe one compiled module."""
    source = name.replace(".", "/") + ".pyx"
    headers = sorted(map(str, Path("codec2_eq").rglob("*.h")))
    return Extension(name, [source], depends=headers, extra_compile_args=[*EXACT, *flags])


DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True}

setup(
    ext_modules=cythonize(
        [extension(*module) for module in MODULES.items()], compiler_directives=DIRECTIVES
    )
)
