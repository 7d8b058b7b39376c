# SPDX-License-Identifier: LGPL-2.1-or-later
"""Archives as other tools read them, and level and pitch beside the vectors."""

import json
import pickle

import numpy as np
import pytest
from corpora import batch, write_clip

import codec2_eq as ce
from codec2_eq.errors import Codec2EqError


@pytest.fixture
def audio(tmp_path, speech):
    for i, name in enumerate(("a.wav", "b.wav", "deep/c d.wav")):
        write_clip(tmp_path / "audio" / name, speech, 500 * i, 9000 + 640 * i)
    return tmp_path / "audio"


@pytest.mark.parametrize("layout", ["kaldi", "webdataset"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_archives(audio, tmp_path, layout, jobs):
    batch(audio, tmp_path / "tree")
    batch(audio, tmp_path / "out", layout=layout, jobs=jobs)
    wanted = list(ce.open_corpus(tmp_path / "tree").arrays())
    corpus = pickle.loads(pickle.dumps(ce.open_corpus(tmp_path / "out")))
    for utterance, vectors in zip(corpus, wanted, strict=True):
        np.testing.assert_array_equal(corpus.vectors(utterance), vectors)
    np.testing.assert_array_equal(corpus.all(), np.concatenate(wanted))
    np.testing.assert_array_equal(corpus.frames(20, 60), np.concatenate(wanted)[20:60])
    assert batch(audio, tmp_path / "out", layout=layout).run_recordings == 0
    path = tmp_path / "out" / corpus[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + b"\0" * (len(whole) - 2000))
    assert batch(audio, tmp_path / "out", layout=layout).run_recordings == 3
    assert path.read_bytes() == whole


def test_kaldi_archives_as_kaldiio_reads_them(audio, tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    batch(audio, tmp_path / "out", layout="kaldi")
    corpus = ce.open_corpus(tmp_path / "out")
    found = kaldiio.load_scp(str(tmp_path / "out" / "feats.scp"))
    assert list(found) == ["a", "b", "deep/c_d"]
    for utterance in corpus:
        np.testing.assert_array_equal(found[utterance.key], corpus.vectors(utterance))


def test_tars_as_webdataset_has_them(audio, tmp_path):
    import io
    import tarfile

    batch(audio, tmp_path / "out", layout="webdataset")
    corpus = ce.open_corpus(tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "part-00000.tar") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert list(members)[:2] == ["a.npy", "a.json"]
    for utterance in corpus:
        array = np.load(io.BytesIO(members[f"{utterance.key}.npy"]))
        np.testing.assert_array_equal(array, corpus.vectors(utterance))
        assert json.loads(members[f"{utterance.key}.json"])["frames"] == len(array)


@pytest.mark.parametrize("made", [{"format": "npz"}, {"layout": "shards", "records": True}])
def test_level_and_pitch_beside_vectors(audio, tmp_path, made):
    batch(audio, tmp_path / "out", **made)
    corpus = ce.open_corpus(tmp_path / "out")
    for utterance in corpus:
        frames = ce.extract_file(utterance.audio_filepath)
        levels = corpus.levels(utterance)
        np.testing.assert_array_equal(levels.mean_db, frames.mean_db)
        np.testing.assert_array_equal(levels.f0_hz, frames.f0_hz)
        np.testing.assert_array_equal(levels.voiced, frames.voiced)
    for path in (tmp_path / "out").glob("part-*.records.f32"):
        data = path.read_bytes()
        path.write_bytes(data[:-12] + b"\0" * 12)
        assert batch(audio, tmp_path / "out", **made).run_recordings == 3
        assert path.read_bytes() == data
    batch(audio, tmp_path / "plain")
    with pytest.raises(Codec2EqError, match="keeps vectors alone"):
        ce.open_corpus(tmp_path / "plain").levels(0)
