#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Run the package on ARM64, emulated, and compare with this machine. Of 8 kHz speech vectors, classic
# equalisers and 700C streams must be equal to the last bit and channel_eq within 0.0001 dB; vectors
# of resampled speech within 0.02 dB.
#
#     scripts/check_arm64.sh samples/*.wav
#
# Needs a Debian with gcc-aarch64-linux-gnu and qemu-user, and the architecture arm64 known to it
# (dpkg --add-architecture arm64; apt-get update). All that is fetched goes into build/arm64.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
python=${PYTHON:-.venv/bin/python}
work=$here/build/arm64
tools='aarch64-linux-gnu-gcc qemu-aarch64 apt-get dpkg'
for tool in $tools; do
    command -v "$tool" >/dev/null || { echo "$tool: not found; see the head of $0" >&2; exit 1; }
done
[ -x "$python" ] || { echo "$python: not found; run make demo, or set PYTHON" >&2; exit 1; }
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
tag=cp${version/./}

# Debian's Python for ARM64, and the wheels of what the package needs
mkdir -p "$work/debs" "$work/root" "$work/wheels" "$work/site"
if [ ! -e "$work/root/usr/bin/python$version" ]; then
    (cd "$work/debs" && "$here/scripts/again" apt-get -o APT::Sandbox::User=root download -qq \
        "python$version-minimal:arm64" \
        "libpython$version-minimal:arm64" "libpython$version-stdlib:arm64" \
        "libpython$version-dev:arm64" libc6:arm64 libcrypt1:arm64 libexpat1:arm64 zlib1g:arm64 \
        libssl3:arm64 libffi8:arm64 libbz2-1.0:arm64 liblzma5:arm64 libuuid1:arm64 \
        libgcc-s1:arm64 libstdc++6:arm64)
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/root"; done
fi
if [ ! -e "$work/site/numpy" ]; then
    scripts/again "$python" -m pip download --quiet --only-binary :all: --implementation cp \
        --python-version "$version" --dest "$work/wheels" --platform manylinux2014_aarch64 \
        $(printf -- '--platform manylinux_2_%s_aarch64 ' 24 26 27 28) \
        numpy soxr soundfile pycodec2 tqdm filelock
    for wheel in "$work"/wheels/*.whl; do
        "$python" -m zipfile -e "$wheel" "$work/site"
    done
fi

# The package, cross-compiled by what pyproject.toml asks for, which pip has only while it builds
if [ ! -e "$work/tools/Cython" ]; then
    mapfile -t requires < <("$python" -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\n")')
    scripts/again "$python" -m pip install --quiet --target "$work/tools" "${requires[@]}"
fi
env PYTHONPATH="$work/tools" CC=aarch64-linux-gnu-gcc LDSHARED='aarch64-linux-gnu-gcc -shared' \
    CFLAGS="-I$work/root/usr/include -I$work/root/usr/include/python$version" \
    _PYTHON_HOST_PLATFORM=linux-aarch64 \
    SETUPTOOLS_EXT_SUFFIX=".cpython-${tag#cp}-aarch64-linux-gnu.so" \
    "$python" setup.py -q build --build-lib "$work/lib" --build-temp "$work/temp"

# One program for both machines
cat >"$work/results.py" <<'PROGRAM'
import platform, sys
import numpy as np
import codec2_eq as ce
from codec2_eq.audio.stream import read_audio, stream_audio

arrays = {}
for path in sys.argv[2:]:
    with stream_audio(path) as audio:
        rate = audio.rate
    samples = read_audio(path)
    frames = ce.extract(samples, 8000, full_scale=32768)
    for name in ("vectors", "mean_db", "f0_hz", "voiced"):
        arrays[f"{rate}|{path}|{name}"] = getattr(frames, name)
    for model in ("none", "mean", "mean_removal", "700c", "cmn", "channel_eq"):
        arrays[f"{rate}|{path}|{model}"] = ce.load_equaliser(model)(frames.vectors)
    for model in ("none", "700c"):
        bits = ce.encode(samples, 8000, model=model, full_scale=32768)
        arrays[f"{rate}|{path}|bits of {model}"] = np.frombuffer(bits, np.uint8)
np.savez(sys.argv[1], **arrays)
print(platform.machine(), len(arrays), "arrays", file=sys.stderr)
PROGRAM
cat >"$work/compare.py" <<'PROGRAM'
import sys
import numpy as np

NETWORK_DB = 1e-4  # a network's exp and log are NumPy's and libm's own on each machine
RESAMPLED_DB = 0.02  # soxr's vector code rounds otherwise
SILENCE_DB = 60.0  # frames this far below the loudest hold what the resampler leaves of silence

here, there = map(np.load, sys.argv[1:])
assert set(here.files) == set(there.files) and here.files
equal, network, resampled, bad = 0, 0.0, 0.0, []
for name in here.files:
    rate, path, what = name.split("|")
    one, other = here[name], there[name]
    if np.array_equal(one, other):
        equal += 1
    elif rate == "8000" and what == "channel_eq":
        network = max(network, float(np.abs(one - other).max()))
    elif rate == "8000":
        bad.append(f"{path}, {what}: {(one != other).sum()} of {one.size} values differ")
    elif what == "vectors":
        mean_db = here[f"{rate}|{path}|mean_db"]
        heard = mean_db > mean_db.max() - SILENCE_DB
        resampled = max(resampled, float(np.abs(one - other)[heard].max(initial=0)))
if network > NETWORK_DB:
    bad.append(f"channel_eq differs by {network:.2g} dB, limit {NETWORK_DB}")
if resampled > RESAMPLED_DB:
    bad.append(f"resampled speech differs by {resampled:.2g} dB, limit {RESAMPLED_DB}")
print(*bad, sep="\n", end="\n" * bool(bad))
print(f"{equal} of {len(here.files)} arrays equal; channel_eq within {network:.1g} dB, ", end="")
print(f"vectors of resampled speech within {resampled:.1g} dB")
sys.exit(bool(bad))
PROGRAM
CODEC2_EQ_ISA= "$python" "$work/results.py" "$work/here.npz" "$@"
env -i PATH="$PATH" HOME="$work" PYTHONPATH="$work/lib:$work/site" PYTHONDONTWRITEBYTECODE=1 \
    qemu-aarch64 -L "$work/root" "$work/root/usr/bin/python$version" -S \
    "$work/results.py" "$work/there.npz" "$@"
"$python" "$work/compare.py" "$work/here.npz" "$work/there.npz"
