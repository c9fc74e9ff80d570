"""The pipeline on other engines: a definition for each, written from `dvc.yaml`, and the task that all of them run."""
