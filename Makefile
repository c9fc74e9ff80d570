# All commands, for people and CI. `make help` lists them.
.DEFAULT_GOAL := all

# Text that comes from elsewhere: make passes it on as it is, and neither make nor a shell runs a part of it.
$(foreach name,ID LOG TABLE TARGET TASK TO FROM TEMPLATE,$(if $(filter command,$(firstword $(origin $(name)))),$(eval override export $(name) := $$(value $(name)))))

# Programs in these folders are run, so none may come from a commit. Checked before the folders are on PATH.
INSTALLED := .venv .uv .trusted .github/cml/node_modules build
TRACKED := $(shell git ls-files -- $(INSTALLED) 2>/dev/null | head -n 3)
$(if $(TRACKED),$(error Git tracks files where programs are installed: $(TRACKED); remove them: git rm -r --cached $(TRACKED)))

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.uv/bin:$(PATH)
# no module of the working directory replaces one of Python's own
export PYTHONSAFEPATH := 1
export GX_ANALYTICS_ENABLED := false

UV := $(shell command -v uv || echo .uv/bin/uv)
# dvc repro without DVC's hints; its log and errors stay
REPRO := python -m mlops.core.repro
BASE ?= origin/main
PORT ?= 3000

# Runs a module of src/ in isolated mode: src comes after the standard library and the packages
RUN := -I -c 'import runpy, sys; sys.path.append("src"); del sys.argv[0]; runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)'
TRUSTED := .trusted/bin/python $(RUN)

.PHONY: all
all: pipeline ## set up, run the pipeline, and show the results
	@python -m mlops.pipeline.summary

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-17s %s\n", $$1, $$2}'

.PHONY: setup
setup: .venv/.ready ## install everything from uv.lock into .venv

.uv/bin/uv:
	@echo "installing uv with pip into .uv"
	@# the first Python with pip; the virtual environment from which make verify starts may have none
	@for python in $$(which -a python3); do "$$python" -m pip --version >/dev/null 2>&1 && break; done; \
		"$$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
			--target .uv --only-binary :all: --require-hashes --requirement uv.txt

# Set if .venv does not import this folder's src: it was copied or moved, another folder wrote to it, or its Python is gone.
# Reads uv's link to src, because starting Python takes too long; honours PYTHONPATH, which a borrowed environment needs.
ELSEWHERE := $(if $(wildcard .venv/.ready),$(shell \
	read -r src <$(firstword $(wildcard .venv/lib/python*/site-packages/mlops.pth) /dev/null); \
	[ -x .venv/bin/python ] && { [ "$${PYTHONPATH%%:*}" -ef src ] || [ "$$src" -ef src ]; } || echo elsewhere))
.PHONY: elsewhere

# compiled once, because otherwise every stage would compile its imports again where Python may not write bytecode
.venv/.ready: pyproject.toml uv.lock .python-version $(filter .uv/bin/uv,$(UV)) $(ELSEWHERE)
	@# another Python is offered, never fetched unasked: it is part of what makes two runs equal
	@"$(UV)" python find --no-python-downloads >/dev/null 2>&1 || { read -r version <.python-version; \
		if [ "$(PYTHON_DOWNLOADS)" = yes ]; then \
			echo "uv downloads Python $$version for your account"; UV_PYTHON_DOWNLOADS=manual "$(UV)" python install --no-bin; \
		else \
			echo "error: Python $$version is missing; it computes what dvc.lock records, so no other version takes its place"; \
			echo "  try: PYTHON_DOWNLOADS=yes make, which lets uv download it for your account; or install it yourself"; exit 1; \
		fi; }
	@echo "$(if $(ELSEWHERE),.venv does not import this folder's src; )installing from uv.lock into .venv (about a minute, once)"
	@# never write to an environment that belongs to another folder
	@grep -qsxF "VIRTUAL_ENV='$(CURDIR)/.venv'" .venv/bin/activate || rm -rf .venv
	@UV_PROJECT_ENVIRONMENT=.venv "$(UV)" sync --locked --quiet --compile-bytecode $(if $(ELSEWHERE),--reinstall-package mlops)
	@touch $@

