# SPDX-License-Identifier: LGPL-2.1-or-later
import os
import threading

import numpy as np
import pytest

from codec2_eq.codec2 import library as libcodec2
from codec2_eq.errors import Codec2EqError


def noise(n_frames: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(0, 2000, 320 * n_frames)).astype(np.int16)


def buzz(n_frames: int) -> np.ndarray:
    """Voiced throughout: the decoder draws the phases of unvoiced frames by chance."""
    samples = np.random.default_rng(2).normal(0, 20, 320 * n_frames)
    samples[::64] += 12000
    return np.round(samples).astype(np.int16)


def assert_same_speech(one: np.ndarray, other: np.ndarray, same: bool = True) -> None:
    """From the third frame on (the decoder starts from an unvoiced one), within 0.5 %.

    The weakest harmonics keep random phases in voiced frames too.
    """
    assert len(one) == len(other)
    difference = np.abs(one[640:].astype(int) - other[640:]).max()
    assert (difference < 0.005 * np.abs(one[640:].astype(int)).max()) == same


def test_codebooks_are_zero_mean_and_not_the_callers_to_change():
    first, second = libcodec2.codebook_700c()
    assert first.shape == second.shape == (512, 20)
    assert first.dtype == np.float32
    # each entry of the first stage was trained on mean-removed vectors
    assert np.abs(first.mean(axis=1)).max() < 1e-2
    first[:] = 0
    assert libcodec2.codebook_700c()[0].any()


def test_energy_levels_are_16_steps_of_2_5_db():
    np.testing.assert_array_equal(libcodec2.energy_codebook(), 10 + 2.5 * np.arange(16))


def test_pitch_low_pass_is_symmetric_with_unit_gain():
    fir = libcodec2.nlp_fir()
    assert fir.shape == (48,)
    np.testing.assert_array_equal(fir, fir[::-1])
    assert abs(fir.sum() - 1) < 0.01


def test_oracle_gives_a_row_per_whole_frame_and_the_bits():
    o = libcodec2.oracle_mlfeat(np.append(noise(7), noise(1)[:319]))
    assert o.shapes.shape == o.quantised.shape == (7, 20)
    assert o.amplitudes.shape == (7, 161)
    assert len(o.bits) == 4 * 7
    assert np.abs(o.shapes.mean(axis=1)).max() < 1e-3
    assert 9 <= o.n_harm.min() <= o.n_harm.max() <= 79
    for row, n_harm in zip(o.amplitudes, o.n_harm, strict=True):
        assert row[0] == 0
        assert not row[n_harm + 1 :].any()
        assert row[1 : n_harm + 1].all()
    distortion = np.mean((o.shapes - o.quantised) ** 2)
    assert abs(distortion - o.variance) < 1e-3


def test_oracle_of_nothing_is_empty():
    o = libcodec2.oracle_mlfeat(np.zeros(319, np.int16))
    assert o.shapes.shape == (0, 20)
    assert o.bits == b""


def test_oracle_leaks_no_file_descriptors():
    libcodec2.oracle_mlfeat(noise(1))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        libcodec2.oracle_mlfeat(noise(1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_front_equaliser_changes_the_shapes_and_not_the_mean():
    plain, equalised = (libcodec2.oracle_mlfeat(noise(20), eq=eq) for eq in (False, True))
    np.testing.assert_array_equal(plain.mean_db, equalised.mean_db)
    assert np.abs(plain.shapes - equalised.shapes).max() > 0.1


def test_own_codebooks_serve_and_libcodec2_gets_its_own_back():
    own = tuple(np.ascontiguousarray(c[::-1]) for c in libcodec2.codebook_700c())
    plain = libcodec2.oracle_mlfeat(buzz(8))
    swapped = libcodec2.oracle_mlfeat(buzz(8), codebooks=own)
    assert plain.voiced.all()
    np.testing.assert_array_equal(plain.quantised, swapped.quantised)
    assert plain.bits != swapped.bits
    speech = libcodec2.Decoder700C().decode(plain.bits)
    assert np.abs(speech).max() > 1000
    assert_same_speech(speech, libcodec2.Decoder700C(own).decode(swapped.bits))
    assert_same_speech(speech, libcodec2.Decoder700C().decode(plain.bits))
    assert_same_speech(speech, libcodec2.Decoder700C().decode(swapped.bits), same=False)
    assert libcodec2.oracle_mlfeat(buzz(8)).bits == plain.bits


def test_own_codebooks_in_one_thread_leave_the_others_alone():
    own = tuple(np.zeros((512, 20), np.float32) for _ in range(2))
    want = libcodec2.oracle_mlfeat(noise(30)).bits
    got = []
    threads = [
        threading.Thread(
            target=lambda c=c: got.append(
                (c is None, libcodec2.oracle_mlfeat(noise(30), codebooks=c).bits)
            )
        )
        for c in (None, own, None, own)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert all((bits == want) == plain for plain, bits in got)


def test_decoder_gives_the_same_in_any_pieces():
    bits = libcodec2.oracle_mlfeat(buzz(6)).bits
    decoder = libcodec2.Decoder700C()
    pieces = [decoder.decode(bits[a:b]) for a, b in ((0, 4), (4, 4), (4, 20), (20, 24))]
    whole = libcodec2.Decoder700C().decode(bits)
    assert len(whole) == 6 * 320
    assert_same_speech(whole, np.concatenate(pieces))


def test_errors_name_the_limit():
    with pytest.raises(Codec2EqError, match="5 bytes: 700C frames have 4 bytes"):
        libcodec2.Decoder700C().decode(b"12345")
    with pytest.raises(Codec2EqError, match=r"needs two of \(512, 20\)"):
        libcodec2.Decoder700C([np.zeros((256, 20))]).decode(b"1234")
    with pytest.raises(Codec2EqError, match="expected one channel"):
        libcodec2.oracle_mlfeat(np.zeros((2, 320), np.int16))


def test_a_missing_library_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setattr(libcodec2, "_candidates", lambda: iter(["/nonexistent.so"]))
    with pytest.raises(Codec2EqError, match="pip install pycodec2"):
        libcodec2.library.__wrapped__()


def test_the_fallback_route_finds_the_same_tables():
    paths = [p for p in libcodec2._candidates() if "libcodec2" in os.path.basename(p)]
    assert paths, "pycodec2's metadata names no libcodec2"


def test_a_library_without_the_table_is_said():
    with pytest.raises(Codec2EqError, match="does not export no_such_table"):
        libcodec2._table_structs("no_such_table")
