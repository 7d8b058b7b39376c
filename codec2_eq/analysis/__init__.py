# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled analysis, in the variant that suits the processor.

The variants are one source compiled for several instruction sets; they give the same bits.
``CODEC2_EQ_ISA=baseline`` in the environment holds the package to the portable one.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from codec2_eq.analysis.cpu import supports
from codec2_eq.errors import Codec2EqError

VARIANTS = ("x86_64_v4", "x86_64_v3", "baseline")
"""Compiled variants, best first."""


def available_variants() -> list[str]:
    """Names of the variants that this processor runs, best first."""
    return [name for name in VARIANTS if supports(name)]


def load_variant(name: str) -> ModuleType:
    """Import one variant by name.

    Raises Codec2EqError if there is no such variant or the processor cannot run it.
    """
    if name not in available_variants():
        raise Codec2EqError(
            f"CODEC2_EQ_ISA={name}",
            "not an instruction set of this machine",
            f"choose from {', '.join(available_variants())}, or unset it",
        )
    return importlib.import_module(f"codec2_eq.analysis.{name}")


ISA = os.environ.get("CODEC2_EQ_ISA") or available_variants()[0]
"""The variant in use."""

_variant = load_variant(ISA)
Analyser = _variant.Analyser
band_centres_hz = _variant.band_centres_hz
harmonics_of_rate_k = _variant.harmonics_of_rate_k
rate_k_less_curves = _variant.rate_k_less_curves
window_transform = _variant.window_transform
