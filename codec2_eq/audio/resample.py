# SPDX-License-Identifier: LGPL-2.1-or-later
"""Samples at any rate to 8 kHz, by soxr, chunk by chunk."""

from __future__ import annotations

import contextlib
import numbers
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec2_eq.audio.pool import Pool
from codec2_eq.codec2 import RATE_HZ
from codec2_eq.errors import Codec2EqError, OneThread

MAX_RATE_HZ = 1_000_000
"""Above any audio [Hz], which ends at 768 kHz: a rate beyond it means a damaged header. Spectra of
a quarter of a second at 10 MHz would take 700 MB."""

FLUSH_S = 0.04
"""Zeros that push out the end of a stream at a time [s]: once is usually enough."""


class Resampler:
    """Stream of samples at `rate` Hz to float32 at 8 kHz; the output does not depend on chunking.

    A sample comes out at most 80 ms after it went in (35 to 70 ms at the usual rates), as soxr
    computes in blocks. At 8 kHz samples pass unchanged.

    Raises Codec2EqError if rate is below 8 kHz or beyond any audio.
    """

    def __init__(self, rate: float) -> None:
        check_rate(rate)
        self.rate = rate
        self._stream: Any = None  # taken with the first samples, given back after the last
        self._n_in = self._n_out = 0
        self._alone = OneThread("Resampler")

    def process(self, samples: NDArray[Any], *, last: bool = False) -> NDArray[np.float32]:
        """Resample a chunk (n,), n >= 0; return the 0 or more samples (m,) that are ready.

        last : the input ends with it: return all samples, and start afresh
        """
        if np.ndim(samples) != 1:
            raise ValueError(f"samples of shape {np.shape(samples)}: expected (n_samples,)")
        if self.rate == RATE_HZ:
            return np.ascontiguousarray(samples, dtype=np.float32)
        with self._alone:  # soxr would crash
            if self._stream is None:
                self._stream = _idle_streams.take(self.rate) or _soxr_stream(self.rate)
            if last:
                return self._end(samples)
            ready = self._stream.resample_chunk(np.ascontiguousarray(samples, dtype=np.float32))
            self._n_in += len(samples)
            self._n_out += len(ready)
            return ready

    def flush(self) -> NDArray[np.float32]:
        """Return the samples still to come at the end of the input; then start afresh."""
        nothing = np.empty(0, np.float32)
        with self._alone:
            return nothing if self._stream is None else self._end(nothing)

    def _end(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Push the last samples out with zeros.

        soxr's own end computes two blocks of 8192 zeros, as long as 0.3 s of speech.
        """
        n_left = int((self._n_in + len(samples)) / (self.rate / RATE_HZ) + 0.5) - self._n_out
        padded = np.zeros(len(samples) + int(self.rate * FLUSH_S), np.float32)
        padded[: len(samples)] = samples
        ready = self._stream.resample_chunk(padded)
        while len(ready) < n_left:
            more = self._stream.resample_chunk(padded[len(samples) :])
            ready = np.concatenate([ready, more])
        self._stream.clear()
        _idle_streams.give(self.rate, self._stream)
        self._stream = None
        self._n_in = self._n_out = 0
        return ready[:n_left]


def to_8khz(samples: NDArray[Any], rate: float) -> NDArray[np.float32]:
    """Resample samples (n,) at `rate` Hz to 8 kHz float32, in the same scale.

    Raises Codec2EqError if rate is below 8 kHz.
    """
    return Resampler(rate).process(samples, last=True)


def check_rate(rate: float, name: str = "") -> None:
    """Raise Codec2EqError if `rate` [Hz], of the file `name`, cannot be brought to 8 kHz."""
    if not isinstance(rate, numbers.Real):
        raise Codec2EqError(name, f"sample rate {rate!r}", "expected a number of Hz")
    what = f"sample rate {rate:.10g} Hz: "
    if not rate >= RATE_HZ:
        raise Codec2EqError(
            name,
            f"{what}at least {RATE_HZ} Hz needed",
            f"take a recording of a higher rate, or raise it first (sox IN -r {RATE_HZ} OUT)",
        )
    if not rate <= MAX_RATE_HZ:
        raise Codec2EqError(name, f"{what}at most {MAX_RATE_HZ} Hz; is the header damaged?")


_soxr_lock = threading.Lock()

_idle_streams: Pool[Any] = Pool(4)
"""soxr streams, by their rate: a new one costs as much as resampling 0.4 s."""


def _soxr_stream(rate: float) -> Any:
    import soxr

    # soxr's default block for its FFT holds samples back for up to 160 ms; the smaller one costs
    # no more time.
    with _soxr_lock, _soxr_environment({"SOXR_LARGE_DFT_SIZE": "10"}):
        return soxr.ResampleStream(rate, RATE_HZ, 1, dtype="float32", quality="HQ")


@contextlib.contextmanager
def _soxr_environment(settings: dict[str, str]) -> Iterator[None]:
    """Have soxr, which reads its variables when a stream is made, see these and no others."""
    before = {name: value for name, value in os.environ.items() if name.startswith("SOXR_")}
    for name in before:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]
        os.environ.update(before)
