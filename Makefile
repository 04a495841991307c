# `make demo` and `make test` are all a fresh machine needs: each creates its environment first.
#
# PYTHON picks the interpreter that .venv is made with, ARGS goes to the command:
#   make demo ARGS="--images ./crops --classes cat,dog"

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PYTEST_ARGS ?=
# One test process a core, from two to four: each has a Label Studio, a Chromium and an encoder of its own.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -ge 2 ] || n=2; [ $$n -le 4 ] || n=4; echo $$n)

BIN := $(VENV)/bin
LOWEST := .venv-lowest
TYPES := build/types
# Label Studio's versions, each in an environment of its own here: their pins of Django and numpy must not meet ours.
LABEL_STUDIO_ENVS := .everylabel
CHROMIUM_MISSING := Chromium is missing, the browser tests need it: sudo apt-get install -y chromium
# Of 24,000 modules a few thousand are ever imported, and those are compiled then: to compile all takes minutes.
PIP := -m pip install --disable-pip-version-check --no-compile
PIP_INSTALL := $(BIN)/python $(PIP) -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-extended test-arithmetic test-lowest test-label-studio install-test install-lowest containers lint types lock clean chromium label-studio

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(VENV)/.installed  ## Label Studio and everylabel on real crops, in your browser (ARGS="--help" lists the options)
	@$(BIN)/everylabel demo $(ARGS)

# Several files at a time; those that meet a Label Studio first, as tests/conftest.py puts them.
PYTEST := $(BIN)/python -m pytest --random-order --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test: lint label-studio chromium  ## Every check, and the tests of every part, with a real Label Studio and a real Chromium (JOBS=2 sets how many at a time)
	$(PYTEST) -m "not extended" $(PYTEST_ARGS)

test-extended: $(VENV)/.installed-test label-studio chromium  ## The tests that `make test` leaves out: whole scenarios with kills, clusters, further paths through Label Studio and the pages
	$(PYTEST) -m extended $(PYTEST_ARGS)

# Another processor rounds differently. These kernels run on any of its kind, and hardly anywhere by themselves.
OTHER_ARITHMETIC := ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=$(if $(filter x86_64,$(shell uname -m)),Prescott,ARMV8) \
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1

test-arithmetic: $(VENV)/.installed-test  ## The tests of numbers once more, as another processor would round
	$(OTHER_ARITHMETIC) $(BIN)/python -m pytest --random-order --numprocesses $(JOBS) --dist loadfile -m "numbers and not services" tests/unit $(PYTEST_ARGS)

# The ranges of pyproject.toml are true at their lower end too: what starts no server, and neither a browser nor Label
# Studio. What lies directly in tests/unit is about packages and files of this repository, whatever is installed.
# Under the other arithmetic as well: one pass for both, and a failure shows in `make test-arithmetic` which of the two it is.
test-lowest: $(LOWEST)/.installed  ## Unit and contract tests with the lowest versions that pyproject.toml allows, as another processor would round
	$(OTHER_ARITHMETIC) $(LOWEST)/bin/python -m pytest --random-order --numprocesses $(JOBS) --dist loadfile -m "not services" --ignore-glob 'tests/unit/test_*' tests/unit tests/contract $(PYTEST_ARGS)

install-test: $(VENV)/.installed-test label-studio  ## Install all that the tests need, and run none

install-lowest: $(LOWEST)/.installed  ## Install what `make test-lowest` needs

containers: $(VENV)/.installed-test  ## Build the image and run the compose file: a kill, a restart, no label lost (as root)
	$(BIN)/python -m pytest tests/containers $(PYTEST_ARGS)

# Those named in backend/label_studio/versions.py unless VERSIONS says otherwise.
test-label-studio: $(VENV)/.installed-test  ## The tests that meet Label Studio, against VERSIONS="1.20.0 1.23.2" (DATABASES="sqlite postgresql")
	@$(BIN)/python -m tests.version_matrix $(VERSIONS) --databases $(or $(DATABASES),sqlite) --jobs $(JOBS) $(ARGS)

lint: types  ## Formatting, lint rules, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=$(TYPES) $(BIN)/lint-imports --no-cache

# The folders under the name they are imported by, as links: neither mypy nor import-linter reads setuptools' package-dir.
types: $(VENV)/.installed-test
	@mkdir -p $(TYPES)/everylabel
	@ln -sfn ../../../model $(TYPES)/everylabel/model
	@ln -sfn ../../../backend $(TYPES)/everylabel/backend
	@ln -sfn ../../../scripts $(TYPES)/everylabel/scripts
	@ln -sfn ../../../model/public_api/__init__.py $(TYPES)/everylabel/__init__.py
	@ln -sfn ../../../model/public_api/py.typed $(TYPES)/everylabel/py.typed

lock: $(VENV)/.installed-test  ## Write requirements.lock anew: the hashes of what the image installs
	$(PIP_INSTALL) uv
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.locked_requirements

clean:  ## Remove the environments and caches; the demo's projects in .everylabel stay
	rm -rf $(VENV) $(LOWEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	rm -rf .everylabel/label-studio-* .everylabel/containers

# Installed and started once ahead of pytest, so that no test's time limit counts it. An existing one can be named instead.
label-studio: $(VENV)/.installed-test
ifndef EVERYLABEL_TEST_LABEL_STUDIO
	@$(BIN)/python -m everylabel.scripts.local_label_studio.server $(LABEL_STUDIO_ENVS)
	@$(BIN)/python -m tests.label_studio_setups
endif

chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { echo "$(CHROMIUM_MISSING)"; test "$$CI" != true; }

# The environment is made anew for another interpreter only after `make clean`: it may hold what you added.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.10 or newer, or name one: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	|| { echo "everylabel needs Python 3.10 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	|| { echo "$(PYTHON) cannot create environments: sudo apt-get install -y python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# A stamp is newer than what it was installed from; an interrupted install leaves none and is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing everylabel into $(VENV) (a few minutes the first time)"
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing everylabel and its test tools into $(VENV) (a few minutes the first time)"
	$(PIP_INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.installed

# An environment of its own, made anew whenever a range changes: pip would leave an older version where it is.
$(LOWEST)/.installed: pyproject.toml constraints.txt tests/lowest_versions.py | $(VENV)/.installed-test
	@echo "Installing everylabel at its lowest versions into $(LOWEST) (a few minutes)"
	$(BIN)/python -m venv --clear $(LOWEST)
	$(BIN)/python -m tests.lowest_versions $(LOWEST)
	$(LOWEST)/bin/python $(PIP) -c $(LOWEST)/constraints.txt -r $(LOWEST)/requirements.txt
	$(LOWEST)/bin/python $(PIP) --no-deps -e .
	@touch $@
