# Paths are relative throughout: make cannot cope with a space in the name of the folder it works in.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:
# Another project's environment must not leak into ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Programs that may not keep what Python has compiled compile all of it at each start, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PYTHON_FOLDERS := $(wildcard payment_service callback_gateway case_desk runtime development daraja_simulator conformance benchmarks scripts tests payment_client/src examples)
PROTOS := $(wildcard proto/mpesa_payments/v1/*.proto)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: ## Make the virtual environment in .venv (every other target does so too)
	@scripts/bootstrap.sh

.PHONY: demo
demo: setup ## Take payments through every ending, show them, exit 0
	@$(BIN)/payment-service demo

.PHONY: run
run: setup ## Start every part on this machine and stay up
	@$(BIN)/payment-service dev

.PHONY: test
test: setup ## Run all tests, with coverage of the code and of the simulator's quirks
	@$(BIN)/python -m pytest -n 5 --dist worksteal -p tests.quirk_coverage --cov --cov-report=term:skip-covered

.PHONY: test-fast
test-fast: setup ## Run the tests that take a moment each
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

.PHONY: lint
lint: setup lint-python typecheck lint-proto breaking check-generated check-diagram check-errors check-alarms ## Run every check that is not a test

.PHONY: lint-python
lint-python: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

.PHONY: lint-proto
lint-proto: setup
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code

.PHONY: format
format: setup ## Format Python and proto files, and fix what ruff can fix
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .
	@$(BIN)/buf format --write

.PHONY: typecheck
typecheck: setup ## Check types (mypy --strict)
	@$(BIN)/mypy --strict $(PYTHON_FOLDERS)

.PHONY: generate
generate: ## Generate Python from the proto files, into generated/
	@scripts/generate.sh generated

.PHONY: check-generated
check-generated: ## Check that generated/ is what the proto files say
	@scripts/generate.sh --check generated

.PHONY: breaking
breaking: setup ## Check that the API still serves the clients of the last release
	@$(BIN)/buf breaking --against proto/released.binpb

.PHONY: diagram
diagram: setup ## Draw the state diagram from the transition table
	@$(BIN)/python -m scripts.state_diagram --write docs/state-diagram.md

.PHONY: check-diagram
check-diagram: setup ## Check that the state diagram is what the transition table says
	@$(BIN)/python -m scripts.state_diagram --check docs/state-diagram.md

.PHONY: errors
errors: setup ## Make the page of errors from the comments of the API
	@$(BIN)/python -m scripts.error_catalogue --write docs/errors.md

.PHONY: check-errors
check-errors: setup ## Check that the page of errors is what the comments of the API say
	@$(BIN)/python -m scripts.error_catalogue --check docs/errors.md

.PHONY: alarms
alarms: setup ## Make the page of alarms from the programs' lists
	@$(BIN)/python -m scripts.alarms_page --write docs/alarms.md

.PHONY: check-alarms
check-alarms: setup ## Check that the page of alarms is what the programs' lists say
	@$(BIN)/python -m scripts.alarms_page --check docs/alarms.md

.PHONY: bench
bench: setup ## Measure throughput, latencies and watchers against the floor
	@$(BIN)/python -m benchmarks

.PHONY: bench-browsers
bench-browsers: setup ## Measure how soon a passenger's page changes, and 500 pages beside 100 callbacks a second
	@$(BIN)/python -m benchmarks.browsers

.PHONY: conformance
conformance: setup ## Try every promise about money against the real programs, judged from outside
	@$(BIN)/python -m conformance

.PHONY: campaign-refunds
campaign-refunds: setup ## Refund 2,000 times and a trip of 500 while programs are killed, and compare the books (up to an hour)
	@$(BIN)/python -m tests.end_to_end.refund_campaign

.PHONY: campaign-kills
campaign-kills: setup ## Kill the example services 100 times during 1,000 payments, and judge every seat and message (up to an hour)
	@$(BIN)/python -m pytest -q -s -p no:cacheprovider --at-length tests/examples/test_kills.py

.PHONY: campaign-order
campaign-order: setup ## Write 20,000 events while backends are killed, and judge what every watcher has seen (minutes)
	@$(BIN)/python -m pytest -q -s -p no:cacheprovider --at-length tests/order/test_order.py

.PHONY: security
security: setup ## Show every control of docs/security.md at work, and print them with figures
	@$(BIN)/python -m scripts.controls docs/security.md

.PHONY: sabotage
sabotage: setup ## Plant one fault at a time and see the tests catch it
	@$(BIN)/python -m tests.sabotage

.PHONY: release
release: setup lint ## Renew proto/released.binpb, what later API changes are measured against
	@$(BIN)/buf build -o proto/released.binpb

.PHONY: audit
audit: setup ## Ask whether anything installed has a known vulnerability, and list what the programs run with (SBOM)
	@scripts/bootstrap.sh audit
	@$(BIN)/python -m scripts.audit .venv-audit/bin

.PHONY: wheel
wheel: setup ## Build the wheel that is installed beside requirements-run.lock, into dist/
	@$(BIN)/python -m pip --disable-pip-version-check -q wheel --no-deps --no-build-isolation --wheel-dir dist .

# What the programs run with is locked to the versions that the tests had.
.PHONY: lock
lock: ## Renew the locks, within the ranges of pyproject.toml
	@scripts/bootstrap.sh generator
	@for pair in "pyproject.toml --extra dev --extra check --extra examples:requirements" "pyproject.toml -c requirements.lock:requirements-run" \
	    "requirements-generator.in:requirements-generator" "requirements-audit.in:requirements-audit"; do \
	    .venv-generator/bin/uv pip compile $${pair%%:*} -o $${pair##*:}.lock --upgrade --quiet --universal \
	        --python-version 3.11 --only-binary :all: --generate-hashes --no-emit-index-url --no-strip-extras --no-header || exit 1; \
	done
