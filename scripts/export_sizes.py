#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sizes of an exported network, by each compiler there is: code, weights, state and stack."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from codec2_eq.equalisers.export_c import c_source, write_c
from codec2_eq.equalisers.export_plan import load_exportable
from codec2_eq.errors import Codec2EqError

CORTEX_M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
COMPILERS = {
    "x86-64, gcc": ["gcc"],
    "x86-64, clang": ["clang"],
    "aarch64": ["aarch64-linux-gnu-gcc"],
    "Cortex-M4F": ["arm-none-eabi-gcc", *CORTEX_M4],
}


def sizes(name: str, folder: Path, command: list[str]) -> tuple[int, int]:
    """Return the bytes of code and constants, and the largest stack frame, built for size."""
    flags = ["-std=c99", "-Os", "-fno-asynchronous-unwind-tables", "-fstack-usage"]
    subprocess.run([*command, *flags, "-c", f"{name}.c"], cwd=folder, check=True)
    told = subprocess.run(
        ["size", "-A", f"{name}.o"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    constant = (".text", ".rodata")
    bytes_ = sum(int(line.split()[1]) for line in told.splitlines() if line.startswith(constant))
    frames = (folder / f"{name}.su").read_text().splitlines()
    return bytes_, max(int(line.split("\t")[1]) for line in frames)


def main() -> int:
    """Print a row for each compiler that is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="channel_eq", help="default: %(default)s")
    try:
        source = c_source(load_exportable(parser.parse_args().model))
    except Codec2EqError as error:
        print(f"export_sizes: error: {error}", file=sys.stderr)
        return 1
    print("| built for, with -Os | code | weights | state | stack |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_c(source, Path(folder))
        for target, command in COMPILERS.items():
            if shutil.which(command[0]) is None:
                print(f"{target}: {command[0]} is not installed, left out", file=sys.stderr)
                continue
            constant, stack = sizes(source.name, Path(folder), command)
            code = constant - source.weight_bytes
            row = (code, source.weight_bytes, source.state_bytes, stack)
            print(f"| {target} | " + " | ".join(f"{n:,}" for n in row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
