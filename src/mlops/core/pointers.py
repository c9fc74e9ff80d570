"""Check the content of DVC files other than the pipeline: data and plots, nothing that DVC would fetch or run."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mlops.core import dvcfiles
from mlops.core.errors import UserError
from mlops.core.yamlfile import read


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts:
        raise ValueError("must name a file or folder beside it")
    return path


class Output(BaseModel):
    """The data of a pointer."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[str, AfterValidator(_inside)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
    hash: str = "md5"
    size: int | None = None
    nfiles: int | None = None
    isexec: bool = False
    desc: str | None = None
    remote: str | None = None


class Pointer(BaseModel):
    """A `*.dvc` file as `dvc add` writes it: one output, no `deps`, from which DVC would download."""

    model_config = ConfigDict(extra="forbid")

    outs: Annotated[list[Output], Field(min_length=1, max_length=1)]
    md5: str | None = None
    desc: str | None = None
    meta: Any = None


class Plots(BaseModel):
    """`reports/dvc.yaml` as `evaluate` writes it; a stage in it would run."""

    model_config = ConfigDict(extra="forbid")

    plots: list[dict[str, Any]]


class Stage(BaseModel):
    """A stage of the pipeline, of which only the dependencies are looked at."""

    deps: list[str] = []


class Pipeline(BaseModel):
    """`dvc.yaml`, whose other keys DVC checks."""

    stages: dict[str, Stage] = {}


def check() -> None:
    """Check the places and contents of the DVC files in the working tree.

    Raises
    ------
    UserError
        Names every file in a wrong place, every key that is not allowed, and a source file that is missing.
    """
    for name in dvcfiles.present():
        if dvcfiles.is_pointer(name):
            read(name, Pointer)
        elif name == dvcfiles.PLOTS:
            read(name, Plots)
    stages = read(dvcfiles.PIPELINE, Pipeline).stages if Path(dvcfiles.PIPELINE).exists() else {}
    for name, stage in stages.items():
        missing = next((path for path in stage.deps if path.startswith("src/") and not Path(path).exists()), None)
        if missing:
            raise UserError(
                f"{dvcfiles.PIPELINE}: stage {name} depends on {missing}, which is missing",
                f"git checkout HEAD -- {missing}, or make stages if nothing imports it any more",
            )
