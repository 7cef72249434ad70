# Every verb sets up what it needs. `make help` lists them.
# Variables: DATA (a data folder), CONFIG (an experiment file), ARGS (more arguments of `intermodal run`), BACKEND (docker|process),
# PYTHON (the Python that makes the environment), TESTS (what pytest runs).
SHELL := /bin/bash
.DELETE_ON_ERROR:
PYTHON ?= python3
BACKEND ?= docker
TESTS ?= tests
INTERMODAL := .venv/bin/intermodal
READY := .venv/.ready

.PHONY: help venv pipeline-local test test-fast engine tools images bench conformance examples compile docs lock lint scan clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -m intermodal.build.venv
	@touch $@

venv: $(READY) ## the locked environment .venv

pipeline-local: venv $(if $(filter docker,$(BACKEND)),images) ## run the NER pipeline on this machine
	@$(INTERMODAL) run pipelines/ner.py --backend $(BACKEND) \
	    $(if $(CONFIG),--config "$(CONFIG)") $(if $(DATA),--arg data="$(DATA)") $(ARGS)

engine: venv
	@$(INTERMODAL) engine up

images: engine ## build the step images (unchanged inputs build nothing)
	@$(INTERMODAL) build

tools: venv
	@.venv/bin/python -m tests.support.browser
	@.venv/bin/python -m tests.support.podman
	@.venv/bin/python -m tests.support.azurite
	@.venv/bin/python -m tests.support.postgres

test: images tools ## all tests, on a real engine, the real images and a real browser
	@# Exit code 5: TESTS names none of one kind.
	.venv/bin/python -m pytest $(TESTS) -m "not alone" -n auto --dist worksteal || [ $$? = 5 ]
	.venv/bin/python -m pytest $(TESTS) -m alone || [ $$? = 5 ]

test-fast: venv ## within a minute: the quick tests that need no engine and no browser, on all cores
	.venv/bin/python -m pytest $(TESTS) -m "not engine and not browser and not slow" -n auto

bench: images ## measure the engine beside its peers (NAMES="chain start": some of it; WRITE=1: into docs/benchmarks.md)
	@.venv/bin/python -m tests.support.postgres
	.venv/bin/python -m benchmarks $(NAMES) $(if $(WRITE),--write)

conformance: engine ## run the pipelines of CORPUS, a checkout of kubeflow/pipelines (ONLY=text: some; BACKEND=azureml: compiled, too), and judge each
	@$(INTERMODAL) build base
	@.venv/bin/python -m tests.corpus $(or $(CORPUS),$(error say where the checkout is: make conformance CORPUS=...)) $(addprefix --only ,$(ONLY)) \
	    $(if $(filter azureml,$(BACKEND)),--backend azureml)

examples: engine venv ## submit the pipeline jobs of EXAMPLES, a checkout of Azure/azureml-examples, to the emulator (IMAGES="NAME=IMAGE ...")
	@.venv/bin/python -m tests.support.azurite
	@.venv/bin/python -m tests.examples $(or $(EXAMPLES),$(error say where the checkout is: make examples EXAMPLES=...)) \
	    $(foreach image,$(IMAGES),--image "$(image)") $(addprefix --only ,$(ONLY))

compile: venv ## compile every pipeline, for Kubeflow (dist/NAME.yaml) and for AzureML (dist/NAME-azureml/)
	@for file in $$(grep -l "^@dsl.pipeline" pipelines/*.py); do name=$$(basename $$file .py); \
	    $(INTERMODAL) compile $$file -o dist/$$name.yaml && \
	    $(INTERMODAL) compile $$file --backend azureml -o dist/$$name-azureml || exit; done

images-push: images ## push the step images to the registry of [tool.intermodal.azureml], and write images/registry.json
	@$(INTERMODAL) build --push

submit: venv ## send the NER pipeline to AzureML and follow it
	@$(INTERMODAL) submit pipelines/ner.py --wait \
	    $(if $(CONFIG),--config "$(CONFIG)") $(if $(DATA),--arg data="$(DATA)") $(ARGS)

lock: venv ## write all requirement files anew (NAMES="hpo": some of them; UPGRADE=1 takes the newest versions)
	@.venv/bin/python -m intermodal.build.locks $(NAMES) $(if $(UPGRADE),--upgrade)

docs: venv ## build the documentation as a site, dist/site
	@.venv/bin/python -m docs.build

lint: venv scan ## ruff, mypy, hadolint, zizmor (workflows), and what is in the images
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/hadolint images/*/Dockerfile .devcontainer/Dockerfile
	.venv/bin/zizmor --offline --quiet .github/workflows

scan: images ## look into the step images for what a hardened image does not have
	.venv/bin/python -m intermodal.build.scan

clean: ## remove the environment and the tools' caches, never runs or artifacts
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .intermodal/build .intermodal/wheels .intermodal/tools
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
