"""`examples/federated` with Flower: real processes on loopback, Flower's simulation, and bad days.

Flower has an environment of its own, which these tests install from `federation/uv.lock`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops.core.settings import load

EXAMPLE = ROOT / "examples/federated"
NAMES = ["coordinator", "hospital-b", "hospital-c", "hospital-d"]
TABLES = ["data/prepared/train.parquet", *(f"federation/hospitals/{name}.csv" for name in NAMES[1:])]
INSTALLED = ROOT / "build/federation"
# how long a hospital may take for an answer, and the test for what it waits for
SECONDS, MOST_SECONDS = 30, 400


class Federation(Project):
    """A copy of the project in which the example has its test rows, with Flower's environment and an empty home."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
        (folder / "home").mkdir()
        uv = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
        chosen = ("--no-install-project", "--group", "simulation", "--project", str(folder / "federation"))
        environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(INSTALLED)}
        subprocess.run((uv, "sync", "--locked", "--quiet", *chosen), env=environment, check=True)
        for stage in ("ingest", "split"):
            self.run(sys.executable, "-P", "-m", f"mlops.pipeline.{stage}")

    @property
    def flower(self) -> dict[str, str]:
        """The environment of Flower's commands."""
        home = {"HOME": str(self.folder / "home"), "FLWR_HOME": str(self.folder / "home/flwr")}
        path = f"{INSTALLED / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(self.folder / "federation"), "FLWR_TELEMETRY_ENABLED": "0"}
        return {**os.environ, **home, **own, "OPENBLAS_NUM_THREADS": "1"}

    def call(self, *command: str, folder: str = ".") -> str:
        """Run one of Flower's commands, or its Python."""
        where = self.folder / folder
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=where, env=self.flower, text=True, check=False, **both)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def read_json(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.read(name))
        return found


