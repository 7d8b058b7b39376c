# SPDX-License-Identifier: LGPL-2.1-or-later
# make demo: set up and run the main job on a sample. make test: set up and pass all tests.
# make quick: the tests that need neither TensorFlow nor fetched speech, in a minute.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= build/demo
SPEECH ?= .speech
SOURCES := setup.cfg setup.py pyproject.toml $(wildcard $(foreach s,pyx pxi pxd h,codec2_eq/*.$(s) codec2_eq/*/*.$(s)))

.PHONY: demo test quick check fuzz sanitize faults speech bench arm64 docs release clean

demo: $(VENV)/ready
	@mkdir -p $(OUT)
	$(BIN)/codec2-eq run samples/espeak_male_1.wav -o $(OUT)/espeak_male_1.f32 -f
	$(BIN)/codec2-eq info $(OUT)/espeak_male_1.f32
	@echo "Equalised rate-K vectors, frames x 20 float32, are in $(OUT)/espeak_male_1.f32"

test: $(VENV)/ready-for-test speech
	CODEC2_EQ_SPEECH=$(abspath $(SPEECH)) $(BIN)/python -m pytest -q -n auto --cov=codec2_eq --cov-report=term:skip-covered --cov-fail-under=90

quick: $(VENV)/ready-for-quick
	CODEC2_EQ_SPEECH=none $(BIN)/python -m pytest -q -n auto -m "not oracle and not train and not slow and not network"

check: $(VENV)/ready-for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Real recordings and Codec 2's own encoder, to compare with; needs no root.
speech: $(VENV)/ready
	$(BIN)/python scripts/fetch_speech.py --dest $(SPEECH) --use classic parity validate --tools
	$(BIN)/python scripts/fetch_speech.py --dest $(SPEECH) --package asterisk-core-sounds-it-wav

# Failing operations, kills and power cuts: make faults N=200
faults: $(VENV)/ready-for-test
	FAULTS=$(or $(N),90) $(BIN)/python -m pytest -q tests/faults

bench: $(VENV)/ready-for-test speech
	$(BIN)/python scripts/bench.py --speech $(SPEECH)

# Damaged and hostile files for every reader: make fuzz N=200000 SEED=2.
SEED ?= 1
fuzz: $(VENV)/ready-for-quick
	PYTHONPATH=tests $(BIN)/python -m fuzz $(or $(N),20000) --seed $(SEED)

# The compiled modules under the address and undefined-behaviour sanitizers of gcc.
sanitize: $(VENV)/ready-for-quick
	scripts/sanitize.sh $(BIN)/python

# The package on ARM64, emulated: needs Debian's gcc-aarch64-linux-gnu and qemu-user.
arm64: $(VENV)/ready
	scripts/check_arm64.sh samples/*.wav

# The site, into build/site; warnings are errors.
docs: $(VENV)/ready-for-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# The archive of sources and this machine's wheel, checked, into dist/.
release:  # PYTHONS="python3.11 python3.12": a wheel for each
	scripts/make_release.sh

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "No virtual environment: apt install python3-venv python3-dev build-essential" >&2; \
	  rm -rf $(VENV); exit 1; }

$(VENV)/ready: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -e .
	@$(BIN)/python -m compileall -q codec2_eq  # what pip does for packages, so that commands start at once
	@touch $@

# Also installs the extra of that name in setup.cfg.
$(VENV)/ready-for-%: $(VENV)/ready
	$(BIN)/python -m pip install --quiet -e ".[$*]"
	@touch $@

clean:
	rm -rf build $(VENV) codec2_eq.egg-info
	find codec2_eq -name '*.so' -delete
