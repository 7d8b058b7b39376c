# SPDX-License-Identifier: LGPL-2.1-or-later
"""The records of c2enc --mlfeat: written as c2enc does, and read back."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codec2_eq as ce
from codec2_eq.analysis import Analyser, harmonics_of_rate_k, window_transform
from codec2_eq.audio.stream import read_audio
from codec2_eq.cli import main
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.records import remove_mean
from codec2_eq.stream700c.features import FeatureStream
from codec2_eq.vectors import VectorReader

AMPLITUDES = slice(41, 201)


def read_record(path):
    with VectorReader(path) as reader:
        return reader.read()


def records_of(samples: np.ndarray) -> np.ndarray:
    return FeatureStream().process(samples.astype(np.float32))


@pytest.fixture
def file(speech, tmp_path) -> Path:
    path = tmp_path / "speech.mlfeat"
    records_of(speech).tofile(path)
    return path


# Written


def test_a_flat_spectrum_gives_its_own_amplitude():
    """Between the outer bands; beyond them parabolas lead to 0 dB at 0 and 4 kHz."""
    wo = np.array([2 * np.pi * 100 / 8000], np.float32)
    amplitudes = harmonics_of_rate_k(np.full((1, 20), 40, np.float32), wo, np.array([38], np.int32))
    np.testing.assert_allclose(amplitudes[0, 3:33], 100, rtol=1e-6)
    assert amplitudes[0, 0] < 100 > amplitudes[0, 37]
    assert not amplitudes[0, 38:].any()


def test_records_hold_mean_shape_and_what_the_quantiser_chose(speech):
    records = records_of(speech)
    frames = ce.extract(speech)
    mean, shapes = remove_mean(frames.vectors)
    np.testing.assert_array_equal(records[:, 0], mean)
    np.testing.assert_array_equal(records[:, 1:21], shapes)
    quantiser = ce.Quantiser(ce.load_codebooks("700c"))
    np.testing.assert_array_equal(records[:, 21:41], quantiser.quantise(shapes)[0])


def test_what_a_frame_does_not_define_is_left_from_those_before(speech):
    records = records_of(speech)[:, AMPLITUDES]
    *_, n_harm, _, amplitudes = Analyser(1, harmonics=True, linear=True).process(
        speech.astype(np.float32)
    )
    left = window_transform()[410:570]
    for hop, (n, written) in enumerate(zip(n_harm, amplitudes, strict=True)):
        left[1 : n + 1] = written[:n]
        if hop % 4 == 3:
            np.testing.assert_array_equal(records[hop // 4, n + 1 :], left[n + 1 :])
            assert records[hop // 4, 0] == left[0]


def test_the_harmonics_in_db_are_those_amplitudes(speech):
    samples = speech.astype(np.float32)
    in_db = Analyser(4, harmonics=True).process(samples)[-1]
    *_, n_harm, _, linear = Analyser(4, harmonics=True, linear=True).process(samples)
    defined = np.arange(linear.shape[1]) < n_harm[:, None]
    again = 20 * np.log10(linear[defined] + 1e-16)  # codec2's own guard against log(0)
    np.testing.assert_allclose(again, in_db[defined], rtol=0, atol=1e-4)


@given(st.lists(st.integers(0, 12000), max_size=4))
@settings(max_examples=15, deadline=None)
def test_any_division_into_blocks_gives_the_same_records(cuts):
    rng = np.random.default_rng(3)
    samples = np.round(rng.normal(0, 2000, 12000)).astype(np.float32)
    stream = FeatureStream()
    parts = [stream.process(part) for part in np.split(samples, sorted(cuts))]
    assert np.concatenate(parts).tobytes() == FeatureStream().process(samples).tobytes()


@pytest.mark.oracle
def test_defined_values_are_those_of_the_library(speech):
    oracle = libcodec2.oracle_mlfeat(speech)
    records = records_of(speech)
    np.testing.assert_array_equal(records[:, 0], oracle.mean_db)
    np.testing.assert_array_equal(records[:, 1:21], oracle.shapes)
    np.testing.assert_array_equal(records[:, 21:41], oracle.quantised)
    harmonic = np.arange(160)
    defined = (harmonic > 0) & (harmonic <= oracle.n_harm[:, None])
    np.testing.assert_array_equal(
        records[:, AMPLITUDES][defined], oracle.quantised_amplitudes[defined]
    )


@pytest.mark.oracle
@pytest.mark.slow
def test_files_are_byte_equal_to_those_of_c2enc(codec2_examples, c2enc, tmp_path):
    n_records = 0
    for path in codec2_examples:
        samples = read_audio(path).astype(np.int16)
        samples.tofile(tmp_path / "in.raw")
        names = [str(tmp_path / name) for name in ("in.raw", "bits", "theirs", "models")]
        arguments = [c2enc, "700C", *names[:2], "--mlfeat", *names[2:]]
        subprocess.run(arguments, check=True, capture_output=True)
        ours = str(tmp_path / "ours.mlfeat")
        assert main(["extract", "-q", names[0], "-f", "-o", ours]) == 0
        assert Path(ours).read_bytes() == Path(names[2]).read_bytes(), path
        n_records += Path(ours).stat().st_size // 804
    assert n_records > 5000


def test_extract_writes_them_by_suffix_and_by_format(samples_dir, tmp_path):
    audio = str(samples_dir / "espeak_male_1.wav")
    for name, more in (("a.mlfeat", []), ("b.f32", ["--format", "mlfeat"])):
        assert main(["extract", audio, "-o", str(tmp_path / name), *more]) == 0
    assert (tmp_path / "a.mlfeat").read_bytes() == (tmp_path / "b.f32").read_bytes()
    assert (tmp_path / "a.mlfeat").stat().st_size == 87 * 804


@pytest.mark.parametrize("more", [["--frame-ms", "10"], ["--knots", "fit"]])
def test_other_frames_are_refused(more, samples_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(
            [
                "extract",
                str(samples_dir / "flite_male_1.wav"),
                "-o",
                str(tmp_path / "a.mlfeat"),
                *more,
            ]
        )
    assert "omit --frame-ms and --knots" in capsys.readouterr().err


def test_run_writes_no_records(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "a.wav", "--format", "mlfeat"])
    assert "invalid choice: 'mlfeat'" in capsys.readouterr().err


# Read


@pytest.mark.parametrize("n_floats", [201, 41])
@pytest.mark.parametrize("n_records", [0, 1, 4, 5, 41, 80])
def test_both_kinds_are_read_as_vectors_with_energies(n_floats, n_records, speech, tmp_path):
    records = np.ascontiguousarray(records_of(speech)[:n_records, :n_floats])
    path = tmp_path / "x.mlfeat"
    records.tofile(path)
    record = read_record(path)
    np.testing.assert_array_equal(record.mean_db, records[:, 0])
    np.testing.assert_array_equal(record.vectors, records[:, 1:21] + records[:, :1])
    with VectorReader(path) as reader:
        assert reader.frame_ms == 40


@pytest.mark.parametrize("level", [0, 1, 30, 3000])
def test_the_kind_is_recognised_at_any_level(level, tmp_path):
    samples = np.random.default_rng(1).normal(0, level, 320 * 50)
    records = records_of(np.round(samples))
    for n_floats in (201, 41):
        path = tmp_path / f"{n_floats}.mlfeat"
        np.ascontiguousarray(records[:, :n_floats]).tofile(path)
        np.testing.assert_array_equal(read_record(path).mean_db, records[:, 0])


def test_they_are_within_rounding_of_the_extracted_vectors(file, speech):
    np.testing.assert_allclose(ce.read_vectors(file), ce.extract(speech).vectors, atol=2e-5)


def test_commands_read_them(file, tmp_path, capsys):
    named_f32 = tmp_path / "features.f32"
    named_f32.write_bytes(file.read_bytes())
    flat, quantised = str(tmp_path / "flat.npz"), str(tmp_path / "quantised.f32")
    assert main(["equalise", str(file), "-o", flat, "-m", "cmn"]) == 0
    np.testing.assert_array_equal(read_record(flat).mean_db, read_record(file).mean_db)
    told = ["--format", "mlfeat"]
    assert main(["vq", "quantise", str(named_f32), *told, "-o", quantised]) == 0
    np.testing.assert_array_equal(
        ce.read_vectors(quantised), np.fromfile(file, "<f4").reshape(-1, 201)[:, 21:41]
    )
    books = ["-o", str(tmp_path / "book"), "--sizes", "8,8"]
    assert main(["vq", "train", str(named_f32), *told, *books]) == 0
    capsys.readouterr()
    assert main(["info", str(file)]) == 0
    assert "frames          87\n" in capsys.readouterr().out


def test_only_extract_writes_them(file, tmp_path, capsys):
    assert main(["equalise", str(file), "-o", str(tmp_path / "other.mlfeat")]) == 1
    assert "other.mlfeat: .mlfeat is written only by extract" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("n_bytes", "problem"),
    [(87 * 804 - 4, "ends 800 bytes into a record of 201 float32"), (6, "ends 6 bytes into")],
)
def test_a_cut_file_is_reported(n_bytes, problem, file):
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(ce.Codec2EqError, match=problem):
        ce.read_vectors(file)


def test_values_that_are_no_decibels_are_an_error(file):
    records = np.fromfile(file, "<f4").reshape(-1, 201)
    records[5, 3] = np.nan
    records.tofile(file)
    with pytest.raises(ce.Codec2EqError, match="row 5 .* is not finite"):
        ce.read_vectors(file)
