# SPDX-License-Identifier: LGPL-2.1-or-later
"""700C streams: their bits, equality with libcodec2, levels, pieces and errors."""

import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec2_eq import vq
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.heard import heard_error
from codec2_eq.bench.shaping import load_shaping
from codec2_eq.cli import main
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract
from codec2_eq.stream700c import codec, frames
from codec2_eq.stream700c._pitch_code import encode_pitch
from codec2_eq.stream700c.level import TOLERANCE_DB

MODELS_OF_CODEC2 = {"none": False, "700c": True}


def rms_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples.astype(float)))))


def own_codebooks() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return tuple(np.ascontiguousarray(c[rng.permutation(512)]) for c in libcodec2.codebook_700c())


# ---- the bits -------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 511), st.integers(0, 511), st.integers(0, 15), st.integers(0, 63)),
        min_size=1,
        max_size=9,
    )
)
def test_frames_unpack_to_what_was_packed(fields):
    columns = np.array(fields)
    bits = frames.pack_frames(columns[:, :2], columns[:, 2], columns[:, 3])
    assert len(bits) == 4 * len(fields)
    indexes, energies, codes = frames.unpack_frames(bits)
    np.testing.assert_array_equal(np.column_stack([indexes, energies, codes]), columns)


def test_fields_stand_most_significant_first():
    bits = frames.pack_frames(
        np.array([[0b101010101, 0b111000111]]), np.array([0b1001]), np.array([0b110011])
    )
    assert int.from_bytes(bits, "big") == 0b101010101_111000111_1001_110011_0000


def test_pitch_code_covers_the_octaves_and_keeps_0_for_unvoiced():
    periods = np.array([160, 20, 160, 160 / 2**1.5, 159], np.float64)
    wo = (6.283185307 / periods).astype(np.float32)
    voiced = np.array([True, True, False, True, True])
    np.testing.assert_array_equal(encode_pitch(wo, voiced), [1, 63, 0, 32, 1])


# ---- equality with libcodec2 ----------------------------------------------------------------


@pytest.mark.parametrize("model, eq", MODELS_OF_CODEC2.items())
def test_streams_without_own_equaliser_are_libcodec2s(sample_files, model, eq):
    for path in sample_files:
        samples = read_audio(path).astype(np.int16)
        assert codec.encode(samples, model=model) == libcodec2.oracle_mlfeat(samples, eq=eq).bits, (
            path.name
        )


@pytest.mark.parametrize("model, eq", MODELS_OF_CODEC2.items())
def test_streams_with_own_codebooks_are_libcodec2s(speech, model, eq):
    own = own_codebooks()
    want = libcodec2.oracle_mlfeat(speech, eq=eq, codebooks=own).bits
    assert codec.encode(speech, model=model, codebooks=own) == want
    assert codec.encode(speech, model=model) != want


def test_the_variance_is_that_of_c2enc(speech):
    for model, eq in MODELS_OF_CODEC2.items():
        encoder = codec.StreamEncoder(model)
        encoder.process(speech)
        oracle = libcodec2.oracle_mlfeat(speech, eq=eq)
        assert encoder.statistics.variance == pytest.approx(oracle.variance, rel=1e-4)
        error = oracle.shapes.astype(float) - oracle.quantised
        assert encoder.statistics.distortion == pytest.approx(error.var(axis=1).mean(), rel=1e-4)


def c2enc_bits(c2enc, samples, folder, *options) -> bytes:
    raw = folder / "in.raw"
    samples.astype("<i2").tofile(raw)
    return subprocess.run(
        [c2enc, "700C", str(raw), "-", *options], capture_output=True, check=True
    ).stdout


@pytest.mark.oracle
@pytest.mark.parametrize("model, options", [("none", []), ("700c", ["--eq"])])
def test_every_classic_sample_gives_the_bytes_of_c2enc(
    codec2_examples, c2enc, tmp_path, model, options
):
    for path in codec2_examples:
        samples = read_audio(path).astype(np.int16)
        want = c2enc_bits(c2enc, samples, tmp_path, *options)
        assert codec.encode(samples, model=model) == want, path.name


@pytest.mark.oracle
@pytest.mark.parametrize("model, options", [("none", []), ("700c", ["--eq"])])
def test_italian_prompts_give_the_bytes_of_c2enc(speech_dir, c2enc, tmp_path, model, options):
    paths = sorted((speech_dir / "audio" / "asterisk-core-sounds-it-wav").rglob("*.wav"))
    assert len(paths) > 300
    for path in paths:
        samples = read_audio(path).astype(np.int16)
        want = c2enc_bits(c2enc, samples, tmp_path, *options)
        assert codec.encode(samples, model=model) == want, path.name


@pytest.mark.oracle
def test_own_codebooks_give_the_bytes_of_c2enc_loadcb(codec2_examples, c2enc, tmp_path):
    names = [str(tmp_path / f"{i}.f32") for i in (1, 2)]
    for name, codebook in zip(names, own_codebooks(), strict=True):
        vq.save_codebook(name, codebook)
    loads = ["--loadcb", "1", names[0], "--loadcb", "2", names[1]]
    for path in codec2_examples[::6]:
        samples = read_audio(path).astype(np.int16)
        want = c2enc_bits(c2enc, samples, tmp_path, *loads)
        assert codec.encode(samples, model="none", codebooks=own_codebooks()) == want


