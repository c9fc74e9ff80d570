"""The pipeline on a Dask cluster of processes: the same files as on this machine alone, also on bad days."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import PATIENCE, Cluster, background, running, transitions
from conftest import Project, copied
from services.stores import ACCESS, SECRET, add_user, s3_server

STAGES = ("ingest", "validate", "split", "profile", "tune", "train", "export", "evaluate")
FOREST = {"estimator": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 12, "max_depth": 5}}
SEARCH = {"method": "grid", "space": {"max_depth": [2, 5]}, "folds": 2}
SCORE = ("-m", "mlops.serving.score", "data/raw/events", "build/scored")


def write(folder: Path, files: int = 6, rows: int = 400) -> None:
    """Partitions of a table with something to learn."""
    folder.mkdir(parents=True)
    for number in range(files):
        rng = np.random.default_rng(number)
        x = rng.normal(size=(3, rows)).round(6)
        columns: dict[str, Any] = {f"x{place}": values for place, values in enumerate(x)}
        columns["place"] = np.array(["north", "south", "east"])[rng.integers(0, 3, rows)]
        columns["left"] = np.where(x[0] + x[1] * x[2] + rng.logistic(size=rows) > 0, "yes", "no")
        table = pa.table({"id": pa.array(range(number * rows, (number + 1) * rows)), **columns})
        pq.write_table(table, folder / f"{number}.parquet")


def made(project: Project) -> dict[str, str]:
    """The hash of each file that the stages and the scoring have written."""
    folders = [project.folder / name for name in ("data/prepared", "models", "reports", "build/scored")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file() and "journal" not in path.parts]
    return {str(path.relative_to(project.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def clear(project: Project) -> None:
    for path in [*(project.folder / "data/prepared").glob("*.parquet"), project.folder / "build/scored"]:
        shutil.rmtree(path, ignore_errors=True)


def score(project: Project, **environment: str) -> str:
    project.run(sys.executable, "-m", "mlops.release.identity")
    return project.run(sys.executable, *SCORE, **environment).stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of which this machine alone has run each stage, and scored a folder."""
    folder = tmp_path_factory.mktemp("plain") / "a project"
    folder.mkdir()
    project = Project(folder)
    write(folder / "data/raw/events")
    project.use_events(validate={"suite": "data/expectations/events.json"}, evaluate={"slices": ["place"]})
    project.edit_params(lambda params: params.update(model=FOREST, tuning=SEARCH))
    project.stage("ingest")
    project.run(sys.executable, "-m", "mlops.data.expectations")
    project.commit("use events")
    project.run("dvc", "repro", "evaluate", "profile")
    assert "scored 2,400 rows → build/scored" in score(project)
    return project


@pytest.fixture(scope="module")
def cluster(plain: Project) -> Iterator[Cluster]:
    with running(plain) as cluster:
        yield cluster


def test_two_workers_write_the_very_same_files_though_one_dies_in_each_stage(
    plain: Project, cluster: Cluster, tmp_path: Path
) -> None:
    expected, lock = made(plain), plain.read("dvc.lock")
    clear(plain)
    hit = []
    before = transitions(cluster)
    for stage in (*STAGES, "score"):
        module = SCORE if stage == "score" else ("-m", f"mlops.pipeline.{stage}")
        log = tmp_path / f"{stage}.log"
        command = background(plain, sys.executable, *module, log=log, **cluster.environment)
        if cluster.kill_one_at_work(command):
            hit.append(stage)
        assert command.wait(PATIENCE) == 0, log.read_text()
        after = transitions(cluster)
        assert after > before, f"{stage} has run on no worker"
        before = after
    assert len(hit) >= 7, f"only in {hit}"
    assert made(plain) == expected
    plain.run("dvc", "commit", "--force", "evaluate", "profile")
    assert plain.read("dvc.lock") == lock


def test_a_lost_or_missing_scheduler_is_reported_and_nothing_is_half_written(plain: Project, tmp_path: Path) -> None:
    expected = made(plain)
    nowhere = plain.stage("split", check=False, DASK_SCHEDULER_ADDRESS="tcp://127.0.0.1:1")
    assert nowhere.returncode == 1
    assert "error: the Dask scheduler at $DASK_SCHEDULER_ADDRESS=tcp://127.0.0.1:1 does not answer: " in nowhere.stdout
    with running(plain) as other:
        log = tmp_path / "log"
        command = background(plain, sys.executable, "-m", "mlops.pipeline.validate", log=log, **other.environment)
        with other.client() as client:
            while not any(client.processing().values()):
                assert command.poll() is None, log.read_text()
        other.scheduler.send_signal(signal.SIGKILL)
        assert command.wait(PATIENCE) == 1
    said = log.read_text()
    assert f"error: the connection to the Dask scheduler at {other.address} is lost; no file is half-written" in said
    assert "Traceback" not in said, said
    assert made(plain) == expected


def test_a_cluster_without_workers_is_given_up(plain: Project) -> None:
    with running(plain) as alone:
        alone.workers.terminate()
        alone.workers.wait(PATIENCE)
        said = plain.stage("split", check=False, DASK_IDLE_SECONDS="2", **alone.environment)
    assert said.returncode == 1
    assert f"error: the Dask scheduler at {alone.address} has had no worker for 2 s" in said.stdout
    assert "try: start them: `make worker` in this folder" in said.stdout


