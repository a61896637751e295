# The two commands of the README: `make lab` and `make test`. Both set up .venv when it is missing or out of date:
# `make lab` with what the codelabs need, `make test` with all that the tests need too.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
# Where HOME cannot be written to, Jupyter, matplotlib and Chromium have one of their own.
BIN := $(shell test -w "$$HOME" || echo 'HOME="$$PWD/.venv/home" ').venv/bin
LAB := .venv/.lab
OLDEST_PYTHON ?= python3.10
COLAB_PYTHON ?= python3.13
NEWEST_PYTHON ?= python3.13
INSTALLED := .venv/.installed
NBVAL := -n 2 --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=300
WITH_TORCH := notebooks/11_from_pytorch.ipynb
CORE := $(addprefix tests/,project/test_facts.py test_versions.py stock sources passes forms quantization doctor)
# Jupyter refuses to run as root unless it is told; the server stays on localhost, behind its token.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# Jupyter drops uploads of more than 10 MB unless it is told; the doctor's desk takes 100.
UPLOADS := --ServerApp.tornado_settings='{"websocket_max_message_size": 110000000}'

.PHONY: lab test test-oldest test-newest test-colab lint types audit unit backends campaign browser nbval notebooks html docs \
	release-check clean

lab: $(LAB)
	$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir=notebooks --LabApp.default_url=/lab/tree/index.ipynb $(UPLOADS) $(ROOT) $(LAB_ARGS)

test: lint types audit unit backends campaign browser nbval
	@cat build/not_run

# The converting core, at both ends of what pyproject.toml allows.
test-oldest: .venvs/oldest/.installed
	.venvs/oldest/bin/python -m pytest -n 2 --dist worksteal $(CORE) $(PYTEST_ARGS)

test-newest: .venvs/newest/.installed
	.venvs/newest/bin/python -m pytest -n 2 --dist worksteal $(CORE) $(PYTEST_ARGS)

# The codelabs, with Colab's packages, but for the one whose packages replace some of them. The environment is made anew, since they install the package into it.
test-colab:
	$(COLAB_PYTHON) -m venv --clear .venvs/colab
	.venvs/colab/bin/python -m pip install --quiet --disable-pip-version-check --requirement constraints/colab.txt
	.venvs/colab/bin/python tools/check_colab.py $(or $(NOTEBOOKS),$(filter-out $(WITH_TORCH),$(wildcard notebooks/*.ipynb)))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

audit: $(INSTALLED)
	$(BIN)/python tools/audit.py

unit: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore-glob="*_in_browser.py" -m "not backends" $(PYTEST_ARGS)

# The tests with PyTorch and JAX, in an environment of their own.
backends: $(INSTALLED)
	$(BIN)/python tools/run_backend_tests.py

# A minute; CONTRIBUTING says how to run an hour.
campaign: $(INSTALLED)
	$(BIN)/python tools/campaign.py --minutes 0.9 $(CAMPAIGN_ARGS)

# The tests of a file share a page, on which one goes on from another.
browser: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/notebooks/*_in_browser.py

nbval: $(INSTALLED)
	$(BIN)/python -m pytest $(NBVAL) -v notebooks

notebooks: $(INSTALLED)
	$(BIN)/python tools/run_notebooks.py notebooks/*.ipynb notebooks/solutions/*.ipynb

html: $(INSTALLED)
	$(BIN)/python tools/render_notebooks.py build/html

docs: $(INSTALLED)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --builder html docs build/docs

# What a release needs has an environment of its own, and so has each of the two files that are installed.
release-check: .venvs/release/.installed
	.venvs/release/bin/python tools/check_release.py

.venvs/release/.installed: pyproject.toml
	$(PYTHON) -m venv --upgrade-deps .venvs/release
	.venvs/release/bin/python -m pip install --quiet --disable-pip-version-check --group release
	touch $@

clean:
	rm -rf .venv .venvs .mypy_cache .pytest_cache .ruff_cache build *.egg-info

$(LAB): pyproject.toml
	$(or $(PYTHON),$(error There is no python3 here: install one, or say PYTHON=/its/path)) -m venv --upgrade-deps .venv
	mkdir -p .venv/home
	$(PIP) --editable ".[codelabs,legacy]"
	touch $@

$(INSTALLED): $(LAB)
	$(PIP) --editable ".[test]"
	touch $@

.venvs/oldest/.installed: WANTED = $(OLDEST_PYTHON)
.venvs/newest/.installed: WANTED = $(NEWEST_PYTHON)
.venvs/%/.installed: constraints/%.txt pyproject.toml
	$(WANTED) -m venv --clear .venvs/$*
	.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< --editable ".[core-test]"
	touch $@
