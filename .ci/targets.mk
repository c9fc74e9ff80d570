# Targets that test, measure and present the template itself. `make start` removes them with what they run.

NAME ?= iris

.PHONY: example
example: .venv/.ready ## run an example in build/examples: make example NAME=iris
	@python examples/run.py "$(NAME)"

.PHONY: simulate
simulate: pipeline ## play weeks of production: make simulate CHANGE=none|covariate|labels|unit|missing|concept SLOW=yes
	@python examples/simulate.py "$(or $(CHANGE),concept)" $(if $(SLOW),--slow)

.PHONY: pictures
pictures: .venv/.ready ## record docs/rehearsals and draw the pictures of docs/ again (needs Chromium, which .ci/services installs)
	@PYTHONPATH=tests PYTHONSAFEPATH= python tests/pictures.py

.PHONY: rehearse
rehearse: .venv/.ready ## record docs/rehearsals/project.md: start, review, release, update, in an empty place (.ci/images installs what it needs)
	@PYTHONPATH=tests:tests/images PYTHONSAFEPATH= python tests/images/life.py

.PHONY: test-services
test-services: .venv/.ready ## run the tests that need PostgreSQL, S3, CML or Mermaid (.ci/services installs them)
	@# under load the service is measured, so nothing runs beside it
	@pytest tests/services/test_service_under_load.py
	@pytest -n auto --dist loadfile --no-loadscope-reorder tests/services --ignore=tests/services/test_service_under_load.py

.PHONY: test-federated
test-federated: .venv/.ready ## train across hospitals with Flower, which is installed for these tests alone
	@PATH="$(PATH):$(HOME)/.local/bin" pytest tests/federated

.PHONY: test-dask
test-dask: .venv/.ready ## run the pipeline on a Dask cluster of processes (make setup-dask and .ci/services install what it needs)
	@PATH="$(PATH):$(HOME)/go/bin" pytest tests/dask_cluster

.PHONY: test-images
test-images: .venv/.ready ## build images, run them and push them to a local registry (.ci/images installs the tools)
	@PATH="$(PATH):$(HOME)/go/bin:$(HOME)/.local/bin" pytest tests/images

.PHONY: test-deploy
test-deploy: .venv/.ready ## check deploy/ and rehearse a rollout (.ci/deploy installs the tools)
	@pytest tests/deploy

.PHONY: test-cluster
test-cluster: .venv/.ready ## run deploy/kubernetes on a Kubernetes of two nodes, as root (.ci/cluster and .ci/images install the tools)
	@pytest tests/k8s

.PHONY: test-platforms
test-platforms: .venv/.ready ## run the pipeline on Airflow and Kubeflow, check the other definitions (.ci/platforms installs the tools)
	@PATH="$(PATH):$(HOME)/go/bin" pytest tests/platforms

.PHONY: test-workflows
test-workflows: .venv/.ready ## check .github, run ci.yaml with act and .gitlab-ci.yml with gitlab-ci-local (.ci/tools installs the tools)
	@PATH="$(PATH):$(HOME)/go/bin:$(HOME)/.local/bin" pytest tests/workflows

.PHONY: bench
bench: .venv/.ready ## run the benchmarks and update benchmarks/README.md
	@PYTHONSAFEPATH= python -m benchmarks
