"""The smoke test: starts a released image as production would, and compares its predictions with the evaluation's.

The container is read-only, without capabilities and with limits. An image is tested again before it is published.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import requests
from prometheus_client.parser import text_string_to_metric_families

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.data import parts, tables
from mlops.inference import contract as contracts
from mlops.inference.contract import Contract
from mlops.inference.provenance import Release
from mlops.release.builder import Builder, tool

TOKEN = "SERVICE_TOKEN"  # noqa: S105 the variable's name
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp:rw,size=256m,mode=1777,noexec,nosuid,nodev"),  # noqa: S108 in the container
    *("--cap-drop", "all", "--security-opt", "no-new-privileges", "--memory", "1g", "--pids-limit", "256"),
)
PATIENCE = 180.0
# as many test rows are asked for at most, in requests of that size, and one by one
ROWS, AT_ONCE, SINGLE = 20_000, 1_000, 200


class Running(NamedTuple):
    """A container that is ready."""

    builder: Builder
    container: str
    url: str
    token: str
    cold_start: float
    """Seconds from the command until it was ready."""

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", headers=self.headers, timeout=60)

    def predict(self, rows: list[dict[str, Any]]) -> requests.Response:
        return requests.post(f"{self.url}/predict", json={"rows": rows}, headers=self.headers, timeout=60)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


@contextmanager
def running(builder: Builder, image: str, token: str | None = None, options: Sequence[str] = ()) -> Iterator[Running]:
    """Start a container, wait until it is ready, and remove it in the end.

    Parameters
    ----------
    token : str, optional
        That it asks for; a random one by default, none where it is empty.
    options : sequence of str
        Further ones of `run`.

    Raises
    ------
    UserError
        With its last words, where it does not get ready.
    """
    token = secrets.token_hex() if token is None else token
    start = time.perf_counter()
    options = [*HARDENED, *options, "--publish", "127.0.0.1::3000", *(["--env", f"{TOKEN}={token}"] if token else [])]
    container = tool(builder, "run", "--detach", *options, image).splitlines()[-1]
    try:
        url = _ready(builder, container, start + PATIENCE)
        yield Running(builder, container, url, token, time.perf_counter() - start)
    finally:
        tool(builder, "rm", "--force", container)


def _ready(builder: Builder, container: str, deadline: float) -> str:
    """Its address, once it answers."""
    url = None
    while time.perf_counter() < deadline:
        if tool(builder, "inspect", "--format", "{{.State.Running}}", container) != "true":
            raise UserError(f"the image does not start: {last_words(builder, container)}")
        # no port is listed for a container that has just ended
        url = url or next((f"http://{at}" for at in tool(builder, "port", container, "3000/tcp").splitlines()), None)
        try:
            if url and requests.get(f"{url}/readyz", timeout=5).ok:
                return url
        except requests.RequestException:
            pass
        time.sleep(0.05)
    raise UserError(f"the image is not ready after {PATIENCE:.0f} s: {last_words(builder, container)}")


def last_words(builder: Builder, container: str) -> str:
    """Why a container does not run, from what it has printed."""
    done = subprocess.run(
        [builder, "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return cause(done.stdout)


def cause(printed: str) -> str:
    """The part of a service's output that says why it does not run."""
    lines = [line for line in printed.splitlines() if line.strip()]
    if not lines:
        return "it printed nothing"
    first = next((number for number, line in enumerate(lines) if line.startswith("error: ")), None)
    if first is not None:
        return " ".join(lines[first:])
    # the end of a traceback, before what the server says about it
    return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception): ", line)), lines[-1])


def stop(one: Running, seconds: int = 60) -> float:
    """Stop the container as an orchestrator does, and return how long it took.

    Raises
    ------
    UserError
        If it had to be killed.
    """
    start = time.perf_counter()
    tool(one.builder, "stop", "-t", str(seconds), one.container)
    code = tool(one.builder, "inspect", "--format", "{{.State.ExitCode}}", one.container)
    if code != "0":
        raise UserError(f"the image did not stop within {seconds} s of SIGTERM: exit code {code}")
    return time.perf_counter() - start


class Recorded(NamedTuple):
    """Test rows as the service takes them, and what evaluation has recorded of them."""

    rows: list[dict[str, Any]]
    predicted: list[Any]
    probabilities: np.ndarray[Any, Any] | None


