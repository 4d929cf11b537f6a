# make demo | test | check | docs | bench : each does all the set-up it needs, on a machine with Python and make.
PYTHON ?= python3
BIN := .venv/bin
VISION := .venv-vision/bin
INSTALL := install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
export PIP_ROOT_USER_ACTION := ignore

.PHONY: demo test check docs bench test-vision test-wheel clean
.DELETE_ON_ERROR:

demo: .venv/core
	$(BIN)/limbeck demo --out runs/demo

test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q --dist loadfile

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --project pyproject.toml

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: .venv/dev
	$(BIN)/python benchmarks/step_overhead.py

test-vision: .venv-vision/ready
	$(VISION)/pytest -q -m vision tests/vision

# What a user installs, outside of the checkout; what it depends on is taken from .venv.
test-wheel: .venv/core
	rm -rf build/wheel
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip $(INSTALL) --no-deps build/wheel/*.whl
	cd build/wheel && ./../../tests/wheel.sh

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "limbeck needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip $(INSTALL) --editable .
	touch $@

.venv/dev: .venv/core
	$(BIN)/pip $(INSTALL) --editable '.[dev,text,api,track,quant,export,peers,examples]'
	touch $@

.venv/docs: .venv/core
	$(BIN)/pip $(INSTALL) --editable '.[docs]'
	touch $@

# PyPI's torchvision asks for its CUDA build of torch: without dependencies it fits the torch that is
# there. It stays apart, with what needs it.
.venv-vision/ready: pyproject.toml constraints.txt
	test -x $(VISION)/python || $(PYTHON) -m venv .venv-vision
	$(VISION)/pip $(INSTALL) --editable . beartype hypothesis pytest
	$(VISION)/pip $(INSTALL) --no-deps torchvision timm torchdistill Cython
	$(VISION)/pip $(INSTALL) curvlinops-for-pytorch
	touch $@

clean:
	rm -rf .venv .venv-vision runs/demo build dist .pytest_cache .ruff_cache
