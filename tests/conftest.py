# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speech for the tests: clips of the repository, and real recordings that a script fetched."""

import importlib.util
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import corpora
import numpy as np
import pytest
import soundfile
from html_page import ODD_NAME
from hypothesis import settings
from vq_shapes import N_TRAIN, shapes_of

from codec2_eq import messages
from codec2_eq.audio.stream import read_audio
from codec2_eq.bench.measures import Quantise, quantise_700c
from codec2_eq.equalisers.equaliser import Equaliser, load_equaliser
from codec2_eq.equalisers.keras_import import import_keras
from codec2_eq.errors import Codec2EqError

ROOT = Path(__file__).resolve().parent.parent
SPEECH = Path(os.environ.get("CODEC2_EQ_SPEECH", ROOT / ".speech"))
COMMAND = [sys.executable, "-m", "codec2_eq"]
IN_CI = bool(os.environ.get("CI"))
CLASSIC = (
    "hts1a hts2a cq_ref ve9qrp_10s vk5qi big_dog kristoff mmt1 forig morig g3plx cross f2400 m2400"
).split()  # Codec 2's well-known recordings

# Beside an installed wheel there are no sources, which these tests are about.
collect_ignore = (
    [] if (ROOT / "setup.py").is_file() else ["test_architecture.py", "test_contributing.py"]
)

# Tests hold however slow the machine is, or what watches over them.
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")

# A shell lets what it starts with & ignore Ctrl-C, and that is inherited; tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def missing(what: str) -> None:
    """An oracle that is missing is a failure in CI, and elsewhere said."""
    message = f"{what} is missing: run `make speech`"
    if IN_CI:
        pytest.fail(message)
    pytest.skip(message)


def require_tool(name: str) -> None:
    """Skip where a tool is missing, with a sentence; fail in CI, which installs it."""
    if shutil.which(name):
        return
    if IN_CI:
        pytest.fail(f"{name} is not installed; CI must have it")
    pytest.skip(f"{name} is not installed: what needs it is not tested here")


@pytest.fixture(autouse=True)
def library_as_it_is_imported(monkeypatch) -> None:
    """Warnings go to the logger, even after a test that has run a command in this process."""
    logger = logging.getLogger("codec2_eq")
    logger.handlers.clear()
    logger.propagate = True
    monkeypatch.setattr(messages, "_prefix", None)
    monkeypatch.setattr(messages, "_verbosity", 0)


def require_package(name: str) -> ModuleType:
    """Import an optional package; skip where it is missing, with a sentence, and fail in CI."""
    try:
        return importlib.import_module(name)
    except ImportError:
        message = f"{name} is not installed: what needs it is not tested here"
    if IN_CI:
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def load_script(name: str) -> Any:
    """Import a file of the repository that is in no package, by its path from the root."""
    path = ROOT / name
    if str(path.parent) not in sys.path:  # scripts import those beside them
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def run_command(
    *words: str | Path, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command line of codec2-eq in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, words)], input=stdin, capture_output=True, check=False
    )


def corpus_files(output: Path) -> dict[str, bytes]:
    """All files of a corpus but the lock, also those out of sight, by relative path."""
    found = {
        os.path.join(folder, name): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(output)
        for name in names
        if name != "lock"
    }
    assert found
    return {os.path.relpath(path, output): data for path, data in found.items()}


def in_child(work: Callable[[], object]) -> int:
    """Begin something in a child, which ends without what pytest does at its end; return its id."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    return child


def open_terminal(rows: int, columns: int) -> tuple[int, int]:
    """Both ends of a terminal, ours and a program's; skip on systems that cannot make one."""
    pty, termios = (pytest.importorskip(name) for name in ("pty", "termios"))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    return ours, theirs


@pytest.fixture(scope="session")
def speech_dir() -> Path:
    """Folder of the fetched recordings."""
    if not (SPEECH / "manifest.jsonl").is_file():
        missing(f"real speech in {SPEECH}")
    return SPEECH


@pytest.fixture(scope="session")
def codec2_examples(speech_dir) -> list[Path]:
    """Every speech file of codec2-examples, 8 kHz mono."""
    files = sorted((speech_dir / "audio" / "codec2-examples").rglob("*.wav"))
    if len(files) < 20:
        missing(f"codec2-examples ({len(files)} of its files found)")
    return files


def find_tool(name: str) -> str:
    """Path of c2enc or c2dec: the system's, else the fetched one."""
    fetched = SPEECH / "tools" / "bin" / name
    found = shutil.which(name) or (str(fetched) if fetched.is_file() else None)
    if found is None:
        missing(name)
    return str(found)


@pytest.fixture(scope="session")
def c2enc() -> str:
    return find_tool("c2enc")


@pytest.fixture(scope="session")
def c2dec() -> str:
    return find_tool("c2dec")


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Synthetic speech of the repository."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def sample_files(samples_dir) -> list[Path]:
    files = sorted(samples_dir.glob("*.wav"))
    assert len(files) >= 10
    return files


@pytest.fixture
def wav(samples_dir) -> Path:
    """File of `speech`."""
    return samples_dir / "espeak_male_1.wav"


@pytest.fixture(scope="session")
def speech(samples_dir) -> np.ndarray:
    """3.5 s of synthetic speech, int16 at 8 kHz."""
    return read_audio(samples_dir / "espeak_male_1.wav").astype(np.int16)


@pytest.fixture(scope="module")
def long_wav(tmp_path_factory, speech) -> Path:
    """Speech that is longer than what a report shows, under a name that HTML has to escape."""
    path = tmp_path_factory.mktemp("long") / ODD_NAME
    soundfile.write(path, np.tile(speech, 2), 8000)
    return path


@pytest.fixture
def audio(tmp_path, speech) -> Path:
    """A folder of 25 recordings, for corpora."""
    return corpora.write_recordings(tmp_path / "audio", speech)


@pytest.fixture
def small_tasks(monkeypatch):
    """Corpora of so few recordings are cut into tasks and parts all the same."""
    corpora.cut_finely(monkeypatch)


@pytest.fixture(scope="session")
def quantise() -> Quantise:
    """The quantiser of 700C."""
    return quantise_700c()


@pytest.fixture(scope="module")
def training() -> np.ndarray:
    """Vectors that codebooks are trained on."""
    return shapes_of(np.random.default_rng(20), N_TRAIN)


@pytest.fixture(scope="session")
def channel_eq() -> Equaliser:
    return load_equaliser("channel_eq")


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that makes bytes, or a stream of them, the standard input."""

    def give(data):
        stream = data if isinstance(data, io.BytesIO) else io.BytesIO(data)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))

    return give


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    return import_keras()


@pytest.fixture
def no_keras(monkeypatch) -> None:
    """From here on it is an error to import Keras."""

    def fail():
        raise Codec2EqError("TensorFlow was asked for")

    monkeypatch.setattr("codec2_eq.equalisers.keras_import.import_keras", fail)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Folder of converted Keras models, in place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "codec2_eq"


@pytest.fixture
def saved(keras, tmp_path) -> tuple[Any, Path]:
    """A small Keras model, and its file."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input((20,)), keras.layers.Dense(30, "tanh"), keras.layers.Dense(20)]
    model = keras.Sequential(layers)
    (tmp_path / "home").mkdir()
    model.save(tmp_path / "home" / "mine.keras")
    return model, tmp_path / "home" / "mine.keras"