def test_an_edit_starts_the_workers_again_and_those_of_another_clone_get_no_work(
    plain: Project, cluster: Cluster, tmp_path: Path
) -> None:
    expected, started = made(plain), [cluster.worker_pids()]
    file = plain.folder / "src/project/features.py"
    text = file.read_text()
    for edited in (text + "\n# edited\n", text):
        file.write_text(edited)
        plain.stage("split", **cluster.environment)
        started.append(cluster.worker_pids())
    assert made(plain) == expected
    assert not started[0] & started[2], "a worker runs what it ran before the edit"
    other = copied(plain, tmp_path)
    (other.folder / "src/project/features.py").write_text(text + "\n# edited\n")
    said = other.stage("split", check=False, **cluster.environment)
    assert said.returncode == 1
    assert "runs other code than this folder" in said.stdout
    assert "Traceback" not in said.stdout
    assert cluster.worker_pids() == started[2]


HUNGRY = """
import numpy as np
from mlops import keep_rows

held = []


@keep_rows("x0")
def hungry(x0):
    while True:
        held.append(np.ones(10_000_000))
"""


def test_a_worker_that_runs_out_of_memory_ends_the_stage_with_a_sentence(plain: Project, tmp_path: Path) -> None:
    project = copied(plain, tmp_path)
    folder = project.folder
    (folder / "src/project/cleaning.py").write_text(HUNGRY)
    project.edit_params(lambda params: params["data"]["clean"].update(functions=["hungry"]))
    with running(project, memory="500MiB") as small:
        said = project.stage("ingest", check=False, **small.environment)
    assert said.returncode == 1
    assert "error: several workers in turn died with the same partition" in said.stdout
    assert "try: give workers more memory (`make worker MEMORY=8GiB`), or write smaller partitions" in said.stdout
    assert "Traceback" not in said.stdout


def test_a_row_group_larger_than_a_worker_is_refused_with_what_it_needs(plain: Project, tmp_path: Path) -> None:
    project = copied(plain, tmp_path)
    folder = project.folder
    for path in (folder / "data/raw/events").glob("*"):
        path.unlink()
    table = pa.table({"id": range(4_000_000), "x0": np.zeros(4_000_000), "left": pa.array(["a", "b"] * 2_000_000)})
    pq.write_table(table, folder / "data/raw/events/0.parquet", row_group_size=4_000_000)
    project.edit_params(lambda params: params["data"].update(positive="a", types={"left": "categorical"}))
    with running(project, memory="400MiB") as small:
        said = project.stage("ingest", check=False, **small.environment)
    assert said.returncode == 1
    assert "0.parquet: row group 1 (4,000,000 rows) needs about 275 MiB of memory, and " in said.stdout
    assert "write the file with smaller row groups" in said.stdout


def test_partitions_in_a_bucket_are_read_by_the_workers(plain: Project, tmp_path: Path) -> None:
    project = copied(plain, tmp_path)
    folder = project.folder
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        import fsspec

        store = fsspec.filesystem(
            "s3", key=ACCESS, secret=SECRET, client_kwargs={"endpoint_url": server["AWS_ENDPOINT_URL"]}
        )
        store.mkdir("data")
        store.put(str(folder / "data/raw/events"), "data/events", recursive=True)
        project.edit_params(lambda params: params["data"].update(source="s3://data/events/", timeout=5))
        kept = [folder / f"data/prepared/table.parquet/part-{number:05}.parquet" for number in range(6)]
        expected = [path.read_bytes() for path in kept]
        with running(project, **server) as cluster:
            done = project.stage("ingest", **server, **cluster.environment)
            assert "s3://data/events/ → 2,400 rows × 6 columns" in done.stdout
            assert [path.read_bytes() for path in kept] == expected
        denied = add_user(server, "nobody", "not/a/real/secret")
        with running(project, **denied) as cluster:
            # the files are listed here, and refused there
            said = project.stage("ingest", check=False, **server, **cluster.environment)
    assert said.returncode == 1
    assert "error: s3://data/events/0.parquet: access denied: " in said.stdout
    assert "Traceback" not in said.stdout
    assert [path.read_bytes() for path in kept] == expected


def test_boosting_trains_on_all_workers_and_is_used_without_a_cluster(
    plain: Project, cluster: Cluster, tmp_path: Path
) -> None:
    project = copied(plain, tmp_path)
    folder = project.folder

    def use(params: Any) -> None:
        params["model"] = {
            "estimator": "lightgbm.DaskLGBMClassifier",
            "params": {"n_estimators": 20, "deterministic": True, "force_row_wise": True, "verbosity": -1},
            "trusted": ["collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"],
        }

    project.edit_params(use)
    searched = project.stage("tune", check=False, **cluster.environment)
    assert "tuning: lightgbm.DaskLGBMClassifier is not searched\n  try: search with lightgbm.LGBM" in searched.stdout
    project.edit_params(lambda params: params.update(tuning=None))
    project.stage("tune")
    alone = project.stage("train", check=False)
    assert "trains on a Dask cluster, and $DASK_SCHEDULER_ADDRESS is not set\n  try: export " in alone.stdout
    done = project.stage("train", **cluster.environment)
    assert "lightgbm.DaskLGBMClassifier on 1,8" in done.stdout
    assert b"127.0.0.1" not in (folder / "models/model.skops").read_bytes(), "the model knows where it was trained"
    project.edit_params(lambda params: params["model"]["params"].update(n_estimators=20_000))
    log = tmp_path / "log"
    command = background(project, sys.executable, "-m", "mlops.pipeline.train", log=log, **cluster.environment)
    while "Finding random open ports" not in log.read_text():
        assert command.poll() is None, log.read_text()
        time.sleep(0.1)
    time.sleep(2)
    assert cluster.kill_one_at_work(command)
    assert command.wait(PATIENCE) == 1
    assert "error: params.yaml: model: the training of lightgbm.DaskLGBMClassifier failed: " in log.read_text()
    assert "Traceback" not in log.read_text()
    for stage in ("export", "evaluate"):  # of the model that was trained before
        project.stage(stage)
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert metrics["roc_auc"] > 0.65
