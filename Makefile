# Everything a person or CI does here. `make help` lists the targets.
.DEFAULT_GOAL := all
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.uv/bin:$(PATH)
export GX_ANALYTICS_ENABLED := false

UV := $(shell command -v uv || echo .uv/bin/uv)
NAME ?= iris
BASE ?= origin/main
PORT ?= 3000

.PHONY: all
all: pipeline ## set up, run the whole pipeline, and show what came out
	@python -m mlops.summary

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
			--target .uv --require-hashes --requirement uv.txt

# compiled once here, or every stage would compile its imports again where Python may not write bytecode
.venv/.ready: pyproject.toml uv.lock .python-version $(filter .uv/bin/uv,$(UV))
	@echo "installing from uv.lock into .venv (about a minute, once)"
	@$(UV) sync --locked --quiet --compile-bytecode
	@touch $@

.PHONY: check
check: .venv/.checked ## check params.yaml without running anything

.venv/.checked: .venv/.ready params.yaml src/mlops/settings.py src/mlops/estimators.py
	@python -m mlops.estimators
	@touch $@

.PHONY: pipeline
pipeline: .venv/.checked ## run the stages whose code, data or parameters changed
	@# asking first whether anything is to be done takes two thirds of the time of finding out by doing
	@$(if $(FLAGS),,dvc status --quiet && echo "Data and pipelines are up to date." ||) dvc repro $(FLAGS)

.PHONY: plots
plots: .venv/.ready ## draw the curves as a page; with BASE=main, over those of that branch
	@dvc plots $(if $(filter command line,$(origin BASE)),diff "$(BASE)",show) --open

.PHONY: ui
ui: .venv/.ready ## browse the MLflow runs on this machine
	@MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

.PHONY: refresh
refresh: .venv/.checked ## read a URL or SQL source again, and run what follows from it
	@dvc repro --force --single-item ingest
	@dvc repro

.PHONY: expectations
expectations: .venv/.ready ## draft a suite of expectations from the table, to be edited
	@dvc repro ingest
	@python -m mlops.expectations

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
	@python -m mlops.verify

.PHONY: schema
schema: .venv/.ready ## write params.schema.json anew after a change of settings.py
	@python -m mlops.settings

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
	@python -m benchmarks

.PHONY: protect
protect: ## compare .github/ruleset*.json with GitHub; set them with APPLY=yes
	@PYTHONPATH=src APPLY="$(APPLY)" python3 -m mlops.review.protect

.PHONY: clean
clean: ## remove everything that make made, but not data and models
	@rm -rf .venv .uv build reports/journal reports/data_docs .pytest_cache .mypy_cache .ruff_cache

# what the workflows call

.PHONY: unmoved
unmoved: ## fail when the pipeline has moved a file that is in Git
	@moved="$$(git status --porcelain -- dvc.lock data models reports)"; [ -z "$$moved" ] || \
		{ echo "error: this commit holds other files than its code makes:"; echo "$$moved"; \
		echo "  try: make, and commit them; or start the workflow relock on the branch"; exit 1; }

.PHONY: gate-required
gate-required: ## the last step of CI: did every job that must succeed do so?
	@PYTHONPATH=src python3 -m mlops.review.required

.PHONY: relock-pack
relock-pack: ## for the workflow relock: collect the files that the pipeline keeps in Git
	@PYTHONPATH=src python3 -m mlops.review.relock pack

.PHONY: relock-push
relock-push: ## for the workflow relock: commit them to the branch of a pull request
	@PYTHONPATH=src python3 -m mlops.review.relock push

.PHONY: publish
publish: .venv/.ready $(if $(CML),,.github/cml/node_modules/.package-lock.json) ## for the workflow report: post the review
	@python -m mlops.review.publish

.github/cml/node_modules/.package-lock.json: .github/cml/package-lock.json
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix .github/cml

.PHONY: register
register: .venv/.ready ## for the workflow register: enter main's model into MLflow's registry
	@python -m mlops.release.registry

.PHONY: release-verify
release-verify: .venv/.ready ## for the workflow release: is the tag a version on main whose gate passed?
	@python -m mlops.release.tag

.PHONY: release-evidence
release-evidence: .venv/.ready ## for the workflow release: hash the model, compare it with the release before
	@python -m mlops.release.evidence

.PHONY: release-publish
release-publish: .venv/.ready ## for the workflow release: push the image, and hash the model in it again
	@python -m mlops.release.publish push

.PHONY: release-tag
release-tag: .venv/.ready ## for the workflow release: let the version name the digest, for good
	@python -m mlops.release.publish tag

.PHONY: release-announce
release-announce: .venv/.ready ## for the workflow release: write the notes, open the pull request that deploys
	@python -m mlops.release.announce

.PHONY: release-register
release-register: .venv/.ready ## for the workflow release: enter the model into MLflow's registry
	@python -m mlops.release.registry release
