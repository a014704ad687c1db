# make demo: masks of seven photographs.
# make run: the pipeline: train, score, draw and push the demo.  make test, make lint: what CI runs.
# A virtual environment in .venv is made first; PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(shell python$(v) --version >/dev/null 2>&1 && echo python$(v))) python3)
PY := .venv/bin/python

# make test-long: the tests that take minutes each.
.PHONY: demo run test test-long lint docs tensorboard clean

demo: .venv/installed
	$(PY) -m casm_tf.demo

run: .venv/installed
	$(PY) -m components.pipeline --flagfile=configs/pipeline.flags

test: .venv/installed
	$(PY) -m pytest -n 2 --dist loadfile --durations=10
	@echo "all tests passed; next: make run"

test-long: .venv/installed
	$(PY) -m pytest -m long -n 2 --dist worksteal
	@echo "all long tests passed"

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# The pages in docs/ and the docstrings as a site, in site/.
docs: .venv/installed
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	.venv/bin/mkdocs build --strict

# Of a run that resumes while the clock is behind, the new file's name sorts before the old one's.
tensorboard: .venv/installed
	.venv/bin/tensorboard --logdir=runs --reload_multifile=true --reload_multifile_inactive_secs=-1

clean:
	rm -rf .venv *.egg-info

.venv/installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@
