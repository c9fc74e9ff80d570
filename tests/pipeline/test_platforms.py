"""Definitions for other engines: each is equal to `dvc.yaml`, and says nothing that only its own tool would notice."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML

from mlops.core.errors import UserError
from mlops.pipeline.platforms import __main__ as platforms
from mlops.pipeline.platforms import graph
from mlops.pipeline.platforms import settings as settings_module
from mlops.pipeline.platforms.settings import SETTINGS

WRITTEN = [name for name, file in platforms.FILES.items() if (ROOT / platforms.FOLDER / file).exists()]
Needs = dict[str, set[str]]


@pytest.fixture(scope="module")
def tasks() -> Iterator[dict[str, graph.Task]]:
    """This project's, in its folder."""
    with pytest.MonkeyPatch.context() as here:
        here.chdir(ROOT)
        yield graph.read()


def documents(text: str) -> list[Any]:
    return list(YAML(typ="safe").load_all(text))


def airflow(text: str) -> tuple[Needs, dict[str, list[Any]]]:
    (tasks,) = [
        ast.literal_eval(each.value)
        for each in ast.parse(text).body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "TASKS"
    ]
    return {name: set(task[1]) for name, task in tasks.items()}, {name: task[0] for name, task in tasks.items()}


def argo(text: str) -> tuple[Needs, dict[str, list[Any]]]:
    whole, *steps = documents(text)[0]["spec"]["templates"]
    needs = {task["name"]: set(task.get("dependencies", [])) for task in whole["dag"]["tasks"]}
    assert {task["name"]: task["template"] for task in whole["dag"]["tasks"]} == {name: name for name in needs}
    return needs, {step["name"]: step["container"]["args"] for step in steps}


def kubeflow(text: str) -> tuple[Needs, dict[str, list[Any]]]:
    whole = documents(text)[0]
    needs, runs = {}, {}
    for name, task in whole["root"]["dag"]["tasks"].items():
        needs[name] = set(task.get("dependentTasks", []))
        executor = whole["components"][task["componentRef"]["name"]]["executorLabel"]
        runs[name] = whole["deploymentSpec"]["executors"][executor]["container"]["args"]
    return needs, runs


def sagemaker(text: str) -> tuple[Needs, dict[str, list[Any]]]:
    steps = json.loads(text)["Steps"]
    arguments = {each["Name"]: each["Arguments"]["AppSpecification"]["ContainerArguments"] for each in steps}
    return {each["Name"]: set(each.get("DependsOn", [])) for each in steps}, arguments


def azureml(text: str) -> tuple[Needs, dict[str, list[Any]]]:
    jobs = documents(text)[0]["jobs"]
    needs = {
        name.replace("_", "-"): {
            re.fullmatch(r"\$\{\{parent\.jobs\.(\w+)\.outputs\.done}}", each)[1].replace("_", "-")  # type: ignore[index]
            for each in job.get("inputs", {}).values()
        }
        for name, job in jobs.items()
    }
    return needs, {job["display_name"]: job["command"].split(" && ")[0].split()[2:] for job in jobs.values()}


READERS: dict[str, Callable[[str], tuple[Needs, dict[str, list[Any]]]]] = {
    "airflow": airflow,
    "argo": argo,
    "kubeflow": kubeflow,
    "vertex": kubeflow,
    "sagemaker": sagemaker,
    "azureml": azureml,
}


