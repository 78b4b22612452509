# Every verb of the project: `make help`. SIZE (one, or all) and FAMILY say what is released; PUSH=1 lets `publish` and `release`
# write to the endpoint in HF_ENDPOINT, WHAT=card lets `publish` correct the card of what is released and nothing else, ORG=name
# releases the family under another organisation, MICRO_BATCH=pairs trains the same in smaller passes, JUDGE_HOURS=hours (1) is
# what `export` may take to judge files in 8 and 16 bits. `make verify REPO=org/name` (REVISION=commit) proves a released repository
# from its name alone, on any machine; FIGURE is the number that `make explain` looks up. release/stages.py has the stages as a
# table; a test holds this file against it.
FAMILY ?= recipes/ettin.toml
SIZE   ?=
PUSH   ?=

# Given to make itself only: a variable of the shell that happens to have that name decides nothing.
ifeq ($(origin ORG):$(strip $(ORG)),command line:)
  $(error ORG= names no organisation; hint: ORG=name, or leave it out for the family's own)
endif
ORG_GIVEN := $(if $(filter command line,$(origin ORG)),$(ORG))
ifneq ($(ORG_GIVEN),)
  export RELEASE_ORG := $(ORG_GIVEN)
endif
AS := $(if $(RELEASE_ORG),--org '$(RELEASE_ORG)')

BESIDE := $(if $(filter command line,$(origin PREVIOUS)),--previous '$(PREVIOUS)')
CHANGE := $(if $(filter command line,$(origin WHAT)),--what '$(WHAT)') $(if $(filter command line,$(origin PR)),$(if $(PR),--pull-request))

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

STAGES := mix score train select evaluate speed export engines card stage publish verify
PER_SIZE := $(STAGES) release preflight plan plan-train

# SIZE=all: the same once for each size (release/every_size.py).
ifeq ($(SIZE),all)
  override SIZE :=
  FOR_EACH := $(filter $(PER_SIZE),$(MAKECMDGOALS))
endif

# Python reads the family file and answers `ok NAME SIZE SIZES...` or what is wrong with it, at most once per run of make. For a stage
# it also keeps the facts/<stage>.json below up to date: they change where a fact changes that the stage rests on, and nowhere else.
ifneq ($(filter $(STAGES) build/% help release release-data preflight explain plan plan-data plan-train plan-evaluate compare,$(or $(MAKECMDGOALS),help)),)
  WRITE  := $(if $(filter $(STAGES) build/% release-data,$(MAKECMDGOALS)),--write)
  ANSWER := $(shell $(or $(wildcard $(PY)),$(PYTHON)) -m release.facts $(WRITE) $(AS) $(FAMILY) $(SIZE) 2>&1)
  ifneq ($(firstword $(ANSWER)),ok)
    $(error $(ANSWER))
  endif
endif
NAME  := $(word 2,$(ANSWER))
override SIZE := $(word 3,$(ANSWER))
SIZES := $(wordlist 4,$(words $(ANSWER)),$(ANSWER))
DATA  := build/$(NAME)/data
RUN   := build/$(NAME)/$(SIZE)
OF    := --family $(FAMILY) --size $(SIZE)
# What the card shows beside its own figures. A card that is published is not made again for a later comparison.
COMPARISON := $(if $(wildcard $(RUN)/records/verify.json),,$(wildcard build/$(NAME)/compare/comparison.json))

ifndef MAKE_TERMERR  # no library draws a bar into a log
  export TQDM_DISABLE := 1
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:  # what is timed must be alone on the machine
.PHONY: help setup demo release release-data preflight explain $(STAGES) data distill choose hub rehearse compare plan plan-data \
        plan-train skill skill-bundle skill-evals agent-rehearsal test check style \
        all-engines bench bench-train bench-predict bench-hub bench-mix bench-sample bench-engines bench-unpadded bench-gpu cluster-check lies faults kills clean

help: ## this list
	@sed -n 's/^\([a-z -]*\):.*## /\1	/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  FAMILY=$(FAMILY)  SIZE=$(SIZE)  (sizes: $(SIZES))"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; hint: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(READY) ## a virtual environment with everything in it

ifneq ($(FOR_EACH),)
.PHONY: $(FOR_EACH)
$(firstword $(FOR_EACH)): setup
	@$(PY) -m release.every_size --make '$(MAKE)' $(if $(PUSH),--push) '$(FAMILY)' $(FOR_EACH)
$(filter-out $(firstword $(FOR_EACH)),$(FOR_EACH)): $(firstword $(FOR_EACH))
	@:
else

demo: setup ## every stage, small: no network, no GPU, no account
	@$(PY) -m release demo

release: setup ## every stage that this machine can do; PUSH=1 publishes
	@$(PY) -m release preflight $(OF) $(if $(PUSH),--push,--far) $(if $(MICRO_BATCH),--micro-batch $(MICRO_BATCH))
	@$(MAKE) --no-print-directory $(if $(PUSH),verify,$$($(PY) -m release preflight $(OF) --goals)) \
	  FAMILY=$(FAMILY) SIZE=$(SIZE) PUSH=$(PUSH)

preflight: setup ## what a release of SIZE lacks on this machine
	@$(PY) -m release preflight $(OF) $(if $(PUSH),--push) $(if $(MICRO_BATCH),--micro-batch $(MICRO_BATCH))

# The stages. Each is a file under build/, so make itself skips what is current.
mix: $(DATA)/pairs/manifest.json ## sources -> pairs
score: $(DATA)/mixture/manifest.json ## pairs -> teacher logits: the training mixture
train: $(RUN)/records/run.json ## the recipe: encoder + mixture -> model
select: $(RUN)/records/choice.json ## the better of best and last checkpoint -> record
evaluate: $(RUN)/records/evaluate.json ## two-stage NDCG@10 -> record
speed: $(RUN)/records/speed.json ## pairs/s, memory and latency -> record
export: $(RUN)/records/export.json ## dual root and ONNX, compared with the model -> record
engines: $(RUN)/records/engines.json ## the export in every engine, the same scores -> record
card: $(RUN)/README.md ## family + records -> the model card
stage: $(RUN)/repo/README.md ## the folder as the Hub will hold it, checked

$(DATA)/pairs/manifest.json: $(DATA)/facts/mix.json | $(READY)
	@$(PY) -m release mix --family $(FAMILY)

$(DATA)/mixture/manifest.json: $(DATA)/pairs/manifest.json $(DATA)/facts/score.json | $(READY)
	@$(PY) -m release score --family $(FAMILY)

# A model that was trained on another machine, whose data is not here, is not trained again.
ELSEWHERE := $(and $(wildcard $(RUN)/records/run.json),$(if $(wildcard $(DATA)/pairs $(DATA)/mixture),,yes))

$(RUN)/records/run.json: $(if $(ELSEWHERE),,$(DATA)/mixture/manifest.json) $(RUN)/facts/train.json | $(READY)
	@$(PY) recipes/distill.py $(OF) $(if $(MICRO_BATCH),--per-device-batch-size $(MICRO_BATCH))
	@touch $@ # a run that was finished before keeps its record

$(RUN)/records/choice.json: $(RUN)/records/run.json $(RUN)/facts/select.json | $(READY)
	@$(PY) -m release select $(OF)

$(RUN)/records/evaluate.json: $(RUN)/records/choice.json $(RUN)/facts/evaluate.json | $(READY)
	@$(PY) -m release evaluate $(OF)

$(RUN)/records/speed.json: $(RUN)/records/choice.json $(RUN)/facts/speed.json | $(READY)
	@$(PY) -m release speed $(OF)

$(RUN)/records/export.json: $(RUN)/records/choice.json $(RUN)/facts/export.json | $(READY)
	@$(PY) -m release export $(OF) $(if $(JUDGE_HOURS),--judge-hours $(JUDGE_HOURS))

# ALL=1 of this command line alone: `make rehearse ALL=1` hands its own down in the environment.
EVERY := $(if $(filter command,$(origin ALL)),$(ALL))
$(RUN)/records/engines.json: $(RUN)/records/export.json $(if $(EVERY),all-engines) | $(READY)
	@$(PY) -m release engines $(OF) $(if $(EVERY),--all)

$(RUN)/README.md: $(addprefix $(RUN)/records/,evaluate.json speed.json engines.json) $(RUN)/facts/card.json $(wildcard cards/* cards/sections/* cards/citations/* cards/notices/* $(RUN)/records/devices/*/*) $(COMPARISON) | $(READY)
	@$(PY) -m release card $(OF)

$(RUN)/repo/README.md: $(RUN)/README.md | $(READY)
	@$(PY) -m release stage $(OF)
	@$(PY) -m release check $(OF)

publish: $(RUN)/repo/README.md ## upload to HF_ENDPOINT, private until verified (PUSH=1)
	@$(PY) -m release publish $(OF) $(CHANGE) $(BESIDE) $(if $(PUSH),--push) $(if $(REPLACE),--replace)

verify: $(if $(REPO),setup,publish) ## pull everything back, compare, make public, tag
	@$(PY) -m release verify $(if $(REPO),--repo $(REPO) $(if $(REVISION),--revision $(REVISION)),$(OF) $(if $(PUSH),--push))

data: # former names
	$(error `make data` is now called `make score`)
distill:
	$(error `make distill` is now called `make train`)
choose:
	$(error `make choose` is now called `make select`)

release-data: $(DATA)/mixture/manifest.json ## the data set on its own, once; compared by hashes (PUSH=1)
	@$(PY) -m release release-data --family $(FAMILY) $(CHANGE) $(if $(PUSH),--push) $(if $(REPLACE),--replace)

compare: setup ## sizes, teacher, other rerankers: table and plots
	@$(PY) -m release compare --family $(FAMILY)

explain: setup ## where FIGURE, a number on the card of SIZE, comes from
	@$(PY) -m release explain $(OF) --figure '$(FIGURE)'

plan: setup ## what would run and be published, without doing it
	@$(PY) -m release plan $(OF) $(CHANGE) $(BESIDE)

rehearse: setup ## a release of SIZES (ALL=1: every one) on stand-ins, all local
	@$(PY) -m release rehearse --family $(FAMILY) $(if $(ALL),--all) $(if $(filter command,$(origin SIZES)),--sizes $(SIZES))

skill: setup ## the skill for agents: specification, links, commands
	@$(PY) -m release skill

skill-bundle: setup ## the skill as a bucket of skills holds it; sends nothing
	@$(PY) -m release skill-bundle

skill-evals: setup ## the tasks that judge the skill, done once and checked
	@$(PY) -m release skill-evals

agent-rehearsal: setup ## follow the skill's commands, all local (BEIR=folder)
	@$(PY) -m release agent-rehearsal $(if $(BEIR),--beir $(BEIR))

hub: setup ## the embedded Hub on loopback, over build/hub
	@organization=$$($(PY) -m release.facts --organization $(AS) $(FAMILY)) && \
	  exec $(PY) -m release hub --account "local::local,$$organization" # `local` may publish for FAMILY

plan-data: setup ## rows, bytes, licences and overlaps of the declared data
	@$(PY) -m release plan-data --family $(FAMILY)

plan-train: setup ## steps, memory and hours of training on WORLD devices
	@$(PY) -m release plan-train $(OF) --world $(or $(WORLD),1) $(if $(RATE),--pairs-per-second $(RATE))

plan-evaluate: setup ## pairs, texts and hours of the two-stage evaluation
	@$(PY) -m release plan-evaluate --family $(FAMILY) --world $(or $(WORLD),1) $(if $(RATE),--pairs-per-second $(RATE))

test: setup ## all tests
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 10

check: setup ## style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ty check --python $(VENV)

style: setup ## fix what can be fixed
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: bench-train bench-predict bench-hub bench-mix bench-sample bench-engines bench-unpadded ## every benchmark, both sides in one run

bench-train bench-predict bench-hub bench-mix bench-sample bench-engines bench-unpadded bench-gpu cluster-check: setup
	@$(PY) -m benchmarks.$(subst -,_,$@) $(and $(SHAPE),$(filter bench-engines bench-unpadded,$@),--shape $(SHAPE))

lies: setup ## every lie told to a copy of the demo's build: who catches it
	@$(PY) -m benchmarks.lies

faults: setup ## every fault of every request of a release (ONLY=class)
	@$(PY) -m tests.hub.faults $(if $(filter command,$(origin ONLY)),--only '$(ONLY)')

kills: setup ## publisher, verifier, Hub killed at random (COUNT=, SEED=)
	@$(PY) -m tests.hub.kills $(if $(filter command,$(origin COUNT)),--count $(COUNT)) $(if $(filter command,$(origin SEED)),--seed $(SEED))

clean: ## remove build/ (the virtual environment stays)
	rm -rf build

endif
