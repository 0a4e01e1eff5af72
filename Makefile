# What a person types here: make demo | test | test-all | check | report | notebooks | picture | clean

PYTHON  ?= python3
WORKERS ?= 2
RESULTS ?= results
CHROMIUM ?= chromium

VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile

# what `make test-all` tries besides; an extra that needs a GPU or a compiler is not among them
EXTRAS := launchers ray trackers torchao serve openvino nncf jax paddle mindspore
PACKAGE := pyproject.toml setup.py constraints.txt

# Where the package index has no CPU build of torch: the address of an index that has
CPU_BUILDS ?=
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

# Tests start Python hundreds of times, and each start without compiled files compiles the package.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all check report notebooks picture clean

help:
	@echo "make demo      a small sweep of the embedded models, and its report, into demo/;"
	@echo "               minutes for the first time, most of them to install packages"
	@echo "make test      the fast suite"
	@echo "make test-all  the whole suite, with what is slow"
	@echo "make check     lint, format and types"
	@echo "make report    pages about $(RESULTS)/ into pretty_results/"
	@echo "make notebooks  run the notebooks on their records and keep their tables and pictures"
	@echo "make picture   the picture of the page in README.md; needs chromium"
	@echo "make clean     remove demo/ and the caches; records and $(VENV)/ stay"

demo: $(VENV)/.user
	@echo "About a minute on two cores: 4 points, then their report."
	$(PY) main.py -m model=qwen25vl,llava img_size=112,224 profiler=quick results_dir=demo/results
	$(PY) -m profiling.report demo/results --output demo/report
	$(PY) -m profiling.report demo/results --html demo/report.html
	@echo "The report: $(CURDIR)/demo/report/index.md and, for a browser, $(CURDIR)/demo/report.html"

test: $(VENV)/.dev
	$(PYTEST) -m "not slow and not gpu"

test-all: $(VENV)/.extras
	$(PYTEST) --hypothesis-profile=random

check: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

report: $(VENV)/.user
	$(PY) -m profiling.report $(RESULTS)

notebooks: $(VENV)/.dev
	$(PY) notebooks/execute.py

# The first part of the page of the shipped records, at a usual width
picture: $(VENV)/.user
	$(PY) -m profiling.report notebooks/records --html build/page.html
	$(CHROMIUM) --headless --no-sandbox --hide-scrollbars --virtual-time-budget=8000 \
	  --window-size=1300,860 --screenshot=docs/pictures/page.png build/page.html

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# The environment. Each stamp is older than what it was made from when that has changed.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo "Python 3.11 to 3.14 is needed; '$(PYTHON)' is not one." \
	       "Name another: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.user: requirements.txt $(PACKAGE) $(PY)
	@$(WITHOUT_CUDA)
	$(PIP) -r requirements.txt
	@touch $@

# A machine without an NVIDIA driver gets the CPU build of torch: the default one brings gigabytes of
# CUDA libraries on Linux.
define WITHOUT_CUDA
if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi > /dev/null; then \
  $(PIP) $(CPU_BUILDS:%=--extra-index-url %) torch==$(TORCH)+cpu 2> /dev/null || \
  echo "The package index has no CPU build of torch $(TORCH): what follows is the default build," \
       "with gigabytes of CUDA libraries. To keep them out, stop here and type" \
       "make $(MAKECMDGOALS) CPU_BUILDS=ADDRESS with that of torch's own index of CPU builds." >&2; \
fi
endef

$(VENV)/.dev: requirements-dev.txt $(PACKAGE) $(VENV)/.user
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.extras: $(PACKAGE) $(VENV)/.dev
	$(PIP) $(EXTRAS:%=-r requirements-%.txt)
	@touch $@
