# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arrays of all types and shapes; padding; objects that several threads lay hands on."""

import copy
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_extraction import assert_same

import codec2_eq as ce
from codec2_eq.analysis import Analyser
from codec2_eq.audio.arrays import ArrayReader
from codec2_eq.audio.pool import Pool
from codec2_eq.audio.resample import Resampler
from codec2_eq.errors import Codec2EqError


@pytest.fixture(scope="module")
def stereo(speech):
    return np.stack([speech, np.roll(speech, 700) // 2], axis=1)


def read(samples, **options):
    return ArrayReader(**options).read(samples)


def test_the_type_alone_decides_on_the_scale():
    for samples, expected in (
        (np.array([-32768, 1], np.int16), [-32768, 1]),
        (np.array([0, 128, 255], np.uint8), [-32768, 0, 32512]),
        (np.array([-(2**31), 65536, 3], np.int32), [-32768, 1, 3 / 65536]),
        (np.array([-1, 0.25], np.float16), [-32768, 8192]),
        (np.array([-1, 0.25], np.float64), [-32768, 8192]),
    ):
        mono = read(samples)
        assert mono.dtype == np.float32
        np.testing.assert_array_equal(mono, expected)
    np.testing.assert_array_equal(read(np.array([5.0]), full_scale=32768), [5])


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.int8, bool, complex, object])
def test_other_types_are_refused(dtype):
    with pytest.raises(Codec2EqError, match="expected int16, int32, uint8 or float"):
        read(np.zeros(10, dtype))


def test_channels_are_mixed_or_chosen_whatever_the_axis(speech, stereo):
    mixed = ce.extract((speech + np.roll(speech, 700) // 2) / 2, full_scale=32768)
    for samples in (stereo, stereo.T, np.asfortranarray(stereo)):
        assert_same(ce.extract(samples), mixed)
        assert_same(ce.extract(samples, channel=1), ce.extract(speech))
        assert_same(ce.extract(samples, channel="2"), ce.extract(stereo[:, 1]))
    for samples in (speech[:, None], speech[None]):
        assert_same(ce.extract(samples), ce.extract(speech))


@pytest.mark.parametrize("channel", ["mix", 1, 2])
def test_channels_are_mixed_as_those_of_files(tmp_path, stereo, channel):
    floats = (stereo / 40_000).astype(np.float32)
    for samples, subtype in ((stereo, "PCM_16"), (floats, "FLOAT")):
        soundfile.write(tmp_path / "a.wav", samples, 8000, subtype=subtype)
        from_file = ce.extract_file(tmp_path / "a.wav", channel=channel)
        assert_same(ce.extract(samples, channel=channel), from_file)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, 900), max_size=12))
def test_blocks_of_channels_are_the_whole(sizes):
    samples = np.random.default_rng(3).normal(0, 0.1, (sum(sizes) + 500, 2))
    stream = ce.Extractor(channel=2)
    parts = np.split(samples, np.cumsum([40, *sizes]))  # the first tells the layout
    frames = [*map(stream.process, parts), stream.flush()]
    assert_same(ce.RateK.join(frames), ce.extract(samples[:, 1]))


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (np.zeros((20, 2)), {}, r"\(20, 2\): channels are .* at most 32, .*; pass one channel"),
        (np.zeros((80, 80)), {}, r"\(80, 80\): channels are taken"),
        (np.zeros(()), {}, r"\(\): expected \(n,\)"),
        (np.zeros((80, 2)), {"channel": 3}, "no channel 3 among 2"),
        (np.zeros(80), {"channel": 2}, "no channel 2 among 1"),
        (np.zeros(80), {"channel": 0}, "channel 0: expected 'mix' or a number from 1"),
        (np.zeros(80), {"channel": "left"}, "channel left: expected"),
        (np.where(np.arange(160) == 81, np.nan, 0.0).reshape(80, 2), {}, "sample 40 is NaN"),
    ],
)
def test_arrays_that_are_no_audio_are_refused(samples, options, message):
    with pytest.raises(Codec2EqError, match=message):
        ce.extract(samples, **options)