@pytest.mark.oracle
@pytest.mark.parametrize("model", ["none", "700c", "mean", "cmn"])
def test_c2dec_plays_the_streams(c2dec, speech, tmp_path, model):
    path = tmp_path / "a.c2"
    path.write_bytes(frames.HEADER + codec.encode(speech, model=model))
    played = subprocess.run([c2dec, "700C", str(path), "-"], capture_output=True, check=True)
    samples = np.frombuffer(played.stdout, "<i2")
    assert len(samples) == len(speech) // 320 * 320
    ours = codec.decode(path.read_bytes())
    assert abs(rms_db(samples) - rms_db(ours)) < 0.3


# ---- level ---------------------------------------------------------------------------------


STEP_DB = 2.5  # of the energy
CLASSIC = [
    "hts1a",
    "hts2a",
    "cq_ref",
    "ve9qrp_10s",
    "vk5qi",
    "big_dog",
    "kristoff",
    "mmt1",
    "forig",
    "morig",
    "g3plx",
    "cross",
    "f2400",
    "m2400",
]


@pytest.fixture(scope="module")
def classic(codec2_examples):
    found = {p.stem: read_audio(p).astype(np.int16) for p in codec2_examples if p.stem in CLASSIC}
    assert sorted(found) == sorted(CLASSIC)
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("model", ["none", "700c", "cmn"])
def test_auto_brings_classic_samples_near_each_other_at_any_level(classic, model, clipped):
    agreeing, at_an_end = [], []
    for samples in classic.values():
        mean_db = libcodec2.oracle_mlfeat(samples).mean_db
        active = mean_db > np.percentile(mean_db, 95) - 20
        heard = active & (np.cumsum(active) > 25)
        energies = []
        for gain_db in (-18, -12, -6, 0, 6):
            louder = samples * np.float32(10 ** (gain_db / 20) / 32768)
            if clipped:  # as a file of 16 bits would have it: at +6 dB most of these do
                louder = np.clip(np.round(louder * 32768), -32768, 32767).astype(np.int16)
            bits = codec.encode(louder, model=model, level="auto")
            energies.append(frames.unpack_frames(bits)[1][heard])
        agreeing.append(np.ptp(energies, axis=0) * STEP_DB < 2 * TOLERANCE_DB + STEP_DB)
        at_an_end.append(np.isin(energies, (0, 15)))
    assert np.concatenate(agreeing).mean() > 0.95
    assert np.concatenate(at_an_end, axis=1).mean() < 0.02


def test_defaults_of_the_level(speech):
    quiet = speech // 8
    for model in ("none", "700c"):
        kept = codec.encode(quiet, model=model)
        assert kept == codec.encode(quiet, model=model, level="keep")
        assert kept != codec.encode(quiet, model=model, level="auto")
    auto = codec.encode(quiet, model="cmn")
    assert auto == codec.encode(quiet, model="cmn", level="auto")
    assert auto != codec.encode(quiet, model="cmn", level="keep")


@pytest.mark.oracle
def test_more_is_heard_of_classic_samples_than_of_c2encs_streams(classic):
    """The claim: through a boomy microphone, too, and there hardly less than without."""
    totals: dict[tuple[str, str], list[float]] = {}
    for samples in classic.values():
        reference = extract(samples, frame_ms=10).vectors
        for shaping in ("none", "boom", "tilt+6"):
            shaped = np.round(load_shaping(shaping)(samples)).astype(np.int16)
            for encoder, model in {"c2enc": "none", "--eq": "700c", "": "channel_eq"}.items():
                found = heard_error(codec.encode(shaped, model=model), reference)
                totals.setdefault((encoder, shaping), []).append(found.total)
    mean = {key: np.mean(values) for key, values in totals.items()}
    for shaping in ("none", "boom", "tilt+6"):
        assert mean["", shaping] < min(mean["c2enc", shaping], mean["--eq", shaping]), mean
    assert mean["", "boom"] < 1.2 * mean["", "none"], mean


