"""A table of partitions from `params.yaml` to a reviewed change and scored rows, on one machine and without Dask."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conftest import Project

from mlops.core.files import tree_md5


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(4):
        x = np.random.default_rng(number).normal(size=(2, 300)).round(4)
        rows = {"id": range(300 * number, 300 * number + 300), "x": x[0], "y": x[1]}
        pq.write_table(pa.table({**rows, "left": np.where(x[0] > 0.2, "yes", "no")}), folder / f"{number}.parquet")


def test_partitions_go_through_every_stage_a_review_and_scoring(project: Project) -> None:
    write(project.folder / "data/raw/events")
    project.use_events(validate={"suite": None}, evaluate={"slices": ["x"]})
    made = project.run("dvc", "repro").stdout
    assert "4 partitions" in made
    project.commit("use partitions")
    project.git("branch", "base")
    table = project.folder / "data/prepared/table.parquet"
    assert f"md5: {tree_md5(table)}" in project.read("dvc.lock")
    assert tree_md5(table).endswith(".dir")

    project.edit_params(lambda params: params["model"]["params"].update(C=0.5))
    project.run("dvc", "repro")
    project.commit("another C")
    project.run(sys.executable, "-P", "-m", "mlops.review", "--base", "base", check=False)
    report = json.loads(project.read("build/review/report.json"))
    assert report["baseline"]["problem"] is None
    assert report["baseline"]["origin"] == "cache"
    changes = {each["name"]: each for each in report["lineage"]}
    assert changes["training rows"]["before"] == changes["training rows"]["after"]
    assert changes["model"]["before"] != changes["model"]["after"]

    project.run(sys.executable, "-m", "mlops.release.identity")
    given, wanted = "data/raw/events", "build/scored"
    scored = project.run(sys.executable, "-m", "mlops.serving.score", given, wanted).stdout
    assert "scored 1,200 rows → build/scored" in scored
    found = pq.ParquetDataset(project.folder / wanted).read()
    assert found.num_rows == 1200
    assert found["id"].to_pylist() == list(range(1200))
    again = project.run(sys.executable, "-m", "mlops.serving.score", given, wanted, check=False)
    assert "error: build/scored exists" in again.stdout