class Network:
    """A SuperLink and a SuperNode for each hospital, each a process of its own, on loopback."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        link, *ports = free_ports(1 + len(NAMES))
        home = federation.folder / "home/flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "loopback"\n[superlink.loopback]\naddress = "127.0.0.1:{link}"\ninsecure = true\n'
        )
        quiet = "--disable-runtime-dependency-installation"
        self.start("link", "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(link), quiet)
        self.wait(lambda: answers(link))
        for name, table, port in zip(NAMES, TABLES, ports, strict=True):
            config = f'name="{name}" table="{federation.folder / table}"'
            where = ("--superlink", f"127.0.0.1:{link}", "--host", "127.0.0.1", "--port", str(port))
            self.start(name, "flower-supernode", "--insecure", *where, "--node-config", config)

    def start(self, name: str, *command: str) -> None:
        with (self.federation.folder / f"home/{name}.log").open("wb") as log:
            output = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.processes[name] = subprocess.Popen(command, env=self.federation.flower, **output)

    def submit(self, result: str, **settings: Any) -> None:
        """Start a federation, which will write its result there."""
        folder = self.federation.folder
        paths = {"own-table": f'"{folder / "data/prepared/train.parquet"}"', "result": f'"{folder / result}"'}
        asked = " ".join(f"{key}={value}" for key, value in {**paths, **settings}.items())
        self.federation.call("flwr", "run", ".", "loopback", "--run-config", asked, folder="federation")

    def wait(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + MOST_SECONDS
        while not until():
            assert time.monotonic() < end, self.log("link")[-4000:]
            time.sleep(0.2)

    def log(self, name: str) -> str:
        return (self.federation.folder / f"home/{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes.pop(name).wait()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    folder = tmp_path_factory.mktemp("federation") / "a project"
    folder.mkdir()
    return Federation(folder)


@pytest.fixture(scope="module")
def days(federation: Federation) -> dict[str, Any]:
    """What happened on good and bad days, by the name of the day."""
    (federation.folder / "days").mkdir()
    for side in ("train", "test"):
        shutil.copy(federation.folder / f"data/prepared/{side}.parquet", federation.folder / "days")
    federation.call("python", str(ROOT / "tests/federated/days.py"), "days")
    return federation.read_json("days/days.json")


@pytest.fixture
def network(federation: Federation) -> Iterator[Network]:
    network = Network(federation)
    yield network
    network.stop()


def loss(result: dict[str, Any], federation: Federation) -> float:
    """Log loss on the test rows, which no hospital has."""
    X, y = rows(federation, "data/prepared/test.parquet")
    return float(log_loss(y, probability(result, X)))


def rows(federation: Federation, *names: str) -> tuple[pd.DataFrame, pd.Series]:
    paths = [federation.folder / name for name in names]
    table = pd.concat([pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path) for path in paths])
    return table.drop(columns="diagnosis"), table["diagnosis"] == "malignant"


def probability(result: dict[str, Any], X: pd.DataFrame) -> Any:
    Z = (X[result["columns"]].to_numpy() - result["mean"]) / result["scale"]
    return expit(np.clip(Z @ np.array(result["coefficients"]) + result["intercept"], -30, 30))


def test_hospitals_of_real_processes_train_what_one_process_trains_by_secagg_too_and_one_may_drop_out(
    federation: Federation, days: dict[str, Any], network: Network
) -> None:
    network.submit("masked.json", rounds=2, seconds=MOST_SECONDS, protection='"secagg"')
    network.wait(lambda: (federation.folder / "masked.json").exists())
    masked, alone = federation.read_json("masked.json"), days["secagg, two rounds"]
    # SecAgg+ rounds weights to steps, up or down by chance
    np.testing.assert_allclose(masked["coefficients"], alone["coefficients"], atol=2e-4)
    uncounted = {"coefficients", "intercept"}
    assert {**masked, **dict.fromkeys(uncounted)} == {**alone, **dict.fromkeys(uncounted)}
    trained = network.log("hospital-d").count("Receiving: train message")

    network.submit("result.json", rounds=2, seconds=SECONDS)
    # hospital D has sent its moments, and the power fails while it trains
    network.wait(lambda: network.log("hospital-d").count("Receiving: train message") > trained)
    network.kill("hospital-d")
    network.wait(lambda: (federation.folder / "result.json").exists())
    found = federation.read_json("result.json")
    assert found["answers"] == {**dict.fromkeys(NAMES, 3), "hospital-d": 1}
    # whichever comes first
    why = f"round 1: a holder: (no answer within {SECONDS} s|Error: Node Unavailable .*)"
    assert [bool(re.fullmatch(why, each)) for each in found["refused"]] == [True]
    expected = days["drops out at once"]
    apart = {"refused"}
    assert {**found, **dict.fromkeys(apart)} == {**expected, **dict.fromkeys(apart)}, "to the last digit"


def test_flower_s_simulation_makes_the_committed_result_again(federation: Federation, days: dict[str, Any]) -> None:
    federation.call("python", "-m", "federated.simulate", "--result", "again.json")
    committed = (EXAMPLE / "federation/result.json").read_bytes()
    assert (federation.folder / "again.json").read_bytes() == committed
    assert hashlib.sha256(committed).hexdigest() == load(EXAMPLE / "params.yaml").model.params["sha256"]
    assert json.loads(committed) == days["plain"]


def test_the_federation_trains_what_scikit_learn_trains_of_all_rows_and_no_row_leaves_a_hospital(
    federation: Federation, days: dict[str, Any]
) -> None:
    X, y = rows(federation, *TABLES)
    assert days["plain"]["rows"] == len(y)
    np.testing.assert_allclose(days["plain"]["mean"], X.mean(), rtol=1e-8)
    np.testing.assert_allclose(days["plain"]["scale"], X.std(ddof=0), rtol=1e-6)
    pooled = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000)).fit(X, y)
    X_test, y_test = rows(federation, "data/prepared/test.parquet")
    by_hand = pooled.predict_proba(X_test)[:, 1]
    assert loss(days["plain"], federation) == pytest.approx(log_loss(y_test, by_hand), abs=0.02)
    assert np.mean((probability(days["plain"], X_test) > 0.5) == (by_hand > 0.5)) > 0.99

    sent = days["what leaves"]
    assert sent["shapes"] == [["present", [30]], ["square", [30]], ["sum", [30]], ["weights", [31]]]
    assert sent["others"] == ["holder.name", "metrics.num-examples"]
    assert sent["nearest"] > 1, "no answer is near to a row"


def test_the_page_has_the_tables_of_the_comparison_and_these_the_numbers_of_the_result(
    federation: Federation, days: dict[str, Any]
) -> None:
    tables = (EXAMPLE / "federation/comparison.md").read_text(encoding="utf-8")
    page = (ROOT / "docs/federated.md").read_text(encoding="utf-8")
    assert all(each.strip() in page for each in tables.split("\n\n"))
    assert days["table"] in tables
    X, y = rows(federation, "data/prepared/test.parquet")
    p = probability(days["plain"], X)
    for score in (roc_auc_score(y, p), accuracy_score(y, p > 0.5), log_loss(y, p)):
        assert f"| {score:.3f} [" in days["table"]


def test_an_answer_that_is_no_answer_is_refused_and_the_others_go_on(days: dict[str, Any]) -> None:
    for day, why in {
        "nan": "hospital-d: weights contains NaN or infinity",
        "short": "hospital-d: weights has shape (30,) and type float64, expected (31,) and float64",
        "drops out": "a holder: RuntimeError: connection lost",
        "no such column": "a holder: TableError: hospital-d.csv has no column 'mean radius'",
    }.items():
        found = days[day]
        assert set(found["refused"][-1:]) == {f"round 10: {why}"}, day
        assert found["answers"]["hospital-b"] == 11, day
        assert found["answers"].get("hospital-d", 0) == {"drops out": 4, "no such column": 0}.get(day, 1), day
    assert days["no such column"]["coefficients"] == days["without d"]["coefficients"], "as if it had not been there"
    # nobody knows which of the two is hospital B
    both = "; ".join(["hospital-b: two holders have this name"] * 2)
    assert days["one name twice"] == {"error": f"2 usable answers, 3 are needed: {both}"}


def test_a_liar_spoils_the_mean_but_neither_the_trimmed_mean_nor_clipped_updates(
    federation: Federation, days: dict[str, Any]
) -> None:
    honest = loss(days["plain"], federation)
    assert loss(days["liar"], federation) > 3 * honest
    assert loss(days["liar, trimmed"], federation) < honest + 0.1
    assert loss(days["liar, clipped"], federation) < honest + 0.1
    assert loss(days["trimmed"], federation) < honest + 0.02


def test_too_few_answers_stop_the_run_and_nothing_is_written(days: dict[str, Any]) -> None:
    reason = "a holder: RuntimeError: connection lost; a holder: RuntimeError: connection lost"
    assert days["two drop out"] == {"error": f"2 usable answers, 3 are needed: {reason}"}
    assert days["secagg, drops out"] == {"error": f"2 usable answers, 3 are needed: {reason}"}
    one = "3 usable answers, 4 are needed: a holder: RuntimeError: connection lost"
    assert days["noise, drops out"] == {"error": one}
    assert days["unknown strategy"] == {"error": "strategy must be mean or trimmed, got 'best'"}
    assert days["unknown protection"] == {"error": "protection must be none or dp or secagg, got 'dq'"}
    mean = "protection 'dp' is about a mean, so strategy must be mean, got 'trimmed'"
    assert days["trimmed noise"] == {"error": mean}


def test_secure_aggregation_gives_the_coordinator_the_mean_alone(days: dict[str, Any]) -> None:
    # what quantisation costs
    np.testing.assert_allclose(days["secagg"]["coefficients"], days["clipping alone"]["coefficients"], atol=2e-4)
    assert days["secagg, masked"] == 0


def test_noise_is_drawn_anew_unless_a_seed_makes_it_public_and_epsilon_is_that_of_the_gaussian_mechanism(
    days: dict[str, Any],
) -> None:
    seeded, again, drawn, anew = days["noise"]
    assert seeded == again
    assert drawn not in (seeded, anew)
    # of ten rounds with a multiplier of 2: Rényi divergence of order a is 10 a / (2 · 2²), Mironov 2017
    bound = min(10 * a / 8 + math.log(1e5) / (a - 1) for a in np.linspace(1.1, 64, 2000))
    assert 0.8 * bound < days["epsilon"]["epsilon"] <= bound