def recorded(contract: Contract) -> Recorded:
    """Read the first test rows and their predictions."""
    table = parts.head(paths.TEST, [field.name for field in contract.fields], ROWS)
    known = tables.read(paths.PREDICTIONS).slice(0, ROWS)
    probabilities = None
    if contract.classes is not None and contract.probabilities:
        columns = [known[contracts.probability_column(label)].to_numpy() for label in contract.classes]
        probabilities = np.stack(columns, axis=1)
    return Recorded(json_rows(table), known["predicted"].to_pylist(), probabilities)


def json_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as a client would send them: dates as ISO 8601, null for what is missing."""

    def value(each: Any) -> Any:
        if isinstance(each, float) and not np.isfinite(each):
            return None
        return each.isoformat() if hasattr(each, "isoformat") else each

    return [{name: value(each) for name, each in row.items()} for row in table.to_pylist()]


def ask(one: Running, release: Release) -> dict[str, Any]:
    """Test a running image.

    Returns
    -------
    dict
        ``rows``, ``difference`` (the largest, as `reports/export.json` measures it), and of requests with a single
        row ``median_ms`` and ``p99_ms``.

    Raises
    ------
    UserError
        If an answer is wrong.
    """
    shown = one.get("/metadata").json()
    if shown != json.loads(release.model_dump_json()):
        different = [key for key, value in json.loads(release.model_dump_json()).items() if shown.get(key) != value]
        raise UserError(f"/metadata is not about this release: {', '.join(different)} differ")
    if one.token and requests.post(f"{one.url}/predict", json={"rows": []}, timeout=60).status_code != 401:
        raise UserError(f"the image answers requests without the token in {TOKEN}")
    contract = contracts.read()
    known = recorded(contract)
    answers: list[dict[str, Any]] = []
    for first in range(0, len(known.rows), AT_ONCE):
        answers += _answers(one.predict(known.rows[first : first + AT_ONCE]))
    found = difference(answers, known, contract)
    if not found <= release.export["tolerance"]:
        raise UserError(
            f"the image's predictions differ from the evaluation's by up to {found:.2g}; "
            f"at most {release.export['tolerance']:.2g} is allowed"
        )
    single = []
    for row in known.rows[:SINGLE]:
        start = time.perf_counter()
        _answers(one.predict([row]))
        single.append(1000 * (time.perf_counter() - start))
    counted = check_metrics(one.get("/metrics").text, release)
    if counted != len(known.rows) + len(single):
        raise UserError(f"/metrics counts {counted:.0f} rows, but {len(known.rows) + len(single)} were sent")
    median, p99 = np.percentile(single, [50, 99]) if single else (float("nan"),) * 2
    return {"rows": len(known.rows), "difference": found, "median_ms": float(median), "p99_ms": float(p99)}


def _answers(response: requests.Response) -> list[dict[str, Any]]:
    if response.status_code != 200:
        raise UserError(f"/predict answers {response.status_code} to a test row: {response.text[:300]}")
    answers: list[dict[str, Any]] = response.json()["predictions"]
    return answers


def difference(answers: list[dict[str, Any]], known: Recorded, contract: Contract) -> float:
    """The largest difference of a probability, or of a number in standard deviations; infinite with another label."""
    found = [each["prediction"] for each in answers]
    if len(found) != len(known.predicted):
        return float("inf")
    if contract.classes is None:
        expected = np.array(known.predicted, dtype=np.float64)
        spread = float(np.std(expected)) or 1.0
        return float(np.max(np.abs(expected - np.array(found)), initial=0.0)) / spread
    if found != known.predicted:
        return float("inf")
    if known.probabilities is None:
        return 0.0
    given = np.array([list(each["probabilities"].values()) for each in answers])
    return float(np.max(np.abs(given - known.probabilities), initial=0.0))


def check_metrics(text: str, release: Release) -> float:
    """Read what Prometheus reads; the number of rows that were predicted."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    versions = {sample.labels["version"] for sample in samples if sample.name == "model_info"}
    if versions != {release.version}:
        raise UserError(f"/metrics names the version {', '.join(sorted(versions)) or 'nowhere'}, not {release.version}")
    return sum(sample.value for sample in samples if sample.name == "model_rows_total")
