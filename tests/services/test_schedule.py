"""What runs daily, the monitor and the scores: on a real service, repository, bucket and push gateway."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, Project, copied
from prometheus_client.parser import text_string_to_metric_families
from serving.served import Served, eventually, identify, serving
from stores import s3_server

SCRIPT = ROOT / "deploy/schedule/monitor.sh"
SCORE = ROOT / "deploy/precompute/score.sh"
VERSION = "1.0.0"


class Place(NamedTuple):
    """A release that serves, and where the monitor of it works."""

    served: Served
    work: Path
    given: dict[str, str]

    def monitor(self, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", SCRIPT], env={**self.given, **more}, capture_output=True, text=True, check=False
        )

    @property
    def metrics(self) -> Path:
        return self.work / "metrics/monitor.prom"


@pytest.fixture(scope="module")
def place(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    (folder / "release").mkdir()
    project = copied(done, folder / "release")
    project.git("tag", f"v{VERSION}")
    identify(project)
    log = folder / "log"
    with serving(project, folder / "first", PREDICTION_LOG=str(log)) as served:
        served.predict(*[served.example] * 120)
    (folder / "s3").mkdir()
    work = folder / "work"
    work.mkdir()
    with s3_server(folder / "s3") as server, serving(project, folder / "second") as served:
        options = {"endpoint_url": server["AWS_ENDPOINT_URL"], "region_name": server["AWS_DEFAULT_REGION"]}
        bucket = fsspec.filesystem(
            "s3", key=server["AWS_ACCESS_KEY_ID"], secret=server["AWS_SECRET_ACCESS_KEY"], client_kwargs=options
        )
        bucket.mkdir("logs")
        (sealed,) = log.iterdir()
        bucket.put_file(str(sealed), f"logs/model/{sealed.name}")
        # what the unit and the CronJob give it, beside what this machine needs to install packages
        given = {
            **{key: value for key, value in project.environment.items() if key != "PYTHONPATH"},
            "WORK": str(work),
            "SERVICE": served.url,
            "REPOSITORY": str(project.folder),
            "LOG_FROM": "s3://logs/model",
            **server,
        }
        yield Place(served, work, given)


def values(text: str) -> dict[str, float]:
    """The metrics without labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        sample.name: sample.value for sample in samples if not sample.labels.keys() - {"job", "namespace", "instance"}
    }


@contextmanager
def push_gateway(folder: Path) -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = shutil.which("prometheus-pushgateway")
    assert program, "prometheus-pushgateway is not installed; run .ci/services"
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen([program, f"--web.listen-address={address}"], stdout=log, stderr=log)
    host, port = address.split(":")
    try:
        eventually(lambda: socket.socket().connect_ex((host, int(port))) == 0)
        yield f"http://{address}"
    finally:
        running.terminate()
        running.wait()


def test_keys_are_scored_with_the_model_of_the_release_that_serves(place: Place, tmp_path: Path) -> None:
    project = place.served.project
    rows = pq.read_table(project.folder / "data/prepared/test.parquet").slice(0, 3)
    pq.write_table(rows.append_column("customer", pa.array(["a", "b", "c"])), tmp_path / "rows.parquet")
    checkout, made = place.work / "checkout", tmp_path / "predictions.sqlite"
    subprocess.run(["git", "clone", "--quiet", project.folder, checkout], check=True)
    # what a remote would give it
    shutil.copytree(project.folder / ".dvc/cache", checkout / ".dvc/cache")
    chosen = {"ROWS": str(tmp_path / "rows.parquet"), "KEY": "customer", "PREDICTIONS": str(made), "HOURS": "1"}

    def score(**more: str) -> subprocess.CompletedProcess[str]:
        environment = {**place.given, **chosen, **more}
        return subprocess.run(["/bin/sh", SCORE], env=environment, capture_output=True, text=True, check=False)

    ran = score()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"scored 3 keys → {made}" in ran.stdout
    with closing(sqlite3.connect(made)) as table:
        about = json.loads(table.execute("SELECT content FROM about").fetchone()[0])
    served = place.served.release
    assert [about[name] for name in ("version", "model_md5", "service_md5")] == [
        VERSION,
        served["model_md5"],
        served["service_md5"],
    ]
    kept = made.read_bytes()
    for changed, message in (
        ({"SERVICE": "http://127.0.0.1:1"}, "does not say which version it serves"),
        ({"KEY": "nobody"}, "KEY=nobody is not a column of"),
        ({"ROWS": ""}, "ROWS: names the rows"),
    ):
        failed = score(**changed)
        assert failed.returncode != 0, changed
        assert message in failed.stdout + failed.stderr
    assert made.read_bytes() == kept


def test_the_release_that_serves_is_monitored_and_leaves_its_metrics(place: Place, tmp_path: Path) -> None:
    first = place.monitor()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "1 new file (0.0 MB), 0 were there" in first.stdout
    assert "120 rows from" in first.stdout
    found = values(place.metrics.read_text(encoding="utf-8"))
    assert found["monitor_rows"] == 120
    assert (place.work / "checkout/build/releases" / f"v{VERSION}/models/model.skops").is_file()

    git = ("git", "-C", place.work / "checkout")
    subprocess.run([*git, "worktree", "add", "--quiet", "--detach", "build/releases/v0.9.0", "HEAD"], check=True)

    # the next day: nothing is installed, run or downloaded again, and the file is replaced, not written to
    with place.metrics.open(encoding="utf-8") as read_meanwhile:
        before = place.metrics.stat().st_ino
        second = place.monitor()
        assert second.returncode == 0, second.stdout + second.stderr
        assert "0 new files (0.0 MB), 1 were there" in second.stdout
        assert place.metrics.stat().st_ino != before
        assert [path.name for path in (place.work / "checkout/build/releases").iterdir()] == [f"v{VERSION}"]
        assert values(read_meanwhile.read()) == found
    assert [path.name for path in place.metrics.parent.iterdir()] == ["monitor.prom"]
    later = values(place.metrics.read_text(encoding="utf-8"))
    assert later["monitor_timestamp_seconds"] > found["monitor_timestamp_seconds"]

    with push_gateway(tmp_path) as url:
        pushed = place.monitor(PUSH_URL=f"{url}/metrics/job/model-monitor/namespace/model-production")
        assert pushed.returncode == 0, pushed.stdout + pushed.stderr
        with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
            text = answer.read().decode()
    assert 'monitor_rows{instance="",job="model-monitor",namespace="model-production"} 120' in text

    # what cannot be monitored leaves the last metrics, which grow old, and an alert says so
    kept = place.metrics.read_bytes()
    for changed, message in (
        ({"SERVICE": "http://127.0.0.1:1"}, "does not say which version it serves"),
        ({"LOG_FROM": "s3://logs/none"}, "error: s3://logs/none holds no sealed file"),
        ({"LOG_FROM": "", "LOG": str(tmp_path)}, "holds no row of the model"),
        ({"REPOSITORY": "", "WORK": str(tmp_path)}, "REPOSITORY: names the repository"),
        ({"WORK": ""}, "WORK: names a folder"),
    ):
        failed = place.monitor(**changed)
        assert failed.returncode != 0, changed
        assert message in failed.stdout + failed.stderr
    subprocess.run(["git", "tag", "--delete", f"v{VERSION}"], cwd=place.given["REPOSITORY"], check=True)
    subprocess.run(["git", "tag", "--delete", f"v{VERSION}"], cwd=place.work / "checkout", check=True)
    failed = place.monitor()
    assert f"error: the repository has no release v{VERSION}" in failed.stderr
    assert place.metrics.read_bytes() == kept
