# Everything a person or CI does here. `make help` lists the targets.
.DEFAULT_GOAL := all

# What is in these folders runs, so none of it may come from a commit. Asked before anything of them is on PATH.
INSTALLED := .venv .uv .trusted .github/cml/node_modules build
TRACKED := $(shell git ls-files -- $(INSTALLED) 2>/dev/null | head -n 3)
$(if $(TRACKED),$(error Git holds files where programs are installed: $(TRACKED); remove them: git rm -r --cached $(TRACKED)))

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.uv/bin:$(PATH)
# no module of the working directory stands in for one of Python's own
export PYTHONSAFEPATH := 1
export GX_ANALYTICS_ENABLED := false

UV := $(shell command -v uv || echo .uv/bin/uv)
NAME ?= iris
BASE ?= origin/main
PORT ?= 3000

# A module of src/ by a Python that takes nothing else from here: src comes after the standard library and the packages
RUN := -I -c 'import runpy, sys; sys.path.append("src"); del sys.argv[0]; runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)'
TRUSTED := .trusted/bin/python $(RUN)

.PHONY: all
all: pipeline ## set up, run the whole pipeline, and show what came out
	@python -m mlops.pipeline.summary

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-17s %s\n", $$1, $$2}'

.PHONY: setup
setup: .venv/.ready ## install everything from uv.lock into .venv

.uv/bin/uv:
	@echo "installing uv with pip into .uv"
	@# the first Python that has pip: that of a virtual environment, which make verify starts from, may have none
	@for python in $$(which -a python3); do "$$python" -m pip --version >/dev/null 2>&1 && break; done; \
		"$$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
			--target .uv --only-binary :all: --require-hashes --requirement uv.txt

# set where .venv does not import src of this folder: copied, moved, written to from another folder, or its Python gone.
# uv's link to src tells, as to start Python takes too long; PYTHONPATH counts, because who lends an environment sets it.
ELSEWHERE := $(if $(wildcard .venv/.ready),$(shell \
	read -r src <$(firstword $(wildcard .venv/lib/python*/site-packages/mlops.pth) /dev/null); \
	[ -x .venv/bin/python ] && { [ "$${PYTHONPATH%%:*}" -ef src ] || [ "$$src" -ef src ]; } || echo elsewhere))
.PHONY: elsewhere

# compiled once here, or every stage would compile its imports again where Python may not write bytecode
.venv/.ready: pyproject.toml uv.lock .python-version $(filter .uv/bin/uv,$(UV)) $(ELSEWHERE)
	@echo "$(if $(ELSEWHERE),.venv does not import this folder's src; )installing from uv.lock into .venv (about a minute, once)"
	@# nothing is written to one that was copied from, or is lent by, another folder
	@grep -qsxF "VIRTUAL_ENV='$(CURDIR)/.venv'" .venv/bin/activate || rm -rf .venv
	@UV_PROJECT_ENVIRONMENT=.venv "$(UV)" sync --locked --quiet --compile-bytecode $(if $(ELSEWHERE),--reinstall-package mlops)
	@touch $@

.PHONY: check
check: .venv/.ready ## check params.yaml, gate.yaml and the DVC files without running anything
	@python -m mlops.pipeline.check
	@touch .venv/.checked

.venv/.checked: .venv/.ready params.yaml $(wildcard gate.yaml reports/dvc.yaml data/raw/*.dvc data/raw/*/*.dvc) src/mlops/core/settings.py src/mlops/core/policy.py src/mlops/model/estimators.py
	@python -m mlops.pipeline.check
	@touch $@

# each time: a pipeline in another folder would run with this one
.PHONY: dvcfiles
dvcfiles: .venv/.checked
	@python3 $(RUN) mlops.core.dvcfiles

.PHONY: pipeline
pipeline: dvcfiles ## run the stages whose code, data or parameters changed
	@# asking first whether anything is to be done takes two thirds of the time of finding out by doing
	@$(if $(FLAGS),,dvc status --quiet && echo "Data and pipelines are up to date." ||) dvc repro $(FLAGS)

