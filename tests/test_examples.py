# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every example runs, and does what it says."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT, find_tool, load_script, require_package, require_tool

import codec2_eq as ce
from codec2_eq.stream700c.frames import HEADER

EXAMPLES = ROOT / "examples"
ARM = "-O2 -march=armv7-a -mthumb -mfloat-abi=hard -mfpu=vfpv3-d16 --specs=rdimon.specs"


def run(*words):
    subprocess.run([sys.executable, *map(str, words)], check=True)


def test_every_example_has_a_test():
    here = Path(__file__).read_text()
    names = [p.name for p in EXAMPLES.iterdir() if p.name != "__pycache__"]
    assert len(names) >= 5
    for name in names:
        assert name.split(".")[0] in here, name


def test_freedv_700d_carries_every_byte(tmp_path, speech):
    sent, radio, got = tmp_path / "a.c2", tmp_path / "radio.wav", tmp_path / "b.c2"
    bits = ce.encode(speech)
    sent.write_bytes(HEADER + bits)
    run(EXAMPLES / "freedv_700d.py", "transmit", sent, radio)
    run(EXAMPLES / "freedv_700d.py", "receive", radio, got)
    received = got.read_bytes()
    assert received.startswith(HEADER) and bits in received
    assert len(ce.decode(received)) >= len(ce.decode(bits))


@pytest.mark.parametrize("mode", [3200, 1300, 700])
def test_pycodec2_equalised(tmp_path, samples_dir, mode):
    heard = tmp_path / "heard.wav"
    run(EXAMPLES / "pycodec2_equalised.py", samples_dir / "espeak_male_1_boomy.wav", heard, mode)
    samples, rate = sf.read(heard)
    assert rate == 8000 and len(samples) / rate == pytest.approx(3.5, abs=0.1)
    assert np.sqrt(np.mean(samples**2)) > 0.01


@pytest.mark.parametrize("rate, channels", [(8000, 1), (48000, 2)])
def test_lxst_filter_keeps_the_shape_of_frames(rate, channels):
    lxst_filter = load_script("examples/lxst_filter.py")
    equaliser = lxst_filter.Equaliser()
    rng = np.random.default_rng(1)
    samples = 0.1 * rng.standard_normal((rate // 2, channels)).astype(np.float32)
    out = []
    for frame in np.split(samples, range(0, len(samples), rate // 25)):
        given = equaliser.handle_frame(frame, rate)
        assert given.shape == frame.shape and given.dtype == frame.dtype
        out.append(given)
    direct = ce.AudioEqualiser("channel_eq", rate, channels=channels)
    lead_in = int(np.ceil(direct.latency_s * rate))
    expected = direct.process(samples if channels > 1 else samples[:, 0])
    ready = np.concatenate(out)[lead_in:]
    np.testing.assert_allclose(
        ready, expected[: len(ready)].reshape(-1, channels), rtol=0, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore:.*audioop:DeprecationWarning")  # LXST's own
def test_lxst_filter_runs_among_the_filters_of_lxst():
    BandPass = require_package("LXST.Filters").BandPass
    equaliser, frame = (
        load_script("examples/lxst_filter.py").Equaliser(),
        np.zeros((1920, 1), np.float32),
    )
    for filtering in (BandPass(250, 8500), equaliser):
        frame = filtering.handle_frame(frame, 48000)
    assert frame.shape == (1920, 1)


def test_m17_hears_what_filter_gives(tmp_path, speech):
    raw, stream, heard = tmp_path / "a.raw", tmp_path / "a.c2", tmp_path / "heard.raw"
    speech.astype("<i2").tofile(raw)
    folders = {str(p) for p in (find_tool_folder("c2enc"), find_tool_folder("c2dec"))}
    path = ":".join([*folders, str(ROOT / ".venv/bin"), "/usr/bin:/bin"])
    subprocess.run([EXAMPLES / "m17.sh", raw, stream, heard], check=True, env={"PATH": path})
    assert len(stream.read_bytes()) > 8 * len(speech) // 160 - 40
    assert len(heard.read_bytes()) > 2 * len(speech) - 1000


FIRMWARE = {
    "here": (["gcc"], []),
    "Arm, newlib": (["arm-none-eabi-gcc", ARM], ["qemu-arm"]),
}


@pytest.mark.parametrize("target", FIRMWARE)
def test_firmware_gives_what_python_gives(tmp_path, samples_dir, target):
    (compiler, *flags), emulator = FIRMWARE[target]
    for tool in ("make", compiler, *emulator):
        require_tool(tool)
    variables = [f"CC={compiler}", *(f"CFLAGS={flag}" for flag in flags)]
    command = f"CODEC2_EQ={sys.executable} -m codec2_eq"
    make = ["make", "-s", "-C", str(EXAMPLES / "firmware"), f"DIR={tmp_path}", command, *variables]
    subprocess.run(make, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    vectors = ce.extract_file(samples_dir / "espeak_male_1_boomy.wav").vectors
    done = subprocess.run(
        [*emulator, tmp_path / "equalise"],
        input=vectors.tobytes(),
        capture_output=True,
        check=True,
    )
    shapes = np.frombuffer(done.stdout, np.float32).reshape(-1, 20)
    expected = ce.load_equaliser("channel_eq")(vectors)
    np.testing.assert_allclose(shapes, expected, rtol=0, atol=1e-4)  # dB


def find_tool_folder(name):
    return find_tool(name).rpartition("/")[0]
