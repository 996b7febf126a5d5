# `make bench` exports the shipped weights and measures B100's frames per second on this machine.
# `make test` runs lint, types and tests. Both make .venv first where it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: bench install test lint style models clean

bench: $(INSTALLED)
	$(BIN)/python export/to_onnx.py
	$(BIN)/python benchmarks/fps.py --dataset B100 --models gidrn,imdn,rfdn_l --engines native,ort-cpu

install: $(INSTALLED)

# Types beside the tests, since each leaves cores idle; what mypy says comes last.
test: style
	@$(BIN)/mypy >$(VENV)/types.txt 2>&1 & types=$$!; \
	trap "kill $$types" INT TERM; \
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal; tests=$$?; \
	wait $$types; types=$$?; \
	echo $(BIN)/mypy; cat $(VENV)/types.txt; \
	test $$tests = 0 && test $$types = 0

lint: style
	$(BIN)/mypy

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python benchmarks/generated_tables.py --check

# The runtime's own copies of the exported models, made from the shipped weights.
models: $(INSTALLED)
	for scale in 2 3 4; do \
	    $(BIN)/python export/to_onnx.py --scale $$scale \
	        --out runtime/gidrn_runtime/models/gidrn_x$$scale.onnx || exit 1; \
	    $(BIN)/python export/to_onnx.py --scale $$scale --tiles \
	        --out runtime/gidrn_runtime/models/gidrn_x$${scale}_tiles.onnx || exit 1; \
	done

# Without --no-compile half of its time goes into bytecode of modules most of which nothing imports.
$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(wildcard runtime/gidrn_runtime/native/*.[ch]*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