def test_a_stream_keeps_its_layout():
    stream = ce.Extractor()
    assert len(stream.process(np.zeros((0, 2)))) == 0
    stream.process(np.zeros((320, 2)))
    stream.process(np.zeros((1, 2)))
    with pytest.raises(Codec2EqError, match=r"\(2, 320\): expected 2 channels along axis 1"):
        stream.process(np.zeros((2, 320)))


def test_samples_far_beyond_full_scale_are_warned_of_once(caplog, speech):
    stream = ce.Extractor()
    with caplog.at_level(logging.WARNING, "codec2_eq"):
        for block in np.array_split(speech.astype(np.float32), 5):
            stream.process(block)
    (record,) = caplog.records
    assert "times full scale, which is 1; pass full_scale=32768" in record.getMessage()
    caplog.clear()
    ce.extract(speech)
    ce.extract(speech.astype(np.float32), full_scale=32768)
    ce.extract(speech / 32768 * 2)
    assert not caplog.records


def test_channels_that_cancel_are_warned_of(caplog, speech):
    with caplog.at_level(logging.WARNING, "codec2_eq"):
        ce.extract(np.stack([speech, -speech], axis=1))
    (record,) = caplog.records
    assert "cancel each other" in record.getMessage() and "channel=1" in record.getMessage()


@pytest.mark.parametrize(
    ("rate", "n_samples", "n_frames"),
    [
        (8000, 0, 0),
        (8000, 1, 1),
        (8000, 320, 1),
        (8000, 321, 2),
        (16_000, 6400, 10),
        (16_000, 6401, 11),
        (44_100, 17_640, 10),
        (44_100, 17_641, 11),
        (22_050.0, 8821, 11),
    ],
)
@pytest.mark.parametrize("knots", ["pick", "fit"])
def test_padding_gives_a_frame_for_each_begun(rate, n_samples, n_frames, knots):
    samples = np.random.default_rng(5).normal(0, 0.1, n_samples)
    padded = ce.extract(samples, rate, knots=knots, pad=True)
    plain = ce.extract(samples, rate, knots=knots)
    assert len(padded) == n_frames
    if knots == "pick":
        assert_same(padded[: len(plain)], plain[:n_frames])


def test_padding_is_zeros(speech):
    short = speech[:1000]
    assert_same(ce.extract(short, pad=True), ce.extract(np.pad(short, (0, 280))))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ce.Extractor(16_000),
        lambda: Resampler(16_000),
        lambda: ce.AudioEqualiser("cmn", 16_000),
        lambda: ce.StreamEncoder(rate=16_000),
        ce.StreamDecoder,
    ],
)
def test_a_second_thread_gets_a_clear_error(speech, make):
    stream = make()
    long = np.tile(speech, 40)
    given = ce.encode(long[:80_000], model="none") if make is ce.StreamDecoder else long
    start = threading.Barrier(8)

    def work():
        start.wait()
        try:
            return len(stream.process(given))
        except Codec2EqError as error:
            name = type(stream).__name__
            assert str(error) == (
                f"{name}: is in use by another thread; give each thread one of its own"
            )
            return -1

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: work(), range(8)))
    assert max(results) > 0 and min(results) == -1
    stream.process(given)  # it is free again


@pytest.mark.parametrize("model", ["mean", "700c", "cmn", "channel_eq"])
def test_a_second_thread_is_kept_out_of_an_equaliser(model):
    stream = ce.load_equaliser(model).stream()
    with stream._alone, ThreadPoolExecutor(1) as pool:
        second = pool.submit(stream.process, np.zeros((1, 20)))
        with pytest.raises(Codec2EqError, match="^EqualiserStream: is in use by another thread"):
            second.result()
        copied = copy.deepcopy(stream)
    np.testing.assert_array_equal(copied.process(np.eye(20)), stream.process(np.eye(20)))