def expected() -> Needs:
    """Which stage needs which, from the text of `dvc.yaml` alone."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    outs = {
        name: [
            path if isinstance(path, str) else next(iter(path))
            for key in ("outs", "metrics")
            for path in stage.get(key, [])
        ]
        for name, stage in stages.items()
    }
    inside = lambda one, other: Path(one).is_relative_to(other) or Path(other).is_relative_to(one)  # noqa: E731
    return {
        name: {
            other for other, paths in outs.items() for path in paths if any(inside(path, dep) for dep in stage["deps"])
        }
        for name, stage in stages.items()
    }


@pytest.mark.parametrize("platform", WRITTEN)
def test_a_definition_in_git_is_what_make_platform_writes(platform: str, tasks: dict[str, graph.Task]) -> None:
    text = (platforms.FOLDER / platforms.FILES[platform]).read_text(encoding="utf-8")
    equal = text == platforms.definition(platform, tasks, settings_module.load(tasks))
    assert equal, "run make platform"


@pytest.mark.parametrize("platform", platforms.FILES)
def test_a_definition_has_a_task_per_stage_that_waits_for_what_the_stage_reads(
    platform: str, tasks: dict[str, graph.Task]
) -> None:
    needs, runs = READERS[platform](platforms.definition(platform, tasks, settings_module.load(tasks)))
    assert needs == expected()
    known = graph.fingerprint(tasks)
    for stage in needs:
        assert runs[stage] == [stage, "--run", platforms.RUN[platform], "--graph", known]


def change(project: Project, edit: Callable[[Any], None]) -> None:
    project._edit(str(SETTINGS), edit)


def write(project: Project, **environment: str) -> str:
    return project.run("python", "-m", "mlops.pipeline.platforms", check=False, **environment).stdout


def test_a_new_stage_changes_each_definition_and_an_older_one_does_not_run(project: Project) -> None:
    old = re.search(r'"--graph", "(\w+)"', project.read("deploy/pipelines/airflow.py"))
    assert old
    pipeline = project.folder / "dvc.yaml"
    added = "\n  own_stage:\n    cmd: 'true'\n    deps: [models/service/model.onnx]\n    outs: [reports/own.json]\n"
    pipeline.write_text(pipeline.read_text("utf-8") + added, encoding="utf-8")
    change(project, lambda found: found.update(always=["ingest"], schedule="0 5 * * MON"))
    (project.folder / "deploy/pipelines/argo.yaml").unlink()
    assert "argo" not in write(project)  # only those that are there are written again
    assert "argo: 11 tasks" in write(project, TO="argo")
    for platform, file in platforms.FILES.items():
        needs, runs = READERS[platform](project.read(f"deploy/pipelines/{file}"))
        assert needs["own-stage"] == {"export"}
        assert runs["own-stage"][0] == "own_stage"
        assert "--force" in runs["ingest"]
        assert "--force" not in runs["split"]
    with pytest.MonkeyPatch.context() as here:
        here.chdir(project.folder)
        assert graph.read()["own_stage"].pulls == ("models/service",)  # the output that holds the file
    *_, scheduled = documents(project.read("deploy/pipelines/argo.yaml"))
    assert scheduled["spec"]["schedules"] == ["0 5 * * MON"]
    task = ("python", "-m", "mlops.pipeline.platforms.task", "ingest", "--run", "1", "--graph")
    done = project.run(*task, old[1], check=False, DVC_REMOTE_URL=str(project.folder / "remote"))
    assert done.returncode == 1
    assert (
        "error: the platform's definition was written from other stages than this image has in dvc.yaml" in done.stdout
    )
    assert "Traceback" not in done.stdout


WRONG: list[tuple[str, Callable[[Any], Any], str]] = [
    ("a tag", lambda s: s.update(image="ghcr.io/me/model:1.0"), "settings.yaml: image: "),
    ("a password", lambda s: s.update(remote="https://me:pass@example.org"), "remote: contains a password"),
    ("an unknown stage", lambda s: s["stages"].update(trian={"cpu": 1}), "did you mean 'train'?"),
    ("an unknown stage that always runs", lambda s: s.update(always=["read"]), "always: unknown stage 'read'"),
    ("an unknown key", lambda s: s["default"].update(gpu=1), "unknown key default.gpu"),
    ("no schedule", lambda s: s.update(schedule="daily"), "settings.yaml: schedule: "),
    ("a machine that nobody has", lambda s: s["stages"]["tune"].update(cpu=96), "azureml has no machine with 96"),
    ("a name with a quote", lambda s: s["secret"].update(name="a'b"), "settings.yaml: secret.name: "),
]


def all_of_them(tasks: dict[str, graph.Task]) -> list[str]:
    settings = settings_module.load(tasks)
    return [platforms.definition(platform, tasks, settings) for platform in platforms.FILES]


@pytest.mark.parametrize(("edit", "message"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_a_wrong_setting_is_one_clear_error(
    edit: Callable[[Any], Any],
    message: str,
    tasks: dict[str, graph.Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    yaml = YAML()
    found = yaml.load(ROOT / SETTINGS)
    edit(found)
    (tmp_path / SETTINGS).parent.mkdir(parents=True)
    yaml.dump(found, tmp_path / SETTINGS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        all_of_them(tasks)


def test_an_unknown_platform_and_a_name_that_none_accepts_are_clear_errors(project: Project) -> None:
    assert "error: unknown platform: TO=airflw; did you mean 'airflow'?" in write(project, TO="airflw")
    change(project, lambda found: found["stages"]["tune"].update(cpu=96))
    assert "error: deploy/pipelines/settings.yaml: azureml has no machine" in write(project)
    assert project.git("status", "--porcelain") == "M deploy/pipelines/settings.yaml"  # none was written
    pipeline = project.folder / "dvc.yaml"
    pipeline.write_text(pipeline.read_text("utf-8").replace("\n  card:\n", "\n  Card:\n"), encoding="utf-8")
    said = write(project)
    assert "error: dvc.yaml: a platform does not accept 'Card' as the name of a stage" in said
    assert "Traceback" not in said


def test_airflow_without_kubernetes_takes_secrets_from_its_variables(tasks: dict[str, graph.Task]) -> None:
    settings = settings_module.load(tasks).model_copy(update={"airflow": "docker", "schedule": "0 5 * * *"})
    text = platforms.definition("airflow", tasks, settings)
    ast.parse(text)
    assert "DockerOperator(" in text
    assert '"AWS_ACCESS_KEY_ID": "{{ var.value.AWS_ACCESS_KEY_ID }}",' in text
    assert 'schedule="0 5 * * *",' in text
    assert "kubernetes" not in text
