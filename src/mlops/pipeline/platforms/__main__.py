"""`make platform TO=argo`: write the definition of a platform from `dvc.yaml` and `deploy/pipelines/settings.yaml`.

Without TO, the definitions that are there are written again. A definition is text, so no platform's package is needed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jinja2

from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import atomic
from mlops.core.yamlfile import closest
from mlops.pipeline.platforms import graph
from mlops.pipeline.platforms import settings as settings_module
from mlops.pipeline.platforms.graph import Task
from mlops.pipeline.platforms.settings import MACHINES, SETTINGS, Settings

FOLDER = SETTINGS.parent
TEMPLATES = Path(__file__).with_name("templates")
FILES = {
    "airflow": "airflow.py",
    "argo": "argo.yaml",
    "kubeflow": "kubeflow.yaml",
    "vertex": "vertex.yaml",
    "sagemaker": "sagemaker.json",
    "azureml": "azureml.yaml",
}
# what each platform replaces by its name of the run
RUN: dict[str, Any] = {
    "airflow": "{{ run_id }}",
    "argo": "{{workflow.uid}}",
    "kubeflow": "{{$.pipeline_job_uuid}}",
    "vertex": "{{$.pipeline_job_uuid}}",
    "sagemaker": {"Get": "Execution.PipelineExecutionId"},
    "azureml": "$AZUREML_ROOT_RUN_ID",
}


def main(platform: str) -> None:
    if platform and platform not in FILES:
        raise UserError(f"unknown platform: TO={platform}{closest(platform, list(FILES))}", "make platform TO=argo")
    chosen = [platform] if platform else [name for name, file in FILES.items() if (FOLDER / file).exists()]
    tasks = graph.read()
    settings = settings_module.load(tasks)
    # all of them, before one is written
    texts = {name: definition(name, tasks, settings) for name in chosen}
    for name, text in texts.items():
        path = FOLDER / FILES[name]
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
        print(f"{name}: {len(tasks)} tasks in {path}")


def definition(platform: str, tasks: dict[str, Task], settings: Settings) -> str:
    """The text of a platform's definition."""
    environment = jinja2.Environment(  # noqa: S701 - the text is no HTML, and strings in it are written as JSON
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # strings and lists as JSON, which YAML and Python read, too
    environment.filters["quoted"] = lambda value: json.dumps(value, ensure_ascii=False)
    known = graph.fingerprint(tasks)
    described = [
        {
            "name": task.name,
            "needs": [tasks[name].name for name in task.needs],
            "arguments": [
                *(task.stage, "--run", RUN[platform], "--graph", known),
                *(["--force"] if task.stage in settings.always else []),
            ],
            "size": (size := settings.size(task.stage)),
            "seconds": round(size.hours * 3600),
            "machine": settings_module.machine(platform, task.stage, size) if platform in MACHINES else "",
        }
        for task in tasks.values()
    ]
    return environment.get_template(f"{FILES[platform]}.jinja").render(
        platform=platform,
        settings=settings,
        environment={"DVC_REMOTE_URL": settings.remote, **settings.environment},
        entrypoint=["sh", "/opt/pipeline/task"],
        tasks=described,
        origin=f"Written by `make platform TO={platform}` from dvc.yaml and {SETTINGS}. Do not edit.",
    )


if __name__ == "__main__":
    with errors_in_words():
        main(os.environ.get("TO", ""))
