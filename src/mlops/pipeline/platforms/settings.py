"""`deploy/pipelines/settings.yaml`: the image, the storage, and what each stage gets when a platform runs it."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mlops.core import yamlfile
from mlops.core.errors import UserError
from mlops.core.yamlfile import Section, closest

SETTINGS = Path("deploy/pipelines/settings.yaml")
# vCPU and GiB of the machines that SageMaker and Azure ML are asked for, the smallest first
MACHINES = {
    "sagemaker": {
        "ml.m5.large": (2, 8),
        "ml.m5.xlarge": (4, 16),
        "ml.m5.2xlarge": (8, 32),
        "ml.m5.4xlarge": (16, 64),
        "ml.m5.12xlarge": (48, 192),
        "ml.m5.24xlarge": (96, 384),
    },
    "azureml": {
        "Standard_D2s_v3": (2, 8),
        "Standard_D4s_v3": (4, 16),
        "Standard_D8s_v3": (8, 32),
        "Standard_D16s_v3": (16, 64),
        "Standard_D32s_v3": (32, 128),
        "Standard_D64s_v3": (64, 256),
    },
}


def _open(value: str) -> str:
    if re.search(r"://[^/@\s]*:[^/@\s]*@", value):
        raise ValueError("contains a password; it belongs into the platform's secret")
    return value


Open = Annotated[str, AfterValidator(_open)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Size(Section):
    """What a task gets; a key that is left out comes from `default`."""

    cpu: int | None = Field(None, ge=1, le=96)
    """Processors."""
    memory: int | None = Field(None, ge=1, le=384)
    """GiB."""
    hours: float | None = Field(None, gt=0, le=120)
    """The platform stops a task that takes longer."""
    retries: int | None = Field(None, ge=0, le=10)
    """How often a failed task is started again."""


class Default(Section):
    """What a task gets where `stages` says nothing else."""

    cpu: int = Field(2, ge=1, le=96)
    memory: int = Field(4, ge=1, le=384)
    hours: float = Field(1, gt=0, le=120)
    retries: int = Field(2, ge=0, le=10)


class Secret(Section):
    """A secret that the platform keeps. Only its name and its keys are written into a definition."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    keys: list[Variable] = Field(min_length=1)
    """Environment variables of the tasks."""


class Settings(Section):
    """What all platforms share."""

    name: str = Field("model-pipeline", pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")
    """What the pipeline is called on a platform."""
    image: str = Field(pattern=r"^[a-z0-9][a-z0-9.:/_-]*@sha256:[0-9a-f]{64}$")
    """The image of the commit that is to run, by its digest."""
    remote: Open
    """Address of the storage that DVC pulls from and pushes to."""
    schedule: str | None = Field(None, pattern=r"^[0-9*/,A-Z-]+( [0-9*/,A-Z-]+){4}$")
    """Cron, in UTC."""
    always: list[str] = Field(default_factory=list)
    """Stages that run even if nothing has changed, such as `ingest` for a URL or a query."""
    environment: dict[Variable, Open] = Field(default_factory=dict)
    """Environment variables of all tasks. None of them is a secret."""
    secret: Secret | None = None
    """For Airflow, Argo and Kubeflow; the others take the identity of the job."""
    airflow: Literal["kubernetes", "docker"] = "kubernetes"
    """Where Airflow starts the containers."""
    default: Default = Field(default_factory=Default)
    stages: dict[str, Size] = Field(default_factory=dict)
    """Stage → what it gets instead of the default."""

    def size(self, stage: str) -> Default:
        """What the task of a stage gets."""
        own = self.stages.get(stage, Size()).model_dump(exclude_none=True)
        return self.default.model_copy(update=own)


def load(stages: Collection[str]) -> Settings:
    """Read and check the settings.

    Raises
    ------
    UserError
        Names each invalid key, and a stage that `dvc.yaml` does not have.
    """
    settings = yamlfile.read(SETTINGS, Settings)
    for key, named in (("stages", settings.stages), ("always", settings.always)):
        for name in named:
            if name not in stages:
                raise UserError(f"{SETTINGS}: {key}: unknown stage {name!r}{closest(name, list(stages))}")
    return settings


def machine(platform: str, stage: str, size: Default) -> str:
    """The smallest machine of a platform that has what a task gets."""
    for name, (cpu, memory) in MACHINES[platform].items():
        if cpu >= size.cpu and memory >= size.memory:
            return name
    name, (cpu, memory) = list(MACHINES[platform].items())[-1]
    raise UserError(
        f"{SETTINGS}: {platform} has no machine with {size.cpu} processors and {size.memory} GiB for stage {stage}",
        f"at most {cpu} processors and {memory} GiB ({name})",
    )