.PHONY: plots
plots: .venv/.ready ## draw the curves as a page; with BASE=main, over those of that branch
	@dvc plots $(if $(filter command line,$(origin BASE)),diff "$(BASE)",show) --open

.PHONY: ui
ui: .venv/.ready ## browse the MLflow runs on this machine
	@MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

.PHONY: refresh
refresh: dvcfiles ## read a URL or SQL source again, and run what follows from it
	@dvc repro --force --single-item ingest
	@dvc repro

.PHONY: expectations
expectations: dvcfiles ## draft a suite of expectations from the table, to be edited
	@dvc repro ingest
	@python -m mlops.data.expectations

.PHONY: data-docs
data-docs: .venv/.ready ## show the validation as HTML, in reports/data_docs
	@python -m mlops.pipeline.validate --docs

.PHONY: remote
remote: .venv/.ready ## keep data and models in a bucket: make remote URL=s3://bucket/path
	@[ -n "$(URL)" ] || { echo "error: no bucket is named"; echo "  try: make remote URL=s3://bucket/path"; exit 1; }
	@dvc remote add --local --force --default storage "$(URL)"
	@dvc remote modify --local storage verify true

.PHONY: example
example: .venv/.ready ## run an example in build/examples: make example NAME=iris
	@python examples/run.py "$(NAME)"

.PHONY: review
review: .venv/.checked ## judge this change as a pull request would be: make review BASE=main
	@python -m mlops.review --base "$(BASE)"

.PHONY: serve
serve: .venv/.ready ## put the model behind an API on this machine: make serve PORT=3000
	@python -m mlops.release.identity
	@# in the place of the shell, which would keep a signal to itself
	@exec python -m mlops.serving.serve "$(PORT)"

.PHONY: image
image: .venv/.ready ## build the image of the model, with docker, podman or buildah: make image PLATFORM=linux/arm64
	@python -m mlops.release.image

.PHONY: release-check
release-check: .venv/.ready ## rehearse the release of this commit: check, build, start, ask, stop
	@python -m mlops.release.check

.PHONY: rollback
rollback: .venv/.ready ## show the revert of the last deployment; open it as a pull request with APPLY=yes
	@APPLY="$(APPLY)" python -m mlops.release.rollback

.PHONY: score
score: .venv/.ready ## predict each row of a file: make score IN=rows.parquet OUT=scored.parquet
	@python -m mlops.release.identity
	@python -m mlops.serving.score $(if $(IN)$(OUT),"$(IN)" "$(OUT)",--help)

.PHONY: verify
verify: .venv/.ready ## clone this commit, run it cold, and show that dvc.lock does not move
	@python -m mlops.pipeline.verify

.PHONY: schema
schema: .venv/.ready ## write params.schema.json and gate.schema.json after a change of settings.py or policy.py
	@python -m mlops.core.settings
	@python -m mlops.core.policy

.PHONY: stages
stages: .venv/.ready ## write the source files of each stage into dvc.yaml after a change of imports
	@python -m mlops.pipeline.stages

.PHONY: trust
trust: .venv/.ready ## write the table of jobs in docs/trust.md after a change of a workflow
	@python -m mlops.review.trust

.PHONY: lint
lint: .venv/.ready ## formatting, style, types and the direction of imports
	@ruff format --check . && ruff check . && mypy && lint-imports

.PHONY: test
test: .venv/.ready ## run the tests
	@pytest -n auto --dist worksteal

.PHONY: test-services
test-services: .venv/.ready ## run the tests on PostgreSQL, S3, CML and Mermaid (.ci/services installs them)
	@pytest tests/services

.PHONY: test-images
test-images: .venv/.ready ## build images, run them and send them through a registry (.ci/images installs what it needs)
	@PATH="$(PATH):$(HOME)/go/bin:$(HOME)/.local/bin" pytest tests/images