def test_what_a_filter_has_learnt_is_not_read_by_a_second_thread():
    """Reading it analyses the samples that are waiting, which the filtering thread would lose."""
    filtering = ce.AudioEqualiser("cmn")
    with filtering._alone:
        for read in (filtering.state, lambda: filtering.curve_db):
            with pytest.raises(Codec2EqError, match="AudioEqualiser: is in use by another thread"):
                read()
    assert filtering.curve_db.shape == (20,)


def test_an_analyser_refuses_a_second_thread(speech):
    analyser, long = Analyser(4), np.tile(speech, 60).astype(np.float32)
    start = threading.Barrier(8)

    def work():
        start.wait()
        try:
            analyser.process(long)
        except RuntimeError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        errors = set(pool.map(lambda _: work(), range(8)))
    assert errors == {"", "analyser in use by another thread; give each thread its own"}


def test_states_are_checked():
    analyser = Analyser(1)
    state = analyser.state
    for wrong in (state[:-1], b"", None, 3, bytearray(state), state.decode("latin-1")):
        with pytest.raises(ValueError, match=f"expected {len(state)} bytes"):
            analyser.state = wrong
    with pytest.raises(ValueError, match="step of 1 hops"):
        analyser.state = b"\xff" * len(state)
    other = Analyser(4)
    other.process(np.zeros(240, np.float32))
    with pytest.raises(ValueError, match="step of 1 hops"):
        analyser.state = other.state
    analyser.state = state


def test_a_pool_keeps_a_few_of_any_kind():
    pool: Pool[str] = Pool(2)
    assert pool.take(1) is None
    for kind, idle in ((1, "a"), (2, "b"), (1, "c")):
        pool.give(kind, idle)
    assert pool.take(1) == "c"
    assert pool.take(1) is None
    assert pool.take(2) == "b"


def every_reader_of_arrays():
    eq = ce.load_equaliser("cmn")
    return [
        (ce.extract, "samples", np.zeros(800)),
        (ce.AudioEqualiser("cmn", 8000).process, "samples", np.zeros(800)),
        (eq, "vectors", np.zeros((5, 20))),
        (ce.Quantiser(ce.load_codebooks("700c")).quantise, "vectors", np.zeros((5, 20))),
    ]


@pytest.mark.parametrize(("reader", "what", "array"), every_reader_of_arrays())
def test_masked_values_are_not_taken_for_true_ones(reader, what, array):
    masked = np.ma.array(array, mask=array > 0)
    reader(masked)
    masked[3] = np.ma.masked
    with pytest.raises(
        Codec2EqError, match=rf"{what}: some are masked; fill them, for instance with .fill"
    ):
        reader(masked)


@pytest.mark.parametrize("data", [bytes(800), bytearray(800)])
def test_raw_bytes_are_no_samples_of_8_bits(data):
    with pytest.raises(Codec2EqError, match="expected an array; state its type: np.frombuffer"):
        ce.extract(data)


def test_the_order_of_bytes_does_not_matter(speech):
    swapped = speech.astype(speech.dtype.newbyteorder())
    np.testing.assert_array_equal(
        ce.AudioEqualiser("cmn", 8000).process(swapped),
        ce.AudioEqualiser("cmn", 8000).process(speech),
    )


@pytest.mark.parametrize("vectors", [np.zeros((2, 20), complex), np.zeros((2, 20), object), "x"])
def test_quantisers_take_numbers(vectors):
    with pytest.raises(Codec2EqError, match="vectors of type .*: expected float32"):
        ce.Quantiser(ce.load_codebooks("700c")).quantise(vectors)


def test_quantisers_refuse_numbers_beyond_float32():
    with pytest.raises(Codec2EqError, match="vector 0 holds NaN or infinity"):
        ce.Quantiser(ce.load_codebooks("700c")).quantise(np.full((1, 20), 1e300))
