# Each target sets up what it needs first. A second run needs no network: set-up repeats only when requirements.txt changes.
VENV ?= .venv
PY = $(VENV)/bin/python
READY = $(VENV)/.ready

.PHONY: help setup demo test test-all bench lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## virtual environment, pinned packages, bubblewrap

$(READY): requirements.txt scripts/setup.sh
	@VENV="$(VENV)" bash scripts/setup.sh
	@touch $@

demo: WISH = for 30 epochs with learning rate 3e-3 and batch size 16
demo: $(READY) ## fine-tune a tiny model, from sentence to verdict, without a language model or a download
	@$(PY) examples/demo.py build/demo
	@$(PY) -m agent run "fine-tune build/demo/tiny-qwen3 on build/demo/phrases.jsonl $(WISH)" \
		--model recipes --sandbox embedded --yes

# Most tests wait more than they count, so two files run at once. Many look at the clock: one that fails on a machine that
# was busy gets a second try, by itself.
test: $(READY) ## the fast tests
	@bash scripts/browser.sh
	@$(PY) -m pytest -m "not slow" -n 2 --dist loadfile || \
		{ echo "== once more, only what failed"; $(PY) -m pytest -m "not slow" --last-failed --last-failed-no-failures none; }

test-all: $(READY) ## all tests
	@bash scripts/browser.sh
	@$(PY) -m pytest

bench: $(READY) ## every benchmark, each as a table and JSON
	@set -e; for file in benchmarks/[a-z]*.py; do \
		[ -e "$$file" ] || continue; \
		name=$$(basename "$$file" .py); echo "== $$name"; $(PY) -m "benchmarks.$$name"; \
	done

lint: $(READY) ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

clean: ## what the tools left behind; the virtual environment stays
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -print | xargs rm -rf
