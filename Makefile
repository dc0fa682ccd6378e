# make demo and make test start from a fresh machine with Python 3.11, g++, make and perl.

PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
STAMP = $(VENV)/.spikeloom
JOBS ?= 2

.PHONY: setup demo test lint clean

setup: $(STAMP)

# TORCH_INDEX=URL takes torch from another index, such as one with CPU builds. A torch that is already there, in the
# environment or in the Python it is made from, stays as it is.
$(STAMP): pyproject.toml constraints.txt Makefile
	@test -x $(VENV)/bin/python || { \
	  if $(PYTHON) -c 'import torch' 2>/dev/null; then site=--system-site-packages; fi; \
	  $(PYTHON) -m venv $$site $(VENV); }
	@$(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'spikeloom: Python 3.11 or newer is needed; try: make setup PYTHON=python3.11' >&2; exit 1; }
	@if found=$$($(VENV)/bin/python -c 'import torch; print(torch.__version__)' 2>/dev/null); then \
	  echo "keeping torch $$found"; \
	  sed "s/^torch==.*/torch==$$found/" constraints.txt > $(VENV)/constraints.txt; \
	else \
	  cp constraints.txt $(VENV)/constraints.txt; \
	  $(PIP) install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch; \
	fi
	$(PIP) install -q -c $(VENV)/constraints.txt -e '.[torch,sim,synth,dev]'
	$(PIP) install -q -c $(VENV)/constraints.txt --no-deps spikingjelly
	@touch $@

demo: setup
	$(VENV)/bin/spikeloom simulate digits --preset tiny --images 20

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

test: setup lint
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

clean:
	rm -rf build
