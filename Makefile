# `make demo` shows the main job, `make test` proves it. Each makes its own virtual
# environment when there is none; nothing but python3 and make has to be there.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
SECONDS ?= 60
# Of tests, at the same time: many wait for servers that are slow on purpose.
WORKERS ?= 3

# Always quoted or escaped: the path of an environment may hold spaces.
empty :=
BIN := $(VENV)/bin
STAMP := $(subst $(empty) $(empty),\ ,$(VENV))/.installed
INSTALL := pip install -c constraints.txt

# uv where there is one (the redirection makes old versions of make ask a shell).
ifneq ($(shell command -v uv 2>/dev/null),)
CREATE = $(HAVE) || uv venv --quiet --seed --allow-existing --python "$(PYTHON)" "$(VENV)"
INTO_VENV = uv $(INSTALL) --quiet --python "$(BIN)/python"
else
CREATE = { $(HAVE) || "$(PYTHON)" -m venv "$(VENV)"; } && \
	"$(BIN)/python" -m pip install -qq "pip>=25.1"
INTO_VENV = "$(BIN)/python" -m $(INSTALL) -qq
endif
HAVE = "$(BIN)/python" -m pip --version >/dev/null 2>&1
TOO_OLD = sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=..."

.PHONY: help venv demo test lint docs docs-check lowest newest bench bench-quick bench-faults bench-cluster fuzz faults dist-check audit clean

help:  ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' Makefile

venv: $(STAMP)  ## The virtual environment (VENV=path, PYTHON=interpreter)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV), which takes a minute or two ..."
	@"$(PYTHON)" -c 'import sys; sys.exit($(TOO_OLD))'
	@$(CREATE)
	@$(INTO_VENV) --group dev --editable ".[all]"
	@touch "$(VENV)/.installed"

demo: $(STAMP)  ## From an area to GeoTIFFs and a picture, in demo/, without the internet
	"$(BIN)/s2l3a" demo demo/

test: $(STAMP)  ## All tests (ARGS="-k tiles" for some, WORKERS=0 one by one)
	"$(BIN)/python" -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lowest: $(STAMP)  ## All tests with the lowest versions that pyproject.toml allows (in .venv-lowest)
	$(call IN_OTHER_VERSIONS,lowest-direct) -W default $(ARGS)

newest: $(STAMP)  ## All tests with what the index has now, past constraints.txt (in .venv-newest)
	$(call IN_OTHER_VERSIONS,highest) $(ARGS)

define IN_OTHER_VERSIONS
	@$(INTO_VENV) uv
	"$(BIN)/uv" venv --quiet --clear --python "$(PYTHON)" .venv-$@
	"$(BIN)/uv" pip install --quiet --python .venv-$@/bin/python --resolution $(1) \
		--editable ".[all]" --group test
	.venv-$@/bin/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
endef

faults: $(STAMP)  ## What can go wrong, at length: every fault everywhere, 10 000 chunks, 100 kills
	S2L3A_FAULTS=1 "$(BIN)/python" -m pytest -q -m slow tests/test_faults_matrix.py \
		tests/test_faults_process.py $(ARGS)
	"$(BIN)/python" benchmarks/faults/kills.py --kills 100

lint: $(STAMP)  ## Linter, format and types
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"

docs: $(STAMP)  ## The pages, with notebooks that are run for them, in site/
	@$(INTO_VENV) --group docs
	NO_MKDOCS_2_WARNING=1 "$(BIN)/python" -m mkdocs build --strict --quiet

docs-check: docs  ## Every page in Chromium, wide and narrow: links, pictures, search
	@$(INTO_VENV) --group browser
	"$(BIN)/python" .ci/site/check.py site site-pictures

bench: $(STAMP)  ## All benchmarks
	"$(BIN)/python" benchmarks/run.py $(ARGS)

bench-quick: $(STAMP)  ## The same in a few minutes: one run each, fewer contenders
	"$(BIN)/python" benchmarks/run.py --quick $(ARGS)

bench-faults: $(STAMP)  ## What goes wrong, and who notices (ARGS=--quick for samples)
	"$(BIN)/python" benchmarks/faults/run.py $(ARGS)

bench-cluster: $(STAMP)  ## A graph of all Germany, more workers, the cluster beside threads
	"$(BIN)/python" benchmarks/cluster/germany.py
	"$(BIN)/python" benchmarks/cluster/germany.py --bands 4
	"$(BIN)/python" benchmarks/cluster/germany.py --years 1 --bands 4
	"$(BIN)/python" benchmarks/cluster/scaling.py $(ARGS)

fuzz: $(STAMP)  ## Foreign input of every kind, spoilt (SECONDS=60 for each kind)
	-@$(INTO_VENV) --group fuzz || echo "atheris does not install here"
	"$(BIN)/python" -m tests.fuzz.mutants
	"$(BIN)/python" -m tests.fuzz --seconds $(SECONDS)

dist-check: $(STAMP)  ## Wheel and sdist, looked into and tried in empty environments (PYTHONS="python3.12 …")
	"$(BIN)/python" .ci/dist_check.py $(if $(PYTHONS),--python $(PYTHONS)) $(ARGS)

audit: $(STAMP)  ## Known holes in the versions of constraints.txt, or "not checked"
	@$(INTO_VENV) --group audit
	"$(BIN)/python" .ci/audit.py constraints.txt || [ $$? -eq 3 ]

clean:  ## Remove what make made
	rm -rf .venv .venv-lowest .venv-newest demo dist site site-pictures .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
