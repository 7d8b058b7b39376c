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

if TYPE_CHECKING:
    from codec2_eq.c2stream import StreamDecoder, StreamEncoder, decode, encode
    from codec2_eq.corpus import batch, open_corpus
    from codec2_eq.equalise import Equaliser, EqualiserStream, available_models, load_equaliser
    from codec2_eq.errors import Codec2EqError
    from codec2_eq.extraction import Extractor, extract, extract_file
    from codec2_eq.records import RateK
    from codec2_eq.vectors import VectorWriter, read_vectors
    from codec2_eq.vq import Quantiser, load_codebooks

__version__ = "0.1.0"

_HOME = {
    "Codec2EqError": "errors",
    "Equaliser": "equalise",
    "EqualiserStream": "equalise",
    "Extractor": "extraction",
    "Quantiser": "vq",
    "RateK": "records",
    "StreamDecoder": "c2stream",
    "StreamEncoder": "c2stream",
    "VectorWriter": "vectors",
    "available_models": "equalise",
    "decode": "c2stream",
    "encode": "c2stream",
    "batch": "corpus",
    "extract": "extraction",
    "extract_file": "extraction",
    "load_codebooks": "vq",
    "load_equaliser": "equalise",
    "open_corpus": "corpus",
    "read_vectors": "vectors",
}

__all__ = [
    "Codec2EqError",
    "Equaliser",
    "EqualiserStream",
    "Extractor",
    "Quantiser",
    "RateK",
    "StreamDecoder",
    "StreamEncoder",
    "VectorWriter",
    "available_models",
    "decode",
    "encode",
    "batch",
    "extract",
    "extract_file",
    "load_codebooks",
    "load_equaliser",
    "open_corpus",
    "read_vectors",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'codec2_eq' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"codec2_eq.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
