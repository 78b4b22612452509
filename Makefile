# The front door. SIZE and FAMILY are the only dials; PUSH=1 lets `publish` and `release` write to the endpoint in HF_ENDPOINT.
FAMILY ?= recipes/ettin.toml
SIZE   ?= $(firstword $(SIZES))
PUSH   ?=

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

NAME   := $(shell sed -n '/^\[family\]/,/^\[/s/^name *= *"\([^"]*\)".*/\1/p' $(FAMILY) 2>/dev/null)
SIZES  := $(shell sed -n 's/^\[sizes\.\(.*\)\]/\1/p' $(FAMILY) 2>/dev/null)
DATA   := build/$(NAME)/data
RUN    := build/$(NAME)/$(SIZE)
WHAT   := --family $(FAMILY) --size $(SIZE)
DECLARATION := $(shell sed -n 's/^declaration *= *"\([^"]*\)".*/\1/p' $(FAMILY) 2>/dev/null)

# Verbs that are about one model need a family file and a size that exist; say so before anything is set up.
MODEL_VERBS := release data mix score train distill choose evaluate speed export card stage plan publish verify preflight plan-data plan-train
ifneq ($(filter $(MODEL_VERBS),$(MAKECMDGOALS)),)
  ifeq ($(wildcard $(FAMILY)),)
    $(error no family file '$(FAMILY)'; hint: FAMILY is one of $(wildcard recipes/*.toml))
  endif
  ifeq ($(filter $(SIZE),$(SIZES)),)
    $(error unknown size '$(SIZE)'; in $(FAMILY); hint: SIZE is one of $(SIZES))
  endif
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo release preflight data mix score train distill choose evaluate speed export card stage plan publish verify hub \
        compare plan-data plan-train test check style bench bench-train bench-predict bench-hub bench-mix bench-sample bench-engines bench-unpadded clean

help: ## this list
	@sed -n 's/^\([a-z -]*\):.*## /\1	/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo "  FAMILY=$(FAMILY)  SIZE=$(SIZE)  (sizes: $(SIZES))"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; hint: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,engines,export,dev]'
	@touch $@

setup: $(READY) ## a virtual environment with everything, from constraints.txt

demo: setup ## the whole chain on the embedded default, published to the embedded Hub: no network, no GPU, no account
	@$(PY) -m release demo

release: setup ## the whole chain for SIZE of FAMILY; PUSH=1 with HF_ENDPOINT publishes
	@$(PY) -m release preflight $(WHAT) $(if $(PUSH),--push)
	@$(MAKE) --no-print-directory $(if $(PUSH),verify,stage plan) FAMILY=$(FAMILY) SIZE=$(SIZE) PUSH=$(PUSH)

preflight: setup ## what a release of SIZE still misses on this machine
	@$(PY) -m release preflight $(WHAT) $(if $(PUSH),--push)

# The stages. Each is a file under build/, so make itself skips what is current.
mix: $(DATA)/pairs/manifest.json ## sources -> pairs
score data: $(DATA)/mixture/manifest.json ## pairs -> teacher logits: the training mixture
train distill: $(RUN)/records/run.json ## the recipe: encoder + mixture -> model
choose: $(RUN)/records/choice.json ## best or last checkpoint, by the family's own benchmark -> record
evaluate: $(RUN)/records/evaluate.json ## two-stage NDCG@10 -> record
speed: $(RUN)/records/speed.json ## pairs/s by the protocol -> record
export: $(RUN)/records/export.json ## dual root and ONNX, compared with the model -> record
card: $(RUN)/README.md ## family + records -> the model card
stage: $(RUN)/repo/README.md ## the folder exactly as the Hub will hold it, checked

$(DATA)/pairs/manifest.json: $(FAMILY) $(DECLARATION) | $(READY)
	@$(PY) -m release.data.mix --family $(FAMILY)

$(DATA)/mixture/manifest.json: $(DATA)/pairs/manifest.json | $(READY)
	@$(PY) -m release.data.score --family $(FAMILY)

$(RUN)/records/run.json: $(DATA)/mixture/manifest.json | $(READY)
	@$(PY) recipes/distill.py $(WHAT)

$(RUN)/records/choice.json: $(RUN)/records/run.json | $(READY)
	@$(PY) -m release choose $(WHAT)

$(RUN)/records/evaluate.json: $(RUN)/records/choice.json | $(READY)
	@$(PY) -m release evaluate $(WHAT)

$(RUN)/records/speed.json: $(RUN)/records/choice.json | $(READY)
	@$(PY) -m release speed $(WHAT)

$(RUN)/records/export.json: $(RUN)/records/choice.json | $(READY)
	@$(PY) -m release export $(WHAT)

$(RUN)/README.md: $(RUN)/records/evaluate.json $(RUN)/records/speed.json $(RUN)/records/export.json $(wildcard cards/*) | $(READY)
	@$(PY) -m release card $(WHAT)

$(RUN)/repo/README.md: $(RUN)/README.md | $(READY)
	@$(PY) -m release stage $(WHAT)
	@$(PY) -m release check $(WHAT)

compare: setup ## every size, the teacher, other rerankers and the first stages: table and plots, from the records here
	@$(PY) -m release compare --family $(FAMILY)

plan: setup ## what would run and what would be published, without doing it
	@$(PY) -m release plan $(WHAT)

publish: $(RUN)/repo/README.md ## to the endpoint in HF_ENDPOINT, private at first; only with PUSH=1
	@$(PY) -m release publish $(WHAT) $(if $(PUSH),--push)

verify: publish ## pull everything back, compare, make public, tag
	@$(PY) -m release verify $(WHAT) $(if $(PUSH),--push)

hub: setup ## the embedded Hub on loopback, over build/hub
	@$(PY) -m release hub

plan-data: setup ## rows, bytes, licences and overlaps of the declared data
	@$(PY) -m release.data.mix --family $(FAMILY) --plan

plan-train: setup ## parameters, steps, memory and hours of training SIZE on WORLD devices, without any weights
	@$(PY) -m release.training.budget $(WHAT) --world $(or $(WORLD),1) $(if $(RATE),--pairs-per-second $(RATE))

test: setup ## the promises of the README
	@$(PY) -m pytest

check: setup ## style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ty check

style: setup ## fix what can be fixed
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: bench-train bench-predict bench-hub bench-mix bench-sample bench-engines bench-unpadded ## every benchmark, both sides in one run

bench-train bench-predict bench-hub bench-mix bench-sample bench-engines bench-unpadded: setup
	@$(PY) -m benchmarks.$(subst -,_,$@)

clean: ## remove everything generated (the virtual environment stays)
	rm -rf build