# ---- streaming ------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 9000), max_size=6),
    model=st.sampled_from(["none", "700c", "cmn", "channel_eq"]),
    level=st.sampled_from(["keep", "auto"]),
    knots=st.sampled_from(["pick", "fit"]),
)
def test_any_chunks_give_the_same_bytes(speech, cuts, model, level, knots):
    samples = speech[:9000]
    encoder = codec.StreamEncoder(model, level=level, knots=knots)
    edges = [0, *sorted(cuts), len(samples)]
    bits = b"".join(encoder.process(samples[a:b]) for a, b in zip(edges, edges[1:], strict=False))
    assert bits + encoder.flush() == codec.encode(samples, model=model, level=level, knots=knots)
    assert encoder.statistics.n_vectors == 9000 // 320


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 47), max_size=5), header=st.booleans())
def test_decoding_takes_any_pieces(cuts, header):
    stream = bytes(range(100, 140))
    whole = frames.HEADER * header + stream
    decoder = codec.StreamDecoder()
    edges = [0, *sorted(min(c, len(whole)) for c in cuts), len(whole)]
    speech = [decoder.process(whole[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    assert sum(map(len, speech)) == 320 * 10
    assert decoder.flush() == 0


def test_a_frame_waits_for_80_ms(speech):
    encoder = codec.StreamEncoder()
    assert len(encoder.process(speech[: 320 * 7])) == 4 * 5
    assert len(encoder.flush()) == 4 * 2


def test_other_rates_and_nothing():
    assert codec.encode(np.zeros(0, np.int16)) == b""
    assert codec.encode(np.zeros(319, np.int16)) == b""
    assert len(codec.encode(np.zeros(48000, np.float32), 48000, model="none")) == 4 * 25
    assert len(codec.decode(b"")) == 0


def test_the_package_offers_it(speech):
    import codec2_eq as ce

    bits = ce.encode(speech, model="none")
    encoder = ce.StreamEncoder("none")
    assert encoder.process(speech) + encoder.flush() == bits
    assert len(ce.decode(bits)) == len(bits) // 4 * 320


# ---- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, message",
    [
        (frames.HEADER[:5] + b"\x05\x00" + bytes(8), "mode 1200, only 700C"),
        (frames.HEADER[:5] + b"\x63\x00" + bytes(8), "mode number 99, only 700C"),
        (frames.HEADER[:5], "ends within its header of 7 bytes"),
        (frames.HEADER + bytes(10), "ends 2 bytes into a frame of 4: the stream is cut"),
        (bytes(7), "ends 3 bytes into a frame"),
        (b"RIFF" + bytes(400), "is audio, not a 700C stream; encode it first"),
        (b"fLaC" + bytes(8), "is audio, not a 700C stream"),
        ("a.c2", "stream of type str: bytes expected; read the file first"),
    ],
)
def test_bad_streams_are_refused(data, message):
    with pytest.raises(Codec2EqError, match=message):
        codec.decode(data)


def test_a_cut_stream_can_be_decoded_as_far_as_it_goes():
    assert len(codec.decode(frames.HEADER + bytes(10), partial=True)) == 2 * 320


def test_a_model_is_a_name_a_path_or_an_equaliser_of_40_ms_frames(speech):
    path = models_dir() / "channel_eq.npz"
    assert codec.encode(speech, model=path) == codec.encode(speech, model=str(path))
    with pytest.raises(Codec2EqError, match="cmn: was loaded for frames 20 ms apart, 40 ms exp"):
        codec.encode(speech, model=load_equaliser("cmn", frame_ms=20))


def test_codebooks_must_fit_the_bits():
    with pytest.raises(Codec2EqError, match=r"two stages of \(512, 20\)"):
        codec.encode(np.zeros(320, np.int16), model="none", codebooks=[np.zeros((256, 20))] * 2)
    with pytest.raises(Codec2EqError, match=r"two stages of \(512, 20\)"):
        codec.decode(bytes(4), codebooks=[np.zeros((512, 20))])


def as_bits(stream):
    """Return the 28 bits of each frame of a stream without header, one a byte."""
    return np.unpackbits(np.frombuffer(stream, np.uint8).reshape(-1, 4), axis=1)[:, :28].ravel()


@pytest.mark.parametrize("header", [b"", frames.HEADER])
@pytest.mark.parametrize(
    ("spread", "message"),
    [
        (lambda bits: bits, "holds one bit a byte; encode without --bitperchar, or decode it wit"),
        (lambda bits: (1 - 2.0 * bits).astype("<f4"), "holds one soft bit in 4 bytes; encode with"),
        (lambda bits: (127 - 254 * bits.astype(int)).astype(np.int8), "holds one soft bit a byte"),
        (lambda bits: bits * np.uint8(255), "holds one "),
        (lambda bits: bits + np.uint8(ord("0")), "holds one "),
        (lambda bits: (bits * 200 + 20).astype(np.uint8), "holds one soft bit a byte, or no 700C"),
    ],
)
def test_streams_of_single_bits_are_recognised(speech, tmp_path, capsys, header, spread, message):
    bits = as_bits(codec.encode(speech[:8000], model="none"))
    path = tmp_path / ("a.c2" if header else "a.bits")
    path.write_bytes(header + spread(bits).tobytes())
    assert main(["decode", str(path), "-o", str(tmp_path / "a.wav")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"codec2-eq: error: {path}: {message}") and error.count("\n") == 1
    assert not (tmp_path / "a.wav").exists()
    for size in (1, 3, 50):
        decoder = codec.StreamDecoder()
        with pytest.raises(Codec2EqError, match="stream: holds one"):
            for start in range(0, 400, size):
                decoder.process((header + spread(bits).tobytes())[start : start + size])
    if header:
        assert main(["info", str(path)]) == 1
        assert message in capsys.readouterr().err
