PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench fidelity validation clean

demo: .venv/installed
	$(BIN)/fleetcast run scenarios/chat-70b-prefill-first.toml --out runs/prefill-first
	$(BIN)/fleetcast run scenarios/chat-70b-chunked.toml --out runs/chunked
	$(BIN)/fleetcast compare runs/prefill-first runs/chunked
	@echo "Pictures: open runs/chunked/report.html. Next: edit scenarios/chat-70b-chunked.toml, or add --set key=value."

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/pytest -n auto --dist loadgroup

bench: .venv/installed-dev
	$(BIN)/python benchmarks/serving_speed.py

fidelity: .venv/installed
	$(BIN)/fleetcast calibrate report $(if $(DATA),--data $(DATA)) --markdown docs/fidelity.md --out runs/fidelity.html

validation: .venv/installed
	$(BIN)/fleetcast validate --out studies/validation.json

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv runs build *.egg-info
