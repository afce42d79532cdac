# Each target works on a fresh clone with python3 (>= 3.11, with venv), make and git.
PYTHON ?= python3
V := .venv
BIN := $(V)/bin
STAMP := $(V)/.made
# Of the kit, for the lock; `mesh` would look this repository's own services up in a registry.
EXTRAS := --extra worker --extra client --extra cli --extra testing --extra postgres --extra history --extra tracing --extra mail
SRC := shared services tests benchmarks examples deploy
TESTERS ?= 3  # processes that run tests: most of them wait most of the time

.PHONY: sdks sdks-ready browser-ready docs types crossing newest-libraries ui ui-test simulate help setup demo up test check faults fuzz scale bench test-brokers celery-suite compose-test csv-trial restore-drill release package-test lock format clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# uv installs the locked set in seconds; where it cannot be had or cannot reach the registry, pip does it.
$(STAMP): requirements.lock requirements-setup.lock shared/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python 3.11 or newer is needed; say make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(V)
	@echo "Setting up $(V) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-setup.lock
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock 2>/dev/null \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e shared
	@touch $@

setup: $(STAMP)  ## make .venv from the lock file

demo: $(STAMP)  ## run the whole mesh once, do the main job, show the results
	@$(BIN)/streammesh demo

up: $(STAMP)  ## run the whole mesh until Ctrl-C
	@$(BIN)/streammesh up

test: $(STAMP)  ## every test that fits a quarter of an hour
	@$(BIN)/python -m pytest -m "not bench and not ui" -n $(TESTERS) --dist loadfile $(ARGS)

check: $(STAMP)  ## lint, format, types, architecture
	@$(BIN)/ruff check $(SRC)
	@$(BIN)/ruff format --check -q $(SRC) || { echo "run: make format"; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest tests/architecture

format: $(STAMP)  ## put the code in order
	@$(BIN)/ruff check -q --fix-only $(SRC)
	@$(BIN)/ruff format -q $(SRC)

faults: $(STAMP)  ## kill things and count what was lost or doubled
	@$(BIN)/python -m tests.faults $(ARGS)

fuzz: $(STAMP)  ## throw garbage at every door and key, some minutes
	@$(BIN)/python -m tests.fuzz $(ARGS)

simulate: $(STAMP)  ## seeded schedules in virtual time, a fault at any command; ARGS='--schedules 500'
	@$(BIN)/python -m tests.simulation $(ARGS)

scale: $(STAMP)  ## a million kept events and much else: what takes longer for it, and what Redis found slow
	@$(BIN)/python -m tests.scale $(ARGS)

bench: $(STAMP)  ## measure, print a table, write var/bench/latest.json
	@$(BIN)/python -m benchmarks $(ARGS)

newest-libraries: $(STAMP)  ## whether the mesh fits the newest versions that its requirements allow
	@$(BIN)/python -m tests.newest_libraries $(ARGS)

crossing: $(STAMP)  ## the files that a task crosses from its event's stream to its outcome
	@$(BIN)/python -m benchmarks.crossing $(ARGS)

restore-drill: $(STAMP)  ## play the commands of docs/backup.md: back a mesh up, restore it, count
	@$(BIN)/python -m tests.restore_drill $(ARGS)

test-brokers: $(STAMP)  ## the tests of real workers on RabbitMQ and on Celery's own lists
	@$(BIN)/python -m tests.brokers $(ARGS)

celery-suite: $(STAMP)  ## Celery's own integration tests over the mesh's transport
	@$(BIN)/python -m tests.celery_suite $(ARGS)

ui:  ## build the dashboard anew from services/api/ui (needs Node)
	@cd services/api/ui && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

sdks: sdks-ready  ## the official CloudEvents SDKs, AsyncAPI's parser and OpenAPI's generators against the API (needs Node)
	@$(BIN)/python -m pytest services/api/tests/test_official_sdks.py services/api/tests/test_openapi.py $(ARGS)

sdks-ready: tests/sdks/node_modules/.package-lock.json var/sdks/.made  ## install what the tests of `sdks` need, once

tests/sdks/node_modules/.package-lock.json: tests/sdks/package-lock.json  # npm writes it when all is there
	@cd tests/sdks && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

var/sdks/.made: tests/sdks/requirements.lock $(STAMP)
	@test -x var/sdks/bin/python || $(BIN)/python -m venv var/sdks
	@$(BIN)/uv pip sync -q --python var/sdks/bin/python --require-hashes tests/sdks/requirements.lock
	@touch $@

client:  ## build the TypeScript client anew from clients/typescript (needs Node)
	@cd clients/typescript && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

browser-ready: $(STAMP)  ## install what drives the Chromium of `ui-test`
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r tests/browser/requirements.lock

ui-test: browser-ready  ## the dashboard in a real Chromium, before a real mesh; renews docs/images/ui-*.png
	@$(BIN)/python -m pytest -m ui tests/browser $(ARGS)

compose-test: $(STAMP)  ## build the images and run the demo against them (needs a Docker engine)
	@$(BIN)/python -m tests.compose $(ARGS)

var/tools/.made: requirements-tools.lock $(STAMP)
	@test -x var/tools/bin/python || $(BIN)/python -m venv var/tools
	@$(BIN)/uv pip sync -q --python var/tools/bin/python --require-hashes requirements-tools.lock
	@touch $@

docs: var/tools/.made  ## build the documentation as a site into var/site; a broken link fails
	@var/tools/bin/properdocs build -q --strict

types: var/tools/.made  ## the examples, under mypy --strict and pyright's strictest
	@$(BIN)/mypy --strict --no-error-summary examples
	@var/tools/bin/basedpyright

csv-trial: $(STAMP)  ## a report of every CSV file inside five data packages (downloads them; minutes)
	@$(BIN)/python -m tests.csv_trial $(ARGS)

lock: $(STAMP)  ## bring the lock files up to date
	@cat services/*/requirements.txt deploy/*/requirements.txt requirements-dev.txt | grep -v '^streammesh' > $(V)/all.in
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header $(EXTRAS) shared/pyproject.toml $(V)/all.in -o requirements.lock
	@echo uv | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -c requirements.lock - -o requirements-setup.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header requirements-tools.txt -o requirements-tools.lock

release: $(STAMP)  ## build what is published into dist/: wheels, sdists, a bill of materials; say the images
	@$(BIN)/python -m deploy.release $(ARGS)

package-test: $(STAMP)  ## install the wheels into an empty environment elsewhere and run a worker there
	@$(BIN)/python -m tests.package $(ARGS)

clean:  ## remove everything that was made
	@rm -rf $(V) var dist .ruff_cache .mypy_cache
