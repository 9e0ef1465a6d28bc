# Needs python3 (3.11 or newer, with venv and pip) and make; another interpreter: make PYTHON=python3.12 ...
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
VENV := .venv/installed.lock

# Dagster starts three times slower without .pyc files.
unexport PYTHONDONTWRITEBYTECODE
# .env is relative to PWD, which `make -C` leaves at the caller's folder.
export PWD := $(CURDIR)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test ui check bench certify schema docs lock spark clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV) ## set up and run a real retailer's year
	@$(BIN)/python -m sample.demo $(ARGS)

test: $(VENV) ## set up and run the tests (ARGS="-k queues" for some, ARGS="-m 'not slow'" for two minutes)
	@$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

ui: $(VENV) ## open Dagster on 127.0.0.1:3000 (ARGS="--port 3001" for another port)
	@$(BIN)/dagster dev $(ARGS)

check: $(VENV) ## lint, format, types, import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(VENV) ## measure the speed
	@$(BIN)/python -m benchmarks $(ARGS)

certify: $(VENV) ## show on worlds with planted truth that what is said of journeys is right, and write docs/certificate.md (ARGS=quick for three minutes)
	@$(BIN)/python -m docs.certificate $(ARGS)

schema: $(VENV) ## write journeys.schema.json, which editors read, as the grammar is now, and docs/plan.schema.json
	@$(BIN)/python -m atc_pipeline.journeys.editors > journeys.schema.json
	@$(BIN)/python -m atc_pipeline.plan.report > docs/plan.schema.json

docs: $(VENV) ## write what is derived in docs/: tables.md, pictures/architecture.svg, pictures/proof.svg
	@$(BIN)/python -m docs.tables
	@$(BIN)/python -m docs.architecture
	@$(BIN)/python -m docs.proof

# In a folder of its own, for PYTHONPATH: Pandera imports all of PySpark wherever it is installed, in every process.
spark: $(VENV) ## add what ATC_RUNNER=spark://... or sc://... needs (docs/scale.md): half a gigabyte in .spark, and Java for spark://
	@cmp --silent spark.lock .spark/installed.lock || { rm -rf .spark && echo "Setting up .spark from spark.lock." \
		&& $(BIN)/pip install --quiet --no-deps --target .spark --requirement spark.lock && cp spark.lock .spark/installed.lock; }

clean: ## remove .venv and caches; data (.atc, dagster_home) stays
	@rm -rf .venv .spark .uv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Renews every pin within the ranges of pyproject.toml. One lock for every platform and Python from 3.11 on: hashes of
# wheels only (nothing is compiled on the user's machine), and no address of a registry, so that any mirror will do.
# Extras stay in it because pip before 24 cannot match hashes without them.
lock: ## renew requirements.lock
	@$(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet uv
	@.uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --group sample --group dev \
		--only-binary :all: --generate-hashes --no-strip-extras --custom-compile-command "make lock" \
		--output-file requirements.lock pyproject.toml
	@.uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group spark --constraint requirements.lock \
		$(addprefix --no-emit-package=,grpcio numpy pandas protobuf pyarrow python-dateutil six typing-extensions tzdata zstandard) \
		--only-binary :all: --no-binary pyspark --generate-hashes --no-strip-extras --no-annotate --custom-compile-command "make lock" \
		--output-file spark.lock

# The copy of the lock is the stamp: the environment is rebuilt, from nothing, only when the lock has changed.
# The loop draws a dot per package and fails unless pip has said that it succeeded.
$(VENV): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.12 ...")'
	@echo "Setting up .venv from requirements.lock: about a minute, and only when the lock has changed."
	@$(PYTHON) -m venv --clear .venv
	@PYTHONUNBUFFERED=1 $(BIN)/pip install --no-deps --requirement requirements.lock 2>&1 | tee .venv/pip.log | { \
		failed=1; while read -r word _; do case $$word in \
			Collecting|Processing) printf . ;; \
			Installing) printf ' installing ' ;; \
			Successfully) failed=0; echo done ;; \
		esac; done; exit $$failed; } || { echo; tail -n 20 .venv/pip.log; exit 1; }
	@$(BIN)/pip check
	@cp requirements.lock $@
