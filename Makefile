# Commands for users and developers. Start with `make train`; `make help` lists all.
PIPELINE ?= pipelines/classification/digits.yaml
RUN ?= runs/$(basename $(call NAME_OF,PIPELINE))
MODEL ?= saved_models/$(call NAME_OF,RUN)
IMAGE ?=
NAME ?=
SET ?=
RUNS ?= 20000
STOP ?= inf
PYTHON ?= python3
PORT ?= 8501

VENV := .venv
BIN := $(VENV)/bin
CVPIPE := $(BIN)/cvpipe
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
CODE := cvpipe tests benchmarks docs/generate notebooks

EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
# A text as one word of the shell.
QUOTED = '$(subst ','\'',$(1))'
# The value of a variable, which must not be empty.
GIVEN = $(if $(strip $($(1))),$($(1)),$(error $(1) is empty; leave it out, or give a path))
# The last part of the path in a variable. Functions of make divide at spaces, so hide them as |.
NAME_OF = $(subst |,$(SPACE),$(notdir $(patsubst %/,%,$(subst $(SPACE),|,$(call GIVEN,$(1))))))
PATH_OF = $(call QUOTED,$(call GIVEN,$(1)))
SETS = $(foreach pair,$(SET),--set $(call QUOTED,$(if $(findstring =,$(pair)),$(pair),$(NO_KEY))))
NO_KEY = $(error SET: '$(pair)' is not key=value; in SET, values can't have blanks)

# Variables of the deployments, which also use PORT.
TAG ?= latest
IMAGE_NAME ?= cvpipe-serve:$(TAG)
REPLICAS ?= 2
BATCHING ?= true
DRY_RUN ?=
# Prints a command, and runs it unless DRY_RUN is set.
DEPLOY = @printf '%s\n' "$(1)"; $(if $(DRY_RUN),,$(1))
COMPOSE := docker compose --file
WITH_TFSERVING = PORT=$(PORT) BATCHING=$(BATCHING) $(COMPOSE)
WITH_IMAGE = sed 's|cvpipe-serve:latest|$(IMAGE_NAME)|'

.DEFAULT_GOAL := help
.PHONY: help setup check train evaluate export predict serve tensorboard test soak lint format
.PHONY: data docs constraints bench fuzz clean image deploy-compose deploy-tfserving
.PHONY: deploy-kubernetes deploy-kserve deploy-ray
.PHONY: tpu-create tpu-train tpu-logs tpu-tensorboard tpu-export tpu-delete

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20
	@echo
	@echo $(call QUOTED,Variables: PIPELINE=$(PIPELINE) RUN=$(RUN) MODEL=$(MODEL) IMAGE=)
	@echo '           SET="key=value key=value", with values that have no blanks'

setup: $(VENV)/.installed ## install cvpipe and its dependencies into .venv

data: $(VENV)/.installed ## download the data set NAME into data/, or list all without NAME
	$(CVPIPE) data fetch $(NAME)

check: $(VENV)/.installed ## check the data of PIPELINE for broken files and leaks between splits
	$(CVPIPE) data check $(call PATH_OF,PIPELINE) $(SETS)

train: $(VENV)/.installed ## train, evaluate and export PIPELINE (SET="train.epochs=3")
	$(CVPIPE) train $(call PATH_OF,PIPELINE) --run $(call PATH_OF,RUN) $(SETS)
	$(CVPIPE) export $(call PATH_OF,RUN) --to $(call PATH_OF,MODEL)
	@echo
	@echo 'report with pictures  '$(call PATH_OF,RUN)/report.md
	@echo 'predictions, drawn    '$(call PATH_OF,RUN)/pictures/predictions.png
	@echo 'served model          '$(call PATH_OF,MODEL)
	@echo 'next                  make predict IMAGE=… | make serve | make tensorboard'

evaluate: $(VENV)/.installed ## evaluate RUN and the exported MODEL on the test images
	$(CVPIPE) evaluate $(call PATH_OF,RUN)
	$(CVPIPE) evaluate $(call PATH_OF,MODEL)

export: $(VENV)/.installed ## export RUN as the next version of MODEL
	$(CVPIPE) export $(call PATH_OF,RUN) --to $(call PATH_OF,MODEL)

predict: $(VENV)/.installed ## predict IMAGE (one or more files) with MODEL
	@test -n "$(IMAGE)" || { echo 'give an image: make predict IMAGE=photo.jpg'; exit 2; }
	$(CVPIPE) predict $(call PATH_OF,MODEL) $(IMAGE)

serve: $(VENV)/.installed ## serve all models in saved_models over HTTP
	$(CVPIPE) serve saved_models --port $(PORT)

tpu-create: ## create a Cloud TPU VM, see docs/cloud_tpu.md (DRY_RUN=1: print only)
tpu-train: ## train PIPELINE on a Cloud TPU VM, with restarts after preemptions
tpu-logs: ## print the training's output as it is written
tpu-tensorboard: ## show the VM's runs in TensorBoard at http://localhost:6006
tpu-export: ## export RUN on the VM and copy the artifact here
tpu-delete: ## delete the VM; the run's copy in TPU_BUCKET stays
tpu-create tpu-train tpu-logs tpu-tensorboard tpu-export tpu-delete:
	@PIPELINE=$(call PATH_OF,PIPELINE) RUN=$(call PATH_OF,RUN) MODEL=$(call PATH_OF,MODEL) \
		SET=$(call QUOTED,$(if $(SETS),$(SET))) bash deploy/cloud_tpu.sh $(@:tpu-%=%)

image: ## build the server's container image as IMAGE_NAME (DRY_RUN=1: print only)
	$(call DEPLOY,docker build --file deploy/Dockerfile.serve --tag $(IMAGE_NAME) .)

deploy-compose: ## build the server's container and serve saved_models with docker compose
	$(call DEPLOY,PORT=$(PORT) TAG=$(TAG) $(COMPOSE) deploy/compose.yaml up --build --detach --wait)

deploy-tfserving: ## serve saved_models with TensorFlow Serving (BATCHING=false for detectors)
	$(call DEPLOY,$(WITH_TFSERVING) deploy/tfserving/compose.yaml up --detach)

deploy-kubernetes: ## serve with the image IMAGE_NAME in kubectl's current cluster
	$(call DEPLOY,$(WITH_IMAGE) deploy/kubernetes/cvpipe.yaml | kubectl apply --filename -)

deploy-kserve: ## serve with the image IMAGE_NAME and KServe in kubectl's current cluster
	$(call DEPLOY,$(WITH_IMAGE) deploy/kserve/runtime.yaml | kubectl apply --filename -)
	$(call DEPLOY,kubectl apply --filename deploy/kserve/inference_service.yaml)

deploy-ray: $(if $(DRY_RUN),,$(VENV)/.installed-ray) ## serve by REPLICAS local Ray Serve replicas
	$(call DEPLOY,RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=35 \
		RAY_worker_niceness=0 $(BIN)/serve run cvpipe.serving.ray_app:application \
		folder=saved_models replicas=$(REPLICAS))

tensorboard: $(VENV)/.installed ## show all runs in TensorBoard
	$(BIN)/tensorboard --logdir runs

test: $(VENV)/.installed-dev ## run all tests except the long ones
	$(PYTEST)

soak: $(VENV)/.installed-dev ## run the long tests (STOP=1800: start no test after 1,800 s)
	$(PYTEST) -m soak -o budget_suite_cpu=5400 -o budget_suite_wall=2700 -o budget_suite_stop=$(STOP)

lint: $(VENV)/.installed-dev ## check style, types, CI workflow, compose files, Dockerfiles, scripts
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/python -m mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec \
		deploy/compose.yaml deploy/tfserving/compose.yaml
	$(BIN)/hadolint Dockerfile deploy/Dockerfile.serve
	$(BIN)/shellcheck .ci/run deploy/*.sh

format: $(VENV)/.installed-dev ## sort imports and format the code
	$(BIN)/ruff check --select I --fix $(CODE)
	$(BIN)/ruff format $(CODE)

docs: $(VENV)/.installed-docs ## generate parts of README and docs/, and build the site in site/
	$(BIN)/python docs/generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

constraints: | $(VENV)/bin/python ## rewrite constraints.txt with the newest versions
	$(INSTALL) uv
	$(BIN)/uv pip compile setup.cfg --quiet --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --all-extras --no-annotate \
		--custom-compile-command 'make constraints' -o constraints.txt

bench: $(VENV)/.installed-bench ## run the benchmarks, write benchmarks/results (about an hour)
	$(BIN)/python benchmarks/input_pipeline.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/answering.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/baselines.py
	$(BIN)/python benchmarks/classification.py
	$(BIN)/python benchmarks/canon.py --fresh
	$(BIN)/python benchmarks/detection.py
	$(BIN)/python benchmarks/segmentation.py
	$(BIN)/python benchmarks/explain.py

fuzz: $(VENV)/.installed-fuzz ## fuzz the readers of images, requests, annotations and pipelines
	$(BIN)/python tests/fuzz/fuzz.py --runs $(RUNS)

clean: ## remove .venv and caches; runs and saved_models stay
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo 'TensorFlow 2.20 needs Python 3.11, 3.12 or 3.13; choose one:' \
			'make $(MAKECMDGOALS) PYTHON=python3.12'; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'installing into $(VENV) (a few minutes, once)'
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(INSTALL) --editable '.[bench]'
	@touch $@

$(VENV)/.installed-ray: $(VENV)/.installed
	$(INSTALL) --editable '.[ray]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	$(INSTALL) --editable '.[fuzz]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@