.PHONY: test-deploy
test-deploy: .venv/.ready ## check deploy/, and rehearse a rollout (.ci/deploy installs what it needs)
	@pytest tests/deploy

.PHONY: test-workflows
test-workflows: .venv/.ready ## check .github and run ci.yaml with act (.ci/tools installs it)
	@PATH="$(PATH):$(HOME)/go/bin:$(HOME)/.local/bin" pytest tests/workflows

.PHONY: bench
bench: .venv/.ready ## measure overhead and growth, and write benchmarks/README.md anew
	@PYTHONSAFEPATH= python -m benchmarks

.PHONY: protect
protect: ## compare the rules in .github with GitHub's settings; set them with APPLY=yes
	@APPLY="$(APPLY)" python3 $(RUN) mlops.review.protect

.PHONY: clean
clean: ## remove everything that make made, but not data and models
	@rm -rf .venv .uv .trusted build reports/journal reports/data_docs .pytest_cache .mypy_cache .ruff_cache

# what the workflows call

.PHONY: unmoved
unmoved: ## fail when the pipeline has moved a file that is in Git
	@moved="$$(git status --porcelain -- dvc.lock data models reports)"; [ -z "$$moved" ] || \
		{ echo "error: this commit holds other files than its code makes:"; echo "$$moved"; \
		echo "  try: make, and commit them; or start the workflow relock on the branch"; exit 1; }

.PHONY: gate-required
gate-required: ## the last step of CI: did every job that must succeed do so?
	@python3 $(RUN) mlops.review.required

# Jobs with a token or secret install into .trusted, in a step before the one that holds it: wheels only, by the hashes in
# uv.lock, without this project and without what builds it.
install = "$(UV)" sync --locked --quiet --no-build --no-install-project --only-group $(1)

.PHONY: setup-trusted
setup-trusted: $(filter .uv/bin/uv,$(UV)) ## for the workflows relock and release: install what handles data
	@UV_PROJECT_ENVIRONMENT=.trusted $(call install,trusted)

.PHONY: setup-comment
setup-comment: setup-trusted ## for the workflow report: install that, and CML
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix .github/cml
	@python3 $(RUN) mlops.review.cml

.PHONY: setup-image
setup-image: $(filter .uv/bin/uv,$(UV)) ## for the workflow release: install what builds and pushes an image
	@UV_PROJECT_ENVIRONMENT=.trusted $(call install,image)

.PHONY: setup-registry
setup-registry: $(filter .uv/bin/uv,$(UV)) ## for the workflows register and release: install MLflow's client
	@UV_PROJECT_ENVIRONMENT=.trusted $(call install,registry)

.PHONY: relock
relock: ## for the workflow relock: commit what the review of a pull request has rebuilt to its branch
	@$(TRUSTED) mlops.review.relock

.PHONY: publish
publish: ## for the workflow report: post the review
	@$(TRUSTED) mlops.review.publish

.PHONY: register
register: ## for the workflow register: enter main's model into MLflow's registry
	@$(TRUSTED) mlops.release.registry

.PHONY: release-verify
release-verify: .venv/.ready ## for the workflow release: is the tag a version on main whose gate passed?
	@python -m mlops.release.tag

.PHONY: release-evidence
release-evidence: .venv/.ready ## for the workflow release: hash the model, compare it with the release before
	@python -m mlops.release.evidence

.PHONY: release-image
release-image: ## for the workflow release: build the image where it is pushed from
	@$(TRUSTED) mlops.release.image

.PHONY: release-publish
release-publish: ## for the workflow release: push the image, and hash the model in it again
	@$(TRUSTED) mlops.release.publish push

.PHONY: release-tag
release-tag: ## for the workflow release: let the version name the digest, for good
	@$(TRUSTED) mlops.release.publish tag

.PHONY: release-announce
release-announce: ## for the workflow release: write the notes, propose the pull request that deploys
	@$(TRUSTED) mlops.release.announce

.PHONY: release-register
release-register: ## for the workflow release: enter the model into MLflow's registry
	@$(TRUSTED) mlops.release.registry release
