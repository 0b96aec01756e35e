# One environment, a few jobs. `make run` and `make test` set up what they need on a fresh machine.
PYTHON  ?= python3.11
VENV    ?= .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.installed
CF_TABLE := .cache/cf-standard-name-table.xml
ROOT    ?= ./var
WORKERS ?= auto
export DO_NOT_TRACK = 1
export OMP_NUM_THREADS ?= 1

.PHONY: help install run test check bench soak serve page clean
.DEFAULT_GOAL := help

help: ## show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(READY) ## make the virtual environment (.venv)

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Giómua needs Python 3.11 or 3.12; set PYTHON=/path/to/python."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(READY) ## simulate the atmosphere of Hanoi and publish today's ensemble under ./var
	$(BIN)/giomua run --root $(ROOT)

test: $(READY) $(CF_TABLE) ## run every test
	GIOMUA_CF_TABLE=$(CF_TABLE) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -q

check: $(READY) ## lint, types and import layers
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## measure against peers; ratios of one run, written to $(ROOT)/bench.json
	$(BIN)/python -m tests.benchmarks --json $(ROOT)/bench.json

soak: $(READY) ## kill cycles and damage their inputs for an hour or two; report in $(ROOT)/soak.md
	$(BIN)/python -m tests.soak --out $(ROOT)

serve: $(READY) ## serve the published ensemble on http://127.0.0.1:8080
	$(BIN)/giomua serve --root $(ROOT)

page: ## rebuild the forecasters' page after a change in serving/web (needs Node 20.19 or newer)
	cd serving/web && npm ci --no-audit --no-fund && npm run build

clean: ## remove the environment and caches, never the data
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# The CF standard-name table travels inside a PyPI package; only the table is taken from it.
$(CF_TABLE): | $(READY)
	@mkdir -p $(@D)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(@D) compliance-checker==6.1.0
	$(BIN)/python -c "import glob, zipfile; w = zipfile.ZipFile(sorted(glob.glob('$(@D)/compliance_checker-*.whl'))[-1]); open('$@', 'wb').write(w.read('compliance_checker/data/cf-standard-name-table.xml'))"
