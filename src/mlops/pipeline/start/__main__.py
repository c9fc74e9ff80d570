"""`make start TABLE=houses.csv TARGET=price`: describe a table in `params.yaml`, and draft what belongs to it.

Nothing is written before all of it has been tried in memory.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlops.core import started
from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.files import atomic
from mlops.core.template import record
from mlops.core.yamlfile import closest
from mlops.data import expectations, formats
from mlops.data.sources import RAW
from mlops.pipeline.start import reading, writing
from mlops.pipeline.start.recipe import Plan, plan

TABLES = re.compile("|".join((formats.CSV, formats.PARQUET, formats.JSON_LINES)))
USAGE = "make start TABLE=houses.csv TARGET=price"
# a larger file is kept by DVC, with its hash in Git
MOST_IN_GIT = 5_000_000


def main(table: str, target: str, task: str) -> None:
    started.check([started.PARAMS, started.GATE, started.CANVAS])
    ask = sys.stdin.isatty() and sys.stdout.isatty()
    if not table and ask:
        table = input("Table (a path, a URL, or a SQL query): ").strip()
    if not table:
        raise UserError("TABLE is not set", USAGE)
    if task not in ("", "classification", "regression"):
        raise UserError(f"TASK is classification or regression, got {task!r}", "leave it out to let the target decide")
    name, path = placed(table)
    source = reading.read(name, target, path)
    if not target and ask:
        print(f"Columns: {', '.join(source.columns)}")
        target = input("Target (the column to predict): ").strip()
    if not target:
        raise UserError("TARGET is not set: the column to predict", f"one of {', '.join(list(source.columns)[:20])}")
    made = plan(name, source, target, task or None)
    record.start()
    write(made, path)
    for line in summary(made):
        print(line)


def placed(table: str) -> tuple[str | dict[str, str], Path | None]:
    """`data.source` for what the user named, and where a file is that must be copied to `data/raw`."""
    if re.match(r"(?i)\s*(select|with)\s", table):
        return {"sql": " ".join(table.split())}, None
    if "://" in table or table.startswith("sklearn:"):
        return table, None
    if table.endswith("/"):
        raise UserError(f"{table} is a folder of partitions", "describe it by hand: docs/scale-out.md")
    path = Path(table).expanduser()
    if "*" in table or path.resolve().is_relative_to(RAW.resolve()):
        return os.path.relpath(path) if path.is_absolute() else table, None
    if not path.exists():
        beside = [str(each) for each in sorted(path.parent.glob("*")) if TABLES.search(each.name)]
        raise UserError(f"there is no file {table}{closest(table, beside) if beside else ''}", USAGE)
    copy = RAW / path.name
    if copy.exists() and not filecmp.cmp(copy, path, shallow=False):
        raise UserError(f"{copy} exists and differs from {table}", f"give one of them another name, or TABLE={copy}")
    return str(copy), path


def write(made: Plan, path: Path | None) -> None:
    """Write the table's copy, the suite, the canvas, `params.yaml`, and a README unless there is an edited one."""
    settings = made.settings
    suite = str(started.SUITES / f"{expectations.name(settings)}.json")
    started.check([suite])
    made.params["validate"]["suite"] = suite
    drafted = expectations.text(Path(suite).stem, expectations.draft(made.table, made.catalogue, made.settings))
    source = made.catalogue.source
    files = {
        suite: drafted,
        started.CANVAS: writing.canvas(settings, source, made.table.num_rows, made.table.num_columns),
        started.PARAMS: writing.params(made),
    }
    if not started.edited([started.README]):
        files[started.README] = writing.readme(settings, source)
    if path is not None and not Path(str(settings.data.source)).exists():
        with atomic(str(settings.data.source)) as partial:
            shutil.copyfile(path, partial)
        keep(str(settings.data.source))
    started.write(files)


def keep(name: str) -> None:
    """Give a large file that was copied to DVC."""
    if Path(name).stat().st_size <= MOST_IN_GIT:
        return
    done = subprocess.run(["dvc", "add", "--quiet", name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc add {name} failed: {done.stderr.strip()}", f"repair that, then `make start TABLE={name}`")
    print(f"{name} is large: DVC keeps it, and Git its hash in {name}.dvc")


def summary(made: Plan) -> list[str]:
    """The decisions, one a line."""
    shown = {"data.task": "task", "split.method": "split", "model.estimator": "model", "data.key": "key"}
    values: dict[str, Any] = {
        "data.task": made.params["data"]["task"],
        "split.method": made.params["split"]["method"],
        "model.estimator": made.params["model"]["estimator"].rpartition(".")[2],
        "data.key": ", ".join(made.params["data"]["key"]) or "none",
    }
    lines = [f"  {label:<6} {values[key]}: {made.reasons[key]}" for key, label in shown.items() if key in made.reasons]
    if "data.drop" in made.reasons:
        lines.append(f"  drop   {made.reasons['data.drop']}")
    if "data.features" in made.reasons:
        lines.append(f"  {made.reasons['data.features']}")
    size = f"{counted(made.table.num_rows, 'row')} × {counted(made.table.num_columns, 'column')}"
    return [f"{made.catalogue.source}: {size} → params.yaml, with the reason for each choice:", *lines]


if __name__ == "__main__":
    with errors_in_words():
        main(*(os.environ.get(name, "") for name in ("TABLE", "TARGET", "TASK")))
