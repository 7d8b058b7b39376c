# SPDX-License-Identifier: LGPL-2.1-or-later
"""Networks as C99: compiled without a warning by every compiler there is, and run beside Python."""

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import require_tool
from exported_network import all_layers, weights, without_gate

from codec2_eq.cli import main
from codec2_eq.codec2 import K
from codec2_eq.equalisers.activations import ACTIVATIONS
from codec2_eq.equalisers.equaliser import load_equaliser, load_trained
from codec2_eq.equalisers.export_c import c_source, write_c
from codec2_eq.equalisers.layers import Activation, Dense, Layer
from codec2_eq.equalisers.network import Network
from codec2_eq.equalisers.recurrent import GRU, LSTM
from codec2_eq.errors import Codec2EqError
from codec2_eq.extraction import extract_file

TOL_DB = 1e-4
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]

RUNNER = """
#include <stdio.h>
#include "{name}.h"
int main(void)
{{
    static struct {name}_state state;
    float in[{NAME}_BANDS], out[{NAME}_BANDS];
    {name}_init(&state);
    while (fread(in, sizeof in, 1, stdin) == 1) {{
        {name}_process(&state, in, out);
        fwrite(out, sizeof out, 1, stdout);
    }}
    return 0;
}}
"""

COMPILERS = {
    "gcc": (["gcc"], []),
    "clang": (["clang"], []),
    "aarch64": (["aarch64-linux-gnu-gcc", "-static"], ["qemu-aarch64"]),
}


def run_c(network, rows, folder: Path, compiler="gcc"):
    command, emulator = COMPILERS[compiler]
    for tool in [command[0], *emulator]:
        require_tool(tool)
    source = c_source(network)
    write_c(source, folder, force=True)
    (folder / "runner.c").write_text(RUNNER.format(name=source.name, NAME=source.name.upper()))
    subprocess.run(
        [*command, *STRICT, f"{source.name}.c", "runner.c", "-o", "runner", "-lm"],
        cwd=folder,
        check=True,
    )
    done = subprocess.run(
        [*emulator, str(folder / "runner")], input=rows.tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, np.float32).reshape(-1, K)


@pytest.fixture(scope="module")
def speech(samples_dir):
    """Voices one after the other, through different filters, and what stands still after each."""
    voices = [extract_file(path).vectors for path in sorted(samples_dir.glob("*.wav"))]
    return np.concatenate([[*rows, *rows[-1:].repeat(20, axis=0)] for rows in voices])


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["channel_eq", "mean_removal"])
def test_c_gives_what_python_gives(name, compiler, speech, tmp_path):
    out = run_c(load_trained(name), speech, tmp_path, compiler)
    np.testing.assert_allclose(out, load_equaliser(name)(speech), rtol=0, atol=TOL_DB)


@pytest.mark.slow
@pytest.mark.oracle
def test_an_hour_of_speech(codec2_examples, tmp_path):
    """With the state carried through from the first frame to the last."""
    voices = [extract_file(path).vectors for path in codec2_examples]
    once = np.concatenate(voices)
    rows = np.concatenate([once] * (90_000 // len(once) + 1))[:90_000]
    out = run_c(load_trained("channel_eq"), rows, tmp_path)
    np.testing.assert_allclose(out, load_equaliser("channel_eq")(rows), rtol=0, atol=TOL_DB)


def test_an_estimator_without_a_gate(speech, tmp_path):
    network = Network("ungated", [without_gate()])
    out = run_c(network, speech, tmp_path)
    np.testing.assert_allclose(out, network(speech), rtol=0, atol=TOL_DB)


def test_every_kind_of_layer(speech, tmp_path):
    network = all_layers()
    out = run_c(network, speech[:200], tmp_path)
    np.testing.assert_allclose(out, network(speech[:200]), rtol=0, atol=TOL_DB)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation(name, tmp_path):
    network = Network("act", [Dense(weights(K, K), weights(K), name), Activation(name)])
    rows = weights(50, K, seed=3)
    np.testing.assert_allclose(run_c(network, rows, tmp_path), network(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
def test_gates_of_other_kinds(gate, tmp_path):
    layers: list[Layer] = [
        GRU(weights(K, 24), weights(8, 24), weights(2, 24), "silu", gate),
        LSTM(weights(8, 80), weights(20, 80), weights(80), "linear", gate),
    ]
    network = Network("2 gates", layers)
    rows = weights(30, K, seed=4)
    np.testing.assert_allclose(run_c(network, rows, tmp_path), network(rows), rtol=1e-4, atol=1e-5)


def test_a_microcontroller_can_have_it(tmp_path):
    """Compiled only: nothing here runs it."""
    require_tool("arm-none-eabi-gcc")
    source = c_source(load_trained("channel_eq"))
    write_c(source, tmp_path)
    flags = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
    command = ["arm-none-eabi-gcc", *STRICT, *flags, "-c", f"{source.name}.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / f"{source.name}.o").stat().st_size > source.weight_bytes


def test_the_header_is_c_plus_plus_too(tmp_path):
    require_tool("g++")
    write_c(c_source(load_trained("channel_eq")), tmp_path)
    (tmp_path / "a.cc").write_text('#include "channel_eq.h"\nint main() { return 0; }\n')
    subprocess.run(["g++", "-Wall", "-Werror", "-c", "a.cc"], cwd=tmp_path, check=True)


def test_it_says_what_it_is(tmp_path, capfd):
    assert not main(["export", "channel_eq", "--c", str(tmp_path / "c")])
    source, header = ((tmp_path / "c" / f"channel_eq.{s}").read_text() for s in "ch")
    sha256 = load_trained("channel_eq").sha256
    for text in (source, header):
        assert text.startswith("/* SPDX-License-Identifier: LGPL-2.1-or-later")
        assert sha256 in text
    assert "malloc" not in source
    told = capfd.readouterr().err
    assert "9,902 multiply-adds per frame" in told
    assert "state 324 bytes" in told
    assert "weights 40,628 bytes" in told
    assert main(["export", "channel_eq", "--c", str(tmp_path / "c")]) == 1
    assert "exists already; pass -f" in capfd.readouterr().err


def test_what_cannot_be_exported_is_an_error(tmp_path, capfd):
    assert main(["export", "cmn", "--c", str(tmp_path)]) == 1
    assert "cmn: is no network, so there is nothing to export; choose" in capfd.readouterr().err

    @dataclasses.dataclass(frozen=True)
    class Odd(Layer):
        kind = "odd"

    with pytest.raises(
        Codec2EqError, match="odd: layer 0 is of kind 'odd', which cannot be exported to C"
    ):
        c_source(Network("odd", [Odd()]))
    with pytest.raises(Codec2EqError, match="small: maps 20 values to 3"):
        c_source(Network("small", [Dense(weights(K, 3), weights(3))]))
