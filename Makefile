# The whole developer interface. `make` alone prints it.

VENV := .venv
BIN := $(VENV)/bin
# One stamp per lock: newer than its lock means installed.
LOCAL := $(VENV)/.local-installed
DEV := $(VENV)/.dev-installed
STUBS := --python_out=. --pyi_out=. --grpc_python_out=.
COMPILE = $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate

# The first Python that runs and is new enough; a name on PATH alone proves neither.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$name && break; done)

export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help setup hooks run test test-images e2e drill alerts-drill bench check lint fix types \
	check-protos protos monitoring lock upgrade migrate images image-base clean

help:
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9%-]+:.*## / { name = $$1; sub(/%/, "<unit>", name); printf "  %-14s %s\n", name, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

##@ Play
run: $(LOCAL) ## Start everything on this machine, with simulated players; Ctrl-C stops it (settings: README.md)
	@# Replaces the shell, so that make hands SIGTERM to the suite and waits for its end.
	@exec $(BIN)/python -m local

##@ Test
# Much of the time a test waits: for a process to start, to be killed, to be noticed.
WORKERS ?= 3

test: $(DEV) ## Run all tests (ARGS="-k name" narrows them)
	@$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(ARGS)

test-%: $(DEV) ## Run one unit's tests: make test-scores, make test-chassis
	@for folder in services/$* $*; do \
		if [ -d $$folder ]; then exec $(BIN)/python -m pytest $$folder $(ARGS); fi; \
	done; echo "make: there is no unit called $*" >&2; exit 1

e2e: $(DEV) ## Run what crosses units: boundaries, contracts, journeys, the page
	@$(BIN)/python -m pytest tests $(ARGS)

drill: $(DEV) ## Lose Postgres and Redis, restore from a backup, and check every award
	@$(BIN)/python -m pytest -q -s tests/faults/test_drill.py $(ARGS)

test-images: $(DEV) ## Build the images, run them with podman, and the journeys against them
	@TEST_IMAGES=1 $(BIN)/python -m pytest -n0 -s tests/containers $(ARGS)

bench: $(DEV) ## Measure the award path
	@exec $(BIN)/python -m bench.award $(ARGS)

alerts-drill: $(DEV) ## Have the alerts fire under real faults (needs prometheus; ARGS=file)
	@PYTHONPATH=.:clients/python exec $(BIN)/python -m tests.alerts_drill $(ARGS)

##@ Check
check: lint types test ## Everything that CI asks

lint: $(DEV) ## Look for mistakes and for foreign formatting
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

fix: $(DEV) ## Mend what lint can mend by itself
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

types: $(DEV) ## Check the types
	@$(BIN)/python -m mypy

check-protos: $(DEV) ## Compare the committed stubs with freshly made ones
	@$(BIN)/python -m pytest -q tests/test_protos.py

##@ Make
setup: $(DEV) ## Install everything for development into .venv

hooks: $(DEV) ## Let git check each commit (pre-commit)
	@$(BIN)/python -m pre_commit install

protos: $(DEV) ## Make the stubs of protos/ again
	@rm -f protos/*_pb2.py protos/*_pb2.pyi protos/*_pb2_grpc.py
	@$(BIN)/python -m grpc_tools.protoc -I . $(STUBS) protos/*.proto

monitoring: $(DEV) ## Make rules, routes of alerts and dashboards again
	@$(BIN)/python -m deploy.monitoring

lock: $(DEV) ## Write the locks again after a change of pyproject.toml
	@$(COMPILE) pyproject.toml --group dev -o requirements-dev.lock
	@$(COMPILE) pyproject.toml --group local -c requirements-dev.lock -o requirements-local.lock
	@$(COMPILE) pyproject.toml -c requirements-dev.lock -o requirements.lock
	@$(COMPILE) --group sbom -o requirements-sbom.lock

upgrade: COMPILE += --upgrade
upgrade: lock ## Take the newest releases that pyproject.toml allows

migrate: $(LOCAL) ## Bring the schemas of DATABASE_URL up to date (make run does it by itself)
	@exec $(BIN)/python -m deploy migrate

images: ## Build the seven images (TAG=dev, BUILDER=docker, podman or buildah)
	@deploy/images/build.sh

image-base: ## Make their base, python:3.13-slim, from Debian's packages where no registry is reached
	@deploy/images/base.sh

clean: ## Remove the environment and all caches; data stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(if $(PYTHON),,$(error no Python 3.11 or newer was found (name one: make PYTHON=/path/to/python)))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv' 2>&1),$(error \
		$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv))
	@$(PYTHON) -m venv --clear $(VENV)

$(LOCAL): requirements-local.lock | $(BIN)/python
	@echo "installing $<"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

# The development lock holds all of the local one, version for version.
$(DEV): requirements-dev.lock | $(BIN)/python
	@echo "installing $<"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@ $(LOCAL)
