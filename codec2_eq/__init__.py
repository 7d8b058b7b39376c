# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech to Codec 2 rate-K vectors, equalised and ready for a vector quantiser.

>>> import codec2_eq as ce
>>> f = ce.extract(samples, rate)              # doctest: +SKIP
>>> flat = ce.load_equaliser("mean_removal")(f.vectors)    # doctest: +SKIP

Names are imported when first used, so that a program pays only for what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # named twice: for type checkers they are then names of this package
    from codec2_eq.audiofilter.equaliser import AudioEqualiser as AudioEqualiser
    from codec2_eq.corpus import batch as batch
    from codec2_eq.corpus import open_corpus as open_corpus
    from codec2_eq.equalisers.equaliser import Equaliser as Equaliser
    from codec2_eq.equalisers.equaliser import EqualiserStream as EqualiserStream
    from codec2_eq.equalisers.equaliser import available_models as available_models
    from codec2_eq.equalisers.equaliser import load_equaliser as load_equaliser
    from codec2_eq.errors import Codec2EqError as Codec2EqError
    from codec2_eq.extraction import Extractor as Extractor
    from codec2_eq.extraction import extract as extract
    from codec2_eq.extraction import extract_file as extract_file
    from codec2_eq.pictures import plot as plot
    from codec2_eq.records import RateK as RateK
    from codec2_eq.stream700c.codec import StreamDecoder as StreamDecoder
    from codec2_eq.stream700c.codec import StreamEncoder as StreamEncoder
    from codec2_eq.stream700c.codec import decode as decode
    from codec2_eq.stream700c.codec import encode as encode
    from codec2_eq.vectors import VectorReader as VectorReader
    from codec2_eq.vectors import VectorWriter as VectorWriter
    from codec2_eq.vectors import read_vectors as read_vectors
    from codec2_eq.vq import Quantiser as Quantiser
    from codec2_eq.vq import load_codebooks as load_codebooks

__version__ = "0.1.0"

_HOME = {
    "audiofilter.equaliser": ("AudioEqualiser",),
    "corpus": ("batch", "open_corpus"),
    "equalisers.equaliser": (
        "Equaliser",
        "EqualiserStream",
        "available_models",
        "load_equaliser",
    ),
    "errors": ("Codec2EqError",),
    "extraction": ("Extractor", "extract", "extract_file"),
    "pictures": ("plot",),
    "records": ("RateK",),
    "stream700c.codec": ("StreamDecoder", "StreamEncoder", "decode", "encode"),
    "vectors": ("VectorReader", "VectorWriter", "read_vectors"),
    "vq": ("Quantiser", "load_codebooks"),
}
"""Public names by the module they come from."""

__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"codec2_eq.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'codec2_eq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