.PHONY: check
check: .venv/.ready ## check params.yaml, gate.yaml and the DVC files without running anything
	@python -m mlops.review.check
	@touch .venv/.checked

.venv/.checked: .venv/.ready params.yaml $(wildcard gate.yaml reports/dvc.yaml data/raw/*.dvc data/raw/*/*.dvc src/project/*.py src/project/shared/*.py) src/mlops/core/settings.py $(wildcard src/mlops/review/policy.py src/mlops/review/rules/*.py) src/mlops/model/estimators.py
	@python -m mlops.review.check
	@touch $@

# on every run, because DVC would run a pipeline in another folder along with this one
.PHONY: dvcfiles
dvcfiles: .venv/.checked
	@python3 $(RUN) mlops.core.dvcfiles

.PHONY: pipeline
pipeline: dvcfiles ## run the stages whose code, data or parameters changed
	@# with nothing to do, dvc status takes two thirds of the time of dvc repro
	@$(if $(FLAGS),,dvc status --quiet && echo "Data and pipelines are up to date." ||) $(REPRO) $(FLAGS)

.PHONY: start
start: .venv/.ready ## make this your project: make start TABLE=houses.csv TARGET=price (a path, URL or SQL) [TASK=regression]
	@python -m mlops.pipeline.start
	@python -m mlops.review.check && python3 $(RUN) mlops.core.dvcfiles && $(REPRO)
	@python -m mlops.review.first_gate
	@python -m mlops.pipeline.start.leftovers
	@python -m mlops.pipeline.summary
	@echo "  for a new project: read the comments in params.yaml and gate.yaml, answer docs/canvas.md, and commit all of it to main"
	@echo "  then each change is a branch: edit, make, commit, make review BASE=main (README.md)"

# needs no .venv, so that an update can bring one that works
.PHONY: update
update: ## merge a newer version of the template on a branch: make update [TO=v2.1] (docs/updating.md)
	@python3 $(RUN) mlops.core.template

.PHONY: plots
plots: .venv/.ready ## show the curves as a page; with BASE=main, compare them with that branch
	@# DVC names the page; with --open it would fail where there is no browser, although the page is there
	@rm -f dvc_plots/index.html
	@dvc plots $(if $(filter command line,$(origin BASE)),diff "$(BASE)",show)
	@[ ! -f dvc_plots/index.html ] || python -c 'import pathlib, webbrowser; \
		webbrowser.open(pathlib.Path("dvc_plots/index.html").absolute().as_uri()) or print("no browser here; open that page in one")'

.PHONY: ui
ui: .venv/.ready ## browse the MLflow runs
	@MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

.PHONY: refresh
refresh: dvcfiles ## read a URL or SQL source again, then run the pipeline
	@$(REPRO) --force --single-item ingest
	@$(REPRO)

.PHONY: expectations
expectations: dvcfiles ## draft an expectation suite from the table
	@$(REPRO) ingest
	@python -m mlops.data.expectations

.PHONY: data-docs
data-docs: .venv/.ready ## write the validation results as HTML to reports/data_docs
	@python -m mlops.pipeline.validate --docs

.PHONY: notebook
notebook: .venv/.ready ## open notebooks/explore.ipynb in JupyterLab, which is installed for this alone
	@"$(UV)" run --locked --with jupyterlab==4.6.2 jupyter lab notebooks/explore.ipynb

.PHONY: remote
remote: .venv/.ready ## store data and models in a bucket: make remote URL=s3://bucket/path
	@[ -n "$(URL)" ] || { echo "error: URL is not set"; echo "  try: make remote URL=s3://bucket/path"; exit 1; }
	@dvc remote add --local --force --default storage "$(URL)"
	@dvc remote modify --local storage verify true

.PHONY: review
review: .venv/.checked ## compare with main, apply the gate, write the comment: make review BASE=main
	@python -m mlops.review --base "$(BASE)"

.PHONY: setup-dask
setup-dask: .venv/.ready ## add Dask to .venv, for tables larger than memory (docs/scale-out.md)
	@UV_PROJECT_ENVIRONMENT=.venv "$(UV)" sync --locked --quiet --inexact --group dask

.PHONY: scheduler
scheduler: .venv/.ready ## start a Dask scheduler: make scheduler LISTEN=10.0.0.1
	@exec dask scheduler --host "$(or $(LISTEN),127.0.0.1)" --port 8786 --no-dashboard

# with what mlops.pipeline pins, so that workers compute the same bits as this machine
.PHONY: worker
worker: .venv/.ready ## work for the scheduler of DASK_SCHEDULER_ADDRESS: make worker WORKERS=2 MEMORY=4GiB
	@exec python -c 'import os, sys, mlops.pipeline; os.execvp("dask", ["dask", "worker", *sys.argv[1:]])' \
		"$${DASK_SCHEDULER_ADDRESS:?names the scheduler, such as tcp://127.0.0.1:8786}" \
		--nworkers "$(or $(WORKERS),1)" --nthreads 1 --memory-limit "$(or $(MEMORY),auto)" --no-dashboard

.PHONY: serve
serve: .venv/.ready ## serve the model on this machine: make serve PORT=3000
	@python -m mlops.release.identity
	@# exec, because the shell would not pass on a signal; BentoML keeps its counters at home, and would report its use
	@BENTOML_HOME="$(CURDIR)/build/serve-$(PORT)" BENTOML_DO_NOT_TRACK=true exec \
		python -m mlops.serving.start mlops.serving.service:Service --host 127.0.0.1 --port "$(PORT)"

.PHONY: image
image: .venv/.ready ## build the image with docker, podman or buildah: make image PLATFORM=linux/arm64
	@python -m mlops.release.image

.PHONY: platform
platform: .venv/.ready ## write the definition of the pipeline for TO=airflow|argo|kubeflow|vertex|sagemaker|azureml
	@TO="$(TO)" python -m mlops.pipeline.platforms

.PHONY: pipeline-image
pipeline-image: .venv/.ready ## build the image in which a platform runs the stages; with PUSH=registry/name, push it
	@PUSH="$(PUSH)" python -m mlops.release.pipeline_image

.PHONY: platform-result
platform-result: .venv/.ready ## take over dvc.lock and the small files of a platform's run: make platform-result RUN=name
	@python -m mlops.pipeline.platforms.collect "$${RUN:?names the run, as its tasks print it}"

.PHONY: release-check
release-check: .venv/.ready ## rehearse the release of this commit: check, build, start, predict, stop
	@python -m mlops.release.check

.PHONY: rollback
rollback: .venv/.ready ## show the revert of the last deployment; with APPLY=yes, open it as a pull request
	@APPLY="$(APPLY)" python -m mlops.release.rollback

.PHONY: monitor
monitor: .venv/.ready $(if $(VERSION),build/releases/v$(VERSION)/.ready) ## compare a prediction log with what a release recorded: make monitor LOG=folder VERSION=1.4.0
	@python -m mlops.monitoring "$${LOG:?names the folder of the prediction log}" --release "$(or $(VERSION:%=build/releases/v%),.)"

# The files of a release, pulled by their hashes or made again by its own code. Where DVC finds them is this folder's matter,
# and so is the environment, if uv.lock is the same.
# The mark is set when all is there: what an interrupted run left is made again.
build/releases/v%/.ready:
	@git rev-parse --quiet --verify "refs/tags/v$*" >/dev/null || { \
		echo "error: this clone has no tag v$*"; echo "  try: git fetch --tags origin"; exit 1; }
	@git worktree remove --force $(@D) 2>/dev/null || rm -rf $(@D); git worktree prune
	@git worktree add --quiet --detach $(@D) "v$*"
	@[ ! -f .dvc/config.local ] || cp .dvc/config.local $(@D)/.dvc
	@cd $(@D) && { [ -z "$$(dvc remote list)" ] || dvc pull --quiet --allow-missing || true; } && \
		if cmp -s uv.lock "$(CURDIR)/uv.lock"; then python3 $(RUN) mlops.core.dvcfiles && PYTHONPATH="$$PWD/src" dvc repro; \
		else $(MAKE) --no-print-directory pipeline; fi
	@touch $@

.PHONY: canary
canary: .venv/.ready ## compare two versions by outcome: make canary LOG=folder CHAMPION=1.4.0 CANARY=1.5.0 [MARGIN=0.05] [METRICS="accuracy cost"]
	@python -m mlops.monitoring.canary "$${LOG:?names the folder of the prediction log}" --champion "$${CHAMPION:?names the version that serves}" \
		--canary "$${CANARY:?names the version that is to replace it}" $(if $(MARGIN),--margin "$(MARGIN)") $(if $(METRICS),--metrics $(METRICS))

.PHONY: rollout
rollout: .venv/.ready ## on one machine, replace the version after a canary: make rollout ON=compose|quadlet [LOG=folder] [MINUTES=10] [HOURS=24]
	@python -m mlops.release.rollout "deploy/$${ON:?names compose or quadlet}/rollout.sh" $(if $(LOG),--log "$$LOG") \
		$(if $(MINUTES),--minutes "$(MINUTES)") $(if $(HOURS),--hours "$(HOURS)") $(if $(MARGIN),--margin "$(MARGIN)") $(if $(METRICS),--metrics $(METRICS))

.PHONY: trace
trace: .venv/.ready ## from an ID to release, people, parameters and data: make trace ID=v1.0.0, ID=request LOG=folder
	@python -m mlops.release.trace

.PHONY: history
history: .venv/.ready ## write the page of all models and releases from Git to build/history
	@python -m mlops.release.history

.PHONY: retrain
retrain: .venv/.ready ## put new labelled rows on a branch, where monitor.retrain says so: make retrain LOG=folder
	@python -m mlops.monitoring.retrain "$${LOG:?names the folder of the prediction log}"

.PHONY: replay
replay: .venv/.ready ## predict a log's rows with main's model and this one: make replay LOG=folder BASE=main
	@python -m mlops.review.replay $(if $(LOG),"$(LOG)") --base "$(BASE)"

.PHONY: label
label: .venv/.ready ## choose the rows most worth a label: make label LOG=folder N=100
	@python -m mlops.monitoring.labelling "$${LOG:?names the folder of the prediction log}" --rows "$(or $(N),100)"

.PHONY: fetch-log
fetch-log: .venv/.ready ## download a prediction log, new files only: make fetch-log FROM=s3://bucket/folder LOG=folder
	@python -m mlops.monitoring.fetch "$${FROM:?names the folder in the bucket}" "$${LOG:?names the folder on this machine}"

.PHONY: score
score: .venv/.ready ## predict each row of a file: make score IN=rows.parquet OUT=scored.parquet [EXPLAIN=yes]; with KEY=column OUT=table.sqlite, for answers by key
	@python -m mlops.release.identity
	@python -m mlops.serving.$(if $(KEY),precompute --key "$(KEY)" $(if $(HOURS),--hours "$(HOURS)"),score) $(if $(EXPLAIN),--explain) $(if $(IN)$(OUT),"$(IN)" "$(OUT)",--help)

.PHONY: wheel
wheel: .venv/.ready ## make a Python package of the model that needs only NumPy and ONNX Runtime, in build/wheel
	@python -m mlops.release.wheel

# npm checks the hashes in package-lock.json
build/onnxruntime-web/.ready: deploy/edge/package-lock.json
	@mkdir -p $(@D) && cp deploy/edge/package.json deploy/edge/package-lock.json $(@D)
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix $(@D)
	@touch $@

.PHONY: edge
edge: .venv/.ready build/onnxruntime-web/.ready ## make a page that predicts in the browser, without Python, in build/edge
	@python -m mlops.release.edge

.PHONY: verify
verify: .venv/.ready ## clone this commit, run it cold, and check that dvc.lock stays the same
	@python -m mlops.pipeline.verify

.PHONY: schema
schema: .venv/.ready ## update params.schema.json and gate.schema.json after a change of settings.py or of a rule
	@python -m mlops.core.settings
	@python -m mlops.review.policy

.PHONY: stages
stages: .venv/.ready ## update the source files in dvc.yaml after a change of imports
	@python -m mlops.pipeline.stages

.PHONY: trust
trust: .venv/.ready ## update the table of jobs in docs/trust.md after a change of a workflow
	@python -m mlops.review.trust

.PHONY: lint
lint: .venv/.ready ## check formatting, style, types, the direction of imports, declared packages, notebooks without outputs
	@ruff format --check . && ruff check . && mypy && lint-imports && deptry src
	@git ls-files '*.ipynb' | xargs -r nbstripout --verify --keep-id

.PHONY: test
test: .venv/.ready ## run the tests, each feature once
	@pytest -n auto --dist worksteal -m "not e2e"

.PHONY: test-e2e
test-e2e: .venv/.ready ## run the tests of whole pipelines, reviews, releases and the README's commands
	@# a project may have deleted the template's own tests
	@[ ! -d tests/e2e ] || pytest -n auto --dist worksteal -m e2e --ignore=tests/e2e/own

.PHONY: test-own
test-own: .venv/.ready ## run the examples, and a team's own table, steps and metrics, from end to end
	@[ ! -d tests/e2e/own ] || pytest -n auto --dist worksteal -m e2e tests/e2e/own

.PHONY: behaviour
behaviour: pipeline ## run the tests of the model's behaviour, in tests/behaviour
	@pytest tests/behaviour --confcutdir=tests/behaviour

.PHONY: protect
protect: ## compare the rules in .github with GitHub's settings; with APPLY=yes, apply them
	@APPLY="$(APPLY)" python3 $(RUN) mlops.review.protect

.PHONY: clean
clean: ## remove what make created, except data and models
	@rm -rf .venv .uv .trusted build reports/journal reports/data_docs .pytest_cache .mypy_cache .ruff_cache

# of the template alone; gone after make start
-include .ci/targets.mk

# called by the workflows

.PHONY: unmoved
unmoved: ## fail if the pipeline has changed a file that is in Git
	@moved="$$(git status --porcelain -- dvc.lock data models reports)"; [ -z "$$moved" ] || \
		{ echo "error: these files differ from what the code of this commit produces:"; echo "$$moved"; \
		echo "  try: run make and commit them, or start the workflow relock on the branch"; exit 1; }

.PHONY: gate-required
gate-required: ## fail unless every required job succeeded
	@python3 $(RUN) mlops.review.required

# Jobs with a token or secret install into .trusted, in a step before the one that holds it: only wheels, by the hashes in
# uv.lock, without this project and its build tools.
install = "$(UV)" sync --locked --quiet --no-build --no-install-project --only-group $(1)

.PHONY: setup-trusted
setup-trusted: $(filter .uv/bin/uv,$(UV)) ## for the workflows relock and release: install the packages that handle data
	@UV_PROJECT_ENVIRONMENT=.trusted $(call install,trusted)

.PHONY: setup-comment
setup-comment: setup-trusted ## for the workflow report: install those packages and CML
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix .github/cml
	@python3 $(RUN) mlops.review.cml

.PHONY: setup-image
setup-image: $(filter .uv/bin/uv,$(UV)) ## for the workflows release and pipeline-image: install the packages that build and push an image
	@UV_PROJECT_ENVIRONMENT=.trusted $(call install,image)

.PHONY: setup-registry
setup-registry: $(filter .uv/bin/uv,$(UV)) ## for the workflows register and release: install MLflow's client
	@UV_PROJECT_ENVIRONMENT=.trusted $(call install,registry)

# antlr4 has no wheel, and DVC needs it only where experiments change settings by Hydra
.PHONY: setup-storage
setup-storage: $(filter .uv/bin/uv,$(UV)) ## for the workflow monitor: install DVC
	@UV_PROJECT_ENVIRONMENT=.trusted $(call install,storage) --no-install-package antlr4-python3-runtime

.PHONY: relock
relock: ## for the workflow relock: commit the files that the review rebuilt to the pull request's branch
	@$(TRUSTED) mlops.review.relock

.PHONY: update-propose
update-propose: ## for the workflow template-update: push the branch of make update and open its pull request
	@$(TRUSTED) mlops.core.template.propose

.PHONY: publish
publish: ## for the workflow report and GitLab: post the comment
	@$(TRUSTED) mlops.review.publish

.PHONY: fetch-labels
fetch-labels: .venv/.ready ## for the workflow monitor: download the labels, without running the team's code
	@python -m mlops.monitoring.fetch_labels

.PHONY: monitor-deployed
monitor-deployed: .venv/.ready ## for the workflow monitor: compare with the release that production runs; an alarm is no failure
	@release=build/releases/v$$(python -m mlops.release.deployed) && $(MAKE) --no-print-directory $$release/.ready && \
		{ python -m mlops.monitoring "$$LOG" --release $$release --fetched || [ $$? -eq 3 ]; }

.PHONY: retrain-deployed
retrain-deployed: .venv/.ready ## for the workflow monitor: make a retraining, where monitor.retrain says so
	@python -m mlops.monitoring.retrain "$$LOG" --release build/releases/v$$(python -m mlops.release.deployed) --fetched

.PHONY: monitor-issue
monitor-issue: ## for the workflow monitor: open, update or close the issue
	@$(TRUSTED) mlops.monitoring.issue

.PHONY: retrain-store
retrain-store: ## for the workflow monitor: put the rows of a retraining into the DVC remote
	@$(TRUSTED) mlops.monitoring.store

.PHONY: retrain-propose
retrain-propose: ## for the workflow monitor: push the branch of make retrain and open its pull request
	@$(TRUSTED) mlops.monitoring.propose

.PHONY: site
site: pipeline build/onnxruntime-web/.ready ## for the workflow history: add the page of `make edge` to build/history
	@python -m mlops.release.edge site

.PHONY: register
register: ## for the workflow register: register main's model in MLflow
	@$(TRUSTED) mlops.release.registry

.PHONY: release-verify
release-verify: .venv/.ready ## for the workflow release: check that the tag is a version on main whose gate passed
	@python -m mlops.release.tag

.PHONY: release-facts
release-facts: .venv/.ready ## for the workflow release: hash the model and compare it with the previous release
	@python -m mlops.release.facts

.PHONY: release-image
release-image: ## for the workflow release: build the image
	@$(TRUSTED) mlops.release.image

.PHONY: pipeline-image-build
pipeline-image-build: ## for the workflow pipeline-image: build the image of the commit
	@$(TRUSTED) mlops.release.pipeline_image

.PHONY: pipeline-image-publish
pipeline-image-publish: ## for the workflow pipeline-image: push it
	@$(TRUSTED) mlops.release.pipeline_image publish

.PHONY: release-wheel
release-wheel: ## for the workflow release: make the Python package, if the model has one
	@$(TRUSTED) mlops.release.wheel release

.PHONY: release-publish
release-publish: ## for the workflow release: push the image and hash the model in it again
	@$(TRUSTED) mlops.release.publish push

.PHONY: release-tag
release-tag: ## for the workflow release: tag the digest with the version
	@$(TRUSTED) mlops.release.publish tag

.PHONY: release-announce
release-announce: ## for the workflow release: write the notes and propose the deployment pull request
	@$(TRUSTED) mlops.release.announce

.PHONY: release-register
release-register: ## for the workflow release: register the model in MLflow
	@$(TRUSTED) mlops.release.registry release
