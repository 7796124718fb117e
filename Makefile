# The index of commands; each only calls cvpipe. Start with `make train`.
PIPELINE ?= pipelines/classification/digits.yaml
RUN ?= runs/$(basename $(notdir $(PIPELINE)))
MODEL ?= saved_models/$(notdir $(RUN))
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

# What deployments ask for, beside PORT.
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

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20
	@echo
	@echo 'Variables: PIPELINE=$(PIPELINE) RUN=$(RUN) MODEL=$(MODEL) IMAGE= SET="key=value key=value"'

setup: $(VENV)/.installed ## install cvpipe and what it needs into .venv

data: $(VENV)/.installed ## fetch the public data set NAME into data/; without NAME, list them
	$(CVPIPE) data fetch $(NAME)

check: $(VENV)/.installed ## look for broken files and leaks in the data of PIPELINE
	$(CVPIPE) data check $(PIPELINE) $(foreach pair,$(SET),--set '$(pair)')

train: $(VENV)/.installed ## train, score, export and check PIPELINE (SET="train.epochs=3")
	$(CVPIPE) train $(PIPELINE) --run $(RUN) $(foreach pair,$(SET),--set '$(pair)')
	$(CVPIPE) export $(RUN) --to $(MODEL)
	@echo
	@echo 'report with pictures  $(RUN)/report.md'
	@echo 'picture of answers    $(RUN)/pictures/predictions.png'
	@echo 'served model          $(MODEL)'
	@echo 'next                  make predict IMAGE=… | make serve | make tensorboard'

evaluate: $(VENV)/.installed ## score RUN, and MODEL on the same images as raw bytes
	$(CVPIPE) evaluate $(RUN)
	$(CVPIPE) evaluate $(MODEL)

export: $(VENV)/.installed ## export RUN as the next version of MODEL
	$(CVPIPE) export $(RUN) --to $(MODEL)

predict: $(VENV)/.installed ## answer IMAGE (one or more files) with MODEL
	@test -n "$(IMAGE)" || { echo 'say which image: make predict IMAGE=photo.jpg'; exit 2; }
	$(CVPIPE) predict $(MODEL) $(IMAGE)

serve: $(VENV)/.installed ## answer TensorFlow Serving's REST requests for all exported models
	$(CVPIPE) serve saved_models --port $(PORT)

tpu-create: ## create a Cloud TPU VM, see docs/cloud_tpu.md (DRY_RUN=1: print only)
tpu-train: ## train PIPELINE on a Cloud TPU VM until it is done, through preemptions
tpu-logs: ## follow the training's output
tpu-tensorboard: ## show the runs on the VM in the browser
tpu-export: ## export RUN on the VM and copy the artifact here
tpu-delete: ## delete the VM; the run's copy in TPU_BUCKET stays
tpu-create tpu-train tpu-logs tpu-tensorboard tpu-export tpu-delete:
	@PIPELINE='$(PIPELINE)' RUN='$(RUN)' MODEL='$(MODEL)' SET='$(SET)' \
		bash deploy/cloud_tpu.sh $(@:tpu-%=%)

image: ## build the server's container as IMAGE_NAME (DRY_RUN=1: print only)
	$(call DEPLOY,docker build --file deploy/Dockerfile.serve --tag $(IMAGE_NAME) .)

deploy-compose: ## serve saved_models by the server's container, with docker compose
	$(call DEPLOY,PORT=$(PORT) TAG=$(TAG) $(COMPOSE) deploy/compose.yaml up --build --detach --wait)

deploy-tfserving: ## serve by TensorFlow Serving's container (BATCHING=false: detectors)
	$(call DEPLOY,$(WITH_TFSERVING) deploy/tfserving/compose.yaml up --detach)

deploy-kubernetes: ## serve by IMAGE_NAME in the cluster of kubectl
	$(call DEPLOY,$(WITH_IMAGE) deploy/kubernetes/cvpipe.yaml | kubectl apply --filename -)

deploy-kserve: ## serve by IMAGE_NAME in the cluster of kubectl, which has KServe
	$(call DEPLOY,$(WITH_IMAGE) deploy/kserve/runtime.yaml | kubectl apply --filename -)
	$(call DEPLOY,kubectl apply --filename deploy/kserve/inference_service.yaml)

deploy-ray: $(if $(DRY_RUN),,$(VENV)/.installed-ray) ## serve by REPLICAS of Ray Serve, here
	$(call DEPLOY,RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=35 \
		RAY_worker_niceness=0 $(BIN)/serve run cvpipe.serving.ray_app:application \
		folder=saved_models replicas=$(REPLICAS))

tensorboard: $(VENV)/.installed ## show all runs in the browser
	$(BIN)/tensorboard --logdir runs

test: $(VENV)/.installed-dev ## run every test but the long ones
	$(PYTEST)

soak: $(VENV)/.installed-dev ## run the long tests (STOP=1800: start none after so many seconds)
	$(PYTEST) -m soak -o budget_suite_cpu=5400 -o budget_suite_wall=2700 -o budget_suite_stop=$(STOP)

lint: $(VENV)/.installed-dev ## check style, types, the CI workflow, compose files and Dockerfiles
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

docs: $(VENV)/.installed-docs ## write what is generated in docs/, build the site in site/
	$(BIN)/python docs/generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

constraints: | $(VENV)/bin/python ## write constraints.txt anew, with the newest versions
	$(INSTALL) uv
	$(BIN)/uv pip compile setup.cfg --quiet --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --all-extras --no-annotate \
		--custom-compile-command 'make constraints' -o constraints.txt

bench: $(VENV)/.installed-bench ## measure against peers, into benchmarks/results (about an hour)
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

fuzz: $(VENV)/.installed-fuzz ## look for bytes that readers of images, requests or data can't take
	$(BIN)/python tests/fuzz/fuzz.py --runs $(RUNS)

clean: ## remove .venv and caches; runs and saved_models stay
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo 'TensorFlow 2.20 needs Python 3.11, 3.12 or 3.13; say which:' \
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
