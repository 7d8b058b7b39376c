# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recipes of docs/interop.md: each is run as it stands there, then looked at.

Each runs in a process of its own: TensorFlow and PyTorch need not get on with each other.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IN_CI

import codec2_eq as ce

PAGE = Path(__file__).resolve().parent.parent / "docs" / "interop.md"

RECIPES = {
    heading: code
    for heading, code in re.findall(
        r"^## (.+?)\n.*?```python\n(.*?)```", PAGE.read_text(), re.M | re.S
    )
}

CHECKS = {
    "Lhotse": """
import pickle
from lhotse.utils import compute_num_frames
assert len(cuts) == 12
for cut in cuts:
    vectors = cut.load_features()
    assert vectors.dtype == np.float32 and np.isfinite(vectors).all()
    assert vectors.shape == (cut.num_frames, 20)
    assert len(vectors) == compute_num_frames(cut.duration, 0.04, cut.sampling_rate)
    frames = ce.extract(cut.load_audio(), cut.sampling_rate)
    n = min(len(frames), len(vectors))
    assert np.array_equal(vectors[:n], ce.load_equaliser("channel_eq")(frames.vectors[:n]))
for n_samples in (0, 159, 160, 161, 320, 479, 480, 8000):
    for frame_ms in (10, 20, 40):
        extractor = RateKExtractor(RateKConfig(frame_ms))
        assert RateKExtractor.from_dict(extractor.to_dict()).config == extractor.config
        vectors = extractor.extract(np.zeros((1, n_samples), np.float32), 8000)
        wanted = compute_num_frames_from_samples(n_samples, frame_ms / 1000, 8000)
        assert vectors.shape == (wanted, 20), (n_samples, frame_ms, vectors.shape)
assert type(pickle.loads(pickle.dumps(RateKExtractor()))) is RateKExtractor
""",
    "tf.data": """
import numpy as np
batches = [batch.numpy() for batch in dataset]
assert [batch.shape[0] for batch in batches] == [4, 4, 4]
assert all(batch.shape[2] == 20 and batch.dtype == np.float32 for batch in batches)
heard = sorted(float(row.sum(dtype=np.float64)) for batch in batches for row in batch)
held = sorted(float(rows.sum(dtype=np.float64)) for rows in corpus.arrays())
assert np.allclose(heard, held, rtol=0, atol=1e-6)
""",
    "PyTorch": """
if __name__ == "__main__":
    import pickle
    passages = Passages("vectors", 25)
    corpus = passages.corpus
    assert len(passages) == sum(utterance.frames // 25 for utterance in corpus)
    whole = [rows[: len(rows) // 25 * 25] for rows in corpus.arrays()]
    every = np.concatenate([passages[index] for index in range(len(passages))])
    assert np.array_equal(every, np.concatenate(whole))
    assert np.array_equal(pickle.loads(pickle.dumps(passages))[3], passages[3])
    for context in ("fork", "spawn"):
        loader = DataLoader(passages, batch_size=8, num_workers=2, multiprocessing_context=context)
        read = np.concatenate([batch.numpy().reshape(-1, 20) for batch in loader])
        assert np.array_equal(read, every)
""",
    "Hugging Face datasets": """
import numpy as np
corpus = ce.open_corpus("vectors")
assert len(dataset) == len(corpus) == 12
for row, utterance in zip(dataset, corpus, strict=True):
    assert row["vectors"].dtype == np.float32
    assert np.array_equal(row["vectors"], corpus.vectors(utterance))
    assert row["audio_filepath"] == utterance.audio_filepath
""",
}
"""What must hold after each recipe, of the names that it leaves."""

PACKAGES = {
    "Lhotse": "lhotse",
    "tf.data": "tensorflow",
    "PyTorch": "torch",
    "Hugging Face datasets": "datasets",
}


def require(package: str) -> None:
    """A package that is missing is a failure in CI, and elsewhere said."""
    if importlib.util.find_spec(package) is None:
        extra = "torch" if package in ("lhotse", "torch") else "interop"
        message = f"{package} is missing: pip install '.[{extra}]'"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)


def test_each_recipe_of_the_page_is_run():
    assert list(RECIPES) == list(CHECKS) == list(PACKAGES)


@pytest.mark.slow
@pytest.mark.parametrize("heading", list(CHECKS))
def test_the_recipe_works(heading, tmp_path, samples_dir):
    require(PACKAGES[heading])
    shutil.copytree(samples_dir, tmp_path / "recordings", ignore=shutil.ignore_patterns("*.md"))
    ce.batch(tmp_path / "recordings", tmp_path / "vectors", model="mean", jobs=1)
    (tmp_path / "recipe.py").write_text(RECIPES[heading] + CHECKS[heading])
    done = subprocess.run(
        [sys.executable, "recipe.py"],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
