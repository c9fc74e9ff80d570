"""The rollout of one machine for real: two services behind the HAProxy of `deploy/`, clients, a log and its labels."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from manifests import DEPLOY, tool
from running import PATIENCE, Clients, free_port, get, process, wait_for
from test_rollout import example, released

from mlops.core.errors import UserError
from mlops.release import rollout
from mlops.release.rollout import Traffic, compared

OTHER = {"benign": "malignant", "malignant": "benign"}
# starts a service of a project, and stops it, by the number of its process
SCRIPT = """#!/bin/sh
set -eu
begin() {{
  cd "$1"
  mkdir -p "{folder}/$2"
  BENTOML_HOME="{folder}/$2" PREDICTION_LOG="{folder}/log" setsid "{python}" -m mlops.serving.start \\
    mlops.serving.service:Service --host 127.0.0.1 --port "$3" >"{folder}/$2.log" 2>&1 </dev/null &
  echo $! >"{folder}/$2.pid"
  for _ in $(seq {patience}); do
    "{python}" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$3/readyz')" 2>/dev/null && return
    sleep 1
  done
  exit 1
}}
end() {{
  kill "$(cat "{folder}/$1.pid")"
  while kill -0 "$(cat "{folder}/$1.pid")" 2>/dev/null; do sleep 0.1; done
}}
case $1 in
  first) begin "{old}" model {model} ;;
  start) begin "{new}" canary {canary} ;;
  replace)
    end model
    begin "{new}" model {model}
    ;;
  stop) end canary ;;
  end) end model ;;
