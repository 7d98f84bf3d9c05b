# Everything a newcomer needs: `make demo`, `make check` (lint, types, the tests that start no engine), `make test` (all
# tests). Each target makes its own environment first.
VENV := .venv
BIN := $(VENV)/bin
# Which Python makes the environment; where it is not said, setup.sh finds one.
PYTHON ?=

# Where the surroundings forbid Python to keep bytecode, each process compiles all that it imports: an engine takes
# twice as long to import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo check test lint bench lock clean

setup:
	@bash requirements/setup.sh $(VENV) "$(PYTHON)"

demo: setup
	$(BIN)/fusechat run demo

# What starts no engine runs in as many processes as there are cores, a file's tests in one of them; engines, Ray and
# trainings use all cores themselves.
PYTEST := $(BIN)/pytest -q --durations=20
FAST := $(PYTEST) -m "not slow" -n auto --dist loadfile
SLOW := $(PYTEST) -m slow

# Before every commit; takes minutes.
check: lint
	bash tests/browser.sh
	$(FAST)

# The second part runs even if the first one fails.
test: setup
	bash tests/browser.sh
	$(FAST); fast=$$?; $(SLOW) && exit $$fast

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy -p fusechat
	$(BIN)/ty check --quiet

bench: setup
	@echo "Each script in tests/bench/ is run by hand and says what it measures; docs/performance.md holds the figures."
	@ls tests/bench/*.py

# Resolves anew, for every Python and processor at once; set-up itself never resolves.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: setup
	$(COMPILE) pyproject.toml requirements/torch-needs.txt --extra cpu --extra dev \
	    --override requirements/overrides.txt -o requirements/cpu.lock
	$(COMPILE) requirements/torch.txt --constraint requirements/cpu.lock --no-emit-package triton \
	    -o requirements/torch.lock
	$(COMPILE) pyproject.toml --extra gpu --extra dev -o requirements/gpu.lock
	$(COMPILE) pyproject.toml --extra gpu --constraint requirements/gpu.lock -o requirements/image.lock

clean:
	rm -rf $(VENV) runs build *.egg-info
