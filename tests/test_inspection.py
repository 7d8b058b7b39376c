# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `info` tells of files, against what is known of them."""

import numpy as np
import pytest
import soundfile

import codec2_eq as ce
from codec2_eq.codec2.library import codebook_700c
from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.equalisers.state_file import save_state
from codec2_eq.errors import Codec2EqError
from codec2_eq.inspection.files import describe_file
from codec2_eq.vectors import FORMATS
from codec2_eq.vectors.reader import BLOCK_ROWS
from codec2_eq.vectors.writer import VectorWriter


def write(path, *blocks, **options):
    with VectorWriter(path, **options) as writer:
        for block in blocks:
            writer.write(block)
    return path


@pytest.mark.parametrize("format", [None, "f32"])
def test_a_pipe_without_end(monkeypatch, format):
    monkeypatch.setattr("codec2_eq.inspection.files.MAX_PIPED_BYTES", 3_000_000)
    with pytest.raises(
        Codec2EqError, match="^/dev/zero: does not end within 3,000,000 bytes, .*; store it in"
    ):
        describe_file("/dev/zero", format=format)


def test_a_pipe_as_long_as_may_be(monkeypatch, stdin):
    monkeypatch.setattr("codec2_eq.inspection.files.MAX_PIPED_BYTES", 16000)
    stdin(np.ones(4000, "<f4").tobytes())
    assert describe_file("-", format="f32")["frames"] == 200


def test_no_room_for_a_pipe(monkeypatch, stdin):
    def full(prefix):
        return open("/dev/full", "wb")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    stdin(bytes(80))
    with pytest.raises(Codec2EqError, match="^/dev/full: disk full; free some space"):
        describe_file("-")


def test_vectors_with_their_mean(tmp_path):
    rows = np.tile(np.array([10, 30], np.float32), (3, 10))
    rows[2] += 6
    facts = describe_file(write(tmp_path / "a.f32", rows))
    assert facts["kind"] == "vectors"
    assert (facts["frames"], facts["bands"]) == (3, 20)
    assert (facts["lowest_db"], facts["highest_db"]) == (10, 36)
    assert facts["spread_db"] == pytest.approx(10)
    assert facts["mean_vector_db"] == pytest.approx([12, 32] * 10)
    assert "duration_s" not in facts  # .f32 does not tell the frame interval


def test_all_blocks_count(tmp_path):
    rows = np.zeros((BLOCK_ROWS + 10, 20), np.float32)
    rows[0, :2] = -50, 50
    rows[-1] = 7
    facts = describe_file(write(tmp_path / "a.npy", rows))
    assert facts["frames"] == len(rows)
    assert (facts["lowest_db"], facts["highest_db"]) == (-50, 50)
    assert facts["kind"] == "vectors"  # one row of 7 has a mean


@pytest.mark.parametrize(
    "n_rows, offset, kind",
    [
        (512, 0, "codebook, or vectors without their mean"),
        (500, 0, "vectors without their mean"),
        (1, 0, "vectors without their mean"),
        (512, 0.02, "vectors"),
        (0, 0, "vectors"),
    ],
)
def test_what_may_be_a_codebook(tmp_path, n_rows, offset, kind):
    rows = np.resize(codebook_700c()[0], (n_rows, 20)).astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True) + np.float32(offset)
    assert describe_file(write(tmp_path / "a.f32", rows))["kind"] == kind


@pytest.mark.parametrize("frame_ms", [10, 40])
def test_npz_tells_interval_and_model(tmp_path, frame_ms):
    rows = np.ones((25, 20), np.float32)
    facts = describe_file(write(tmp_path / "a.npz", rows, model="cmn", frame_ms=frame_ms))
    assert facts["model"] == "cmn"
    assert facts["frame_ms"] == frame_ms
    assert facts["duration_s"] == 25 * frame_ms / 1000


@pytest.mark.parametrize("channels", [1, 2])
def test_audio(tmp_path, channels):
    soundfile.write(tmp_path / "a.wav", np.zeros((4000, channels)), 16000)
    assert describe_file(tmp_path / "a.wav") == {
        "kind": "audio",
        "rate_hz": 16000,
        "channels": channels,
        "duration_s": 0.25,
    }


def test_networks():
    facts = describe_file(models_dir() / "channel_eq.npz")
    assert facts["kind"] == "network"
    assert facts["name"] == "channel_eq"
    assert (facts["inputs"], facts["outputs"]) == (20, 20)
    assert facts["frame_ms"] == 40
    assert len(facts["sha256"]) == 64
    keras = models_dir() / "channel_eq.keras"
    assert describe_file(keras) == {
        "kind": "Keras model",
        "remedy": f"pass it to -m: codec2-eq run -m {keras}",
    }


def test_states(tmp_path):
    for name, learner, kind in (
        ("a.npz", load_equaliser("cmn").stream(), "state of an equaliser, for --load-state"),
        ("b.npz", ce.AudioEqualiser("cmn"), "state of a filter, for --load-state"),
    ):
        save_state(tmp_path / name, load_equaliser("cmn"), learner)
        facts = {"kind": kind, "model": "cmn", "frame_ms": 40}
        assert describe_file(tmp_path / name) == facts


def test_raw_audio_of_any_name(tmp_path):
    (tmp_path / "a.f32").write_bytes(bytes(800))
    assert describe_file(tmp_path / "a.f32", raw=True)["duration_s"] == 0.05


def test_formats_are_those_of_vectors(tmp_path):
    for format in FORMATS:
        path = write(tmp_path / f"a.{format}", np.ones((4, 20), np.float32))
        assert describe_file(path)["frames"] == 4
