# Everything runs in .venv, which the first target that needs it makes. Needs Python >= 3.10 and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= runs/nano
JOBS   ?= 2

.PHONY: demo test lint bench wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/salad run --preset nano --out $(OUT)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One table of speeds and memory into reports/bench; takes hours. One of them: make bench ONLY="--only bootstrap".
bench: $(VENV)/.test
	$(BIN)/python -m tests.speed.collect $(ONLY)

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

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist
