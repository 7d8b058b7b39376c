#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Build the extensions with gcc's address and undefined-behaviour sanitizers into build/sanitize,
# and run the tests of compiled modules and 5,000 fuzzed files with them.
# usage: scripts/sanitize.sh PYTHON [CASES]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "$1")
cases=${2:-5000}
tree=$PWD/build/sanitize
rm -rf "$tree"
mkdir -p "$tree"
git ls-files | grep -v '^\.ci/' | tar cf - -T - | tar xf - -C "$tree"
cd "$tree"
flags="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1"
# As pip builds packages, with a Cython of its own; then the extensions go where the tests find them.
CFLAGS="$flags" LDFLAGS="-fsanitize=address,undefined" \
    "$python" -m pip install --quiet --no-deps --target built .
(cd built && find codec2_eq -name '*.so') | tar cf - -C built -T - | tar xf -
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
# Python itself leaks at its end; what is freed twice or read beyond its end is what is looked for.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONPATH="$tree:$tree/tests" CODEC2_EQ_SPEECH=none PYTHONMALLOC=malloc
"$python" -c "import codec2_eq.vq._search as m; print(m.__file__)" | grep -q "^$tree/"
"$python" -m pytest -q -p no:cacheprovider -x --capture=sys --timeout=900 \
    -m "not oracle and not train and not slow and not network" \
    tests/test_analysis.py tests/test_extraction.py tests/test_knots.py tests/test_vq.py \
    tests/test_vq_training.py tests/test_vq_commands.py tests/test_level.py tests/test_network.py \
    tests/test_equalise.py tests/test_audiofilter.py tests/test_declip.py
"$python" -m fuzz "$cases" --seed 3
