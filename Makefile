# The words of this project; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin

CLIENTS := .venv-clients/langchain-openai .venv-clients/litellm bench/clients/node/node_modules

.PHONY: help install run check test test-core test-pair test-parts storms faults test-hermes \
	try-image lock bench bench-relay bench-crowd bench-sim bench-scale bench-traces clients docs clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

install: .venv/installed ## a .venv with the locked versions

run: install ## the pair with the demo models on 127.0.0.1:8080, until Ctrl-C
	@exec $(BIN)/python examples/demo/run.py

check: install ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: test-core ## every test; the pure cores with full coverage
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-pair test-parts

test-pair: install ## the tests of both programs together
	SWAPYARD_TEST_LANE=0 $(BIN)/python -m pytest -q tests/project tests/e2e

test-parts: install ## the tests of each program, and of faults
	SWAPYARD_TEST_LANE=1 $(BIN)/python -m pytest -q tests/http tests/faults

test-core: install ## the pure cores, in seconds
	$(BIN)/coverage run -m pytest -q tests/core
	$(BIN)/coverage report

storms: install ## a long search for what breaks a promise of the cores: STORMS=50 times the usual
	SWAPYARD_STORMS=$(or $(STORMS),50) $(BIN)/python -m pytest -q -o faulthandler_timeout=0 \
		tests/core/test_invariants*.py tests/core/test_pair_storms.py

faults: install ## kills, hangs and partitions over running load, as JSON: MINUTES=30, SEED=any
	@$(BIN)/python -m tests.faults.storm --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

.venv-hermes/installed: tests/hermes/requirements.txt
	$(PYTHON) -m venv .venv-hermes
	.venv-hermes/bin/pip install --quiet --disable-pip-version-check -r tests/hermes/requirements.txt
	@touch $@

test-hermes: install .venv-hermes/installed ## with the real Hermes agent, which gets a venv of its own
	$(BIN)/python -m pytest -q tests/hermes

try-image: install ## the image of the Dockerfile, made and run by hand, as root and without a container engine
	@$(BIN)/python -m deploy.try_image

bench: install ## the figures of the README, as JSON
	@$(BIN)/python -m bench

bench-relay: install ## what the way through both programs costs, as JSON
	@$(BIN)/python -m bench.relay

bench-crowd: install ## what very many clients cost that wait or watch, as JSON
	@$(BIN)/python -m bench.crowd

bench-sim: install ## the tables and the plot of docs/scheduling.md, simulated in some minutes
	@nice $(BIN)/python -m bench.sim page

bench-scale: install ## what decisions cost in a large fleet, simulated, as JSON
	@nice $(BIN)/python -m bench.sim scale

bench-traces: install ## traces of a minute each in real time, as JSON
	@$(BIN)/python -m bench.traces

.venv-clients/%/installed: bench/clients/python/%.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

%/node_modules/installed: %/package-lock.json
	npm --prefix $* ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

clients: install $(CLIENTS:=/installed) ## what real clients do, into docs/clients.md; needs npm
	@$(BIN)/python -m bench.clients

docs: install ## write the generated parts of the documentation
	$(BIN)/python docs/generate.py

lock: ## the newest versions into requirements.lock
	$(BIN)/pip-compile -q --upgrade --all-extras --strip-extras --no-emit-find-links \
		--no-emit-index-url --no-emit-trusted-host -o requirements.lock pyproject.toml
	$(BIN)/pip-compile -q --upgrade --strip-extras --no-emit-find-links --no-emit-index-url \
		--no-emit-trusted-host -o tests/hermes/requirements.txt tests/hermes/requirements.in
	for client in langchain-openai litellm; do \
		$(BIN)/pip-compile -q --upgrade --strip-extras --no-emit-find-links --no-emit-index-url \
			--no-emit-trusted-host -o bench/clients/python/$$client.txt \
			bench/clients/python/$$client.in || exit 1; \
	done
	npm --prefix bench/clients/node update --package-lock-only --ignore-scripts --no-audit --no-fund

clean: ## everything that was made here
	rm -rf .venv .venv-hermes .venv-clients bench/clients/node/node_modules \
		examples/demo/models examples/demo/state
