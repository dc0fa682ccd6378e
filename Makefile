# make demo and make test start from a fresh machine with Python 3.11 (and its venv module), g++, make and perl.

PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
STAMP = $(VENV)/.spikeloom
JOBS ?= 2

AGAIN = $(if $(wildcard $(VENV)),rm -r $(VENV) && )make setup PYTHON=python3.11
RECENT = import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
  "spikeloom: Python: 3.11 or newer is needed, not %d.%d; try: $(AGAIN)" % v[:2])
TORCH = import sys, torch; v = torch.__version__; print(v); sys.exit([int(n) for n in v.split(".")[:2]] < [2, 6])

.PHONY: setup demo test lint numbers clean

setup: $(STAMP)

# TORCH_INDEX=URL takes torch from another index, such as one with CPU builds, and everything else from the usual one.
# A torch of 2.6 or newer that is already there, in the environment or in the Python that the environment is made from,
# stays as it is, with the versions of its own dependencies.
$(STAMP): pyproject.toml constraints.txt Makefile
	@if test -x $(VENV)/bin/pip; then $(VENV)/bin/python -c '$(RECENT)'; else \
	  $(PYTHON) -c '$(RECENT)' && \
	  { if $(PYTHON) -c '$(TORCH)' >/dev/null 2>&1; then site=--system-site-packages; fi; \
	    $(PYTHON) -m venv $$site $(VENV); }; \
	fi
	@if found=$$($(VENV)/bin/python -c '$(TORCH)' 2>/dev/null); then \
	  echo "keeping torch $$found"; \
	  sed -e "s/^torch==.*/torch==$$found/" -e '/^sympy==/d' -e '/^mpmath==/d' constraints.txt \
	    > $(VENV)/constraints.txt; \
	else \
	  cp constraints.txt $(VENV)/constraints.txt; \
	  $(if $(TORCH_INDEX),$(PIP) install -q -c constraints.txt --index-url $(TORCH_INDEX) --no-deps torch,:); \
	fi
	$(PIP) install -q -c $(VENV)/constraints.txt -e '.[torch,sim,synth,plots,dev]'
	$(PIP) install -q -c $(VENV)/constraints.txt --no-deps spikingjelly
	@touch $@

demo: setup
	$(VENV)/bin/spikeloom simulate digits --preset tiny --images 20

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

test: setup lint
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# Measures what README's table claims; make numbers ARGS="--only simulate,synth" measures a part of it.
numbers: setup
	$(VENV)/bin/python -m verif.numbers $(ARGS)

clean:
	rm -rf build