esac
"""


class Machine:
    """Both services, the proxy before them, and what turns out to be true of each prediction."""

    def __init__(self, project: Project, old: Project, folder: Path) -> None:
        self.project, self.folder = project, folder
        self.model, self.canary, self.front = (free_port() for _ in range(3))
        self.script = folder / "rollout.sh"
        (folder / "log").mkdir()
        text = SCRIPT.format(
            folder=folder,
            python=sys.executable,
            patience=PATIENCE,
            old=old.folder,
            new=project.folder,
            model=self.model,
            canary=self.canary,
        )
        self.script.write_text(text, encoding="utf-8")

    def run(self, step: str) -> None:
        environment = {**self.project.environment, "BENTOML_DO_NOT_TRACK": "true"}
        environment.pop("SERVICE_TOKEN", None)
        subprocess.run(["/bin/sh", str(self.script), step], check=True, env=environment)

    @contextlib.contextmanager
    def proxy(self) -> Iterator[None]:
        text = (DEPLOY / "rollout/haproxy.cfg").read_text(encoding="utf-8")
        for port, here in ((3080, self.front), (3000, self.model), (3002, self.canary)):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{here}")
        # half of the requests, so that the test is short
        text = text.replace("weight 90", "weight 50").replace("weight 10", "weight 50")
        (self.folder / "haproxy.cfg").write_text(text, encoding="utf-8")
        with process([tool("haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")], self.folder / "haproxy.log"):
            wait_for("the proxy answers", lambda: get(f"http://127.0.0.1:{self.front}/readyz"))
            yield

    def logged(self) -> list[dict[str, Any]]:
        lines = [line for path in (self.folder / "log").glob("*.jsonl") for line in path.read_text().splitlines(True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def label(self, right: Callable[[str, int], bool], share: float) -> None:
        """Write the labels of a share of all rows."""
        partial = self.project.folder / "labels.partial"
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["request_id", "diagnosis", "known_at", "revenue"])
            for number, row in enumerate(self.logged()):
                if number % 100 < 100 * share:
                    truth = row["prediction"] if right(row["version"], number) else OTHER[row["prediction"]]
                    writer.writerow([row["request_id"], truth, row["time"], 10 + number % 3])
        partial.rename(self.project.folder / "labels.csv")

    def roll(self, right: Callable[[str, int], bool], share: float, *options: str) -> tuple[int, str]:
        """`make rollout`, while labels arrive; its exit code, and what it says."""
        done = threading.Event()

        def arrive() -> None:
            while not done.wait(1):
                self.label(right, share)

        self.label(right, share)
        arriving = threading.Thread(target=arrive)
        arriving.start()
        addresses = [f"--model=http://127.0.0.1:{self.model}", f"--canary=http://127.0.0.1:{self.canary}"]
        command = [sys.executable, "-m", "mlops.release.rollout", str(self.script), *addresses, "--every=1"]
        command += ["--minutes=0.1", "--log", str(self.folder / "log"), *options]
        try:
            found = self.project.run(*command, check=False)
        finally:
            done.set()
            arriving.join()
        return found.returncode, found.stdout

    def versions(self) -> tuple[str | None, str | None]:
        """Which version each port serves."""
        found = []
        for port in (self.model, self.canary):
            text = get(f"http://127.0.0.1:{port}/metrics")
            version = text and re.search(r'model_info\{.*version="([^"]*)"', text.decode())
            found.append(version[1] if version else None)
        return found[0], found[1]


@pytest.fixture
def machine(done: Project, tmp_path: Path) -> Iterator[Machine]:
    old, new = released(done, tmp_path / "old", "1.0.0"), released(done, tmp_path / "new", "2.0.0")
    labels = {
        "source": "labels.csv",
        "time": "known_at",
        "figures": {"revenue": {"better": "higher", "range": [0, 20]}},
    }
    new.edit_params(lambda params: params.update(monitor={"labels": labels}))
    found = Machine(new, old, tmp_path)
    found.run("first")
    try:
        yield found
    finally:
        for step in ("stop", "end"):
            with contextlib.suppress(subprocess.CalledProcessError):
                found.run(step)


def test_a_rollout_obeys_the_outcome_and_says_where_only_health_was_judged(machine: Machine) -> None:
    with (
        machine.proxy(),
        Clients(f"http://127.0.0.1:{machine.front}/predict", example(machine.model), number=4) as clients,
    ):
        names = ("--metrics", "accuracy", "revenue")
        # half of the canary's decisions are wrong
        code, said = machine.roll(lambda version, number: version == "1.0.0" or number % 2 == 0, 1.0, *names)
        assert (code, "abort, by outcome" in said) == (1, True), said
        assert machine.versions() == ("1.0.0", None)

        # equal, but a margin that takes many thousand labels
        code, said = machine.roll(
            lambda _, number: number % 10 > 0, 1.0, *names, "--margin", "0.001", "--hours", "0.003"
        )
        assert (code, bool(re.search(r"not yet, about [\d,]+ labels more; both versions keep serving", said))) == (
            2,
            True,
        ), said
        assert machine.versions() == ("1.0.0", "2.0.0")

        # the next call goes on with the canary that is there
        code, said = machine.roll(lambda *_: True, 1.0, *names, "--margin", "0.2")
        assert (code, "promote, by outcome" in said, "rollout.sh start" in said) == (0, True, False), said
        assert machine.versions() == ("2.0.0", None)

        # nobody's request failed
        assert [answer for answer in clients.answers if answer.status != 200] == []
        assert {answer.version for answer in clients.answers} == {"1.0.0", "2.0.0"}

        # labels are late
        machine.run("end")
        machine.run("first")
        code, said = machine.roll(lambda *_: True, 0.01, *names, "--hours", "0.003")
        assert (code, "few labels have arrived, so only technical health was judged" in said) == (0, True), said
        assert machine.versions() == ("2.0.0", None)


def test_the_canary_serves_on_where_the_replaced_model_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "READY_SECONDS", 0)
    with pytest.raises(UserError, match=r"does not answer 0 s after it was replaced, so the canary keeps serving"):
        rollout.wait_for_proxy(f"http://127.0.0.1:{free_port()}")


def test_the_canary_serves_until_the_replaced_model_answers_and_the_proxy_has_seen_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollout, "PROXY_SECONDS", 1)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    began = time.monotonic()

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    def come_back() -> None:
        with ThreadingHTTPServer(("127.0.0.1", port), Ready) as server:
            server.timeout = PATIENCE
            server.handle_request()

    starting = threading.Timer(1.5, come_back)
    starting.start()
    rollout.wait_for_proxy(f"http://127.0.0.1:{port}")
    starting.join()
    assert time.monotonic() - began >= 2.5


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (Traffic({"200": 990, "500": 10}, {0.01: 990, 0.1: 1000}), []),
        (Traffic({"200": 980, "500": 20}, {0.01: 990, 0.1: 1000}), ["the canary fails 2.0%"]),
        (Traffic({"200": 900, "422": 100}, {0.01: 990, 0.1: 1000}), ["the canary refuses 10.0%"]),
        (Traffic({"200": 1000}, {0.01: 900, 0.1: 980, 0.5: 1000}), ["1 % of the canary's requests take up to 0.5 s"]),
    ],
    ids=["alike", "errors", "refused", "slow"],
)
def test_a_canary_whose_health_is_worse_is_named_with_what_is_worse(new: Traffic, said: list[str]) -> None:
    found = compared(Traffic({"200": 9000}, {0.01: 8950, 0.1: 9000}), new)
    assert [each.startswith(start) for each, start in zip(found, said, strict=True)] == [True] * len(said)
