"""`make simulate CHANGE=concept`: play weeks of production on this machine, from one release to the next.

In a clone of the project, the pipeline trains on three fifths of the table and the model is released. The real service
predicts rows of the other two fifths, day by day, with a change from the 15th day on. Labels arrive late and in part.
The monitor looks every day; an alarm becomes an issue and a retraining, its review and the next release. Only the
calendar is played: the times in the log are moved to the day that is simulated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import requests
from ruamel.yaml import YAML

from mlops.core.errors import UserError, errors_in_words
from mlops.core.yamlfile import closest
from mlops.monitoring import findings, issue
from mlops.monitoring.findings import Findings

ROOT = Path(__file__).parents[1]
START = datetime(2026, 1, 1, tzinfo=UTC)
BEGINS, LASTS, AFTER = 14, 34, 10  # days: until the change, at most, and after the next release
PATIENCE = 8  # days after an alarm in which labels from after the change arrive
REPAIRED = 7  # days after which a client sends what it should again
REQUESTS, ROWS = 5, 20  # a day, and of a request
LABELLED, DELAY = 0.7, 2.0  # share of the rows, and mean days until a label arrives
SLOW = 14  # days in which a slow change arrives
TARGET, POSITIVE = "diagnosis", "malignant"
# `make monitor` in one process for all days, because its imports take longer than a day; it is sent the days
MONITOR = """
import contextlib, io, sys
from mlops.core.errors import errors_in_words
from mlops.monitoring.__main__ import main
with errors_in_words():
    for day in sys.stdin:
        sys.argv[2:] = ["--until", day.strip()]
        with contextlib.redirect_stdout(io.StringIO()):
            main()
        print("looked", flush=True)
"""
Table = pd.DataFrame
Day = tuple[Table, "pd.Series[str]"]


def seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def covariate(rows: Table, share: float, rng: np.random.Generator) -> Table:
    """Larger tumours are sent more often."""
    weights = 1 + share * 9 * (rows["mean radius"].rank(pct=True) > 0.7)
    return rows.sample(len(rows), replace=True, weights=weights, random_state=seed(rng))


def labels(rows: Table, share: float, rng: np.random.Generator) -> Table:
    """More tumours are malignant."""
    weights = 1 + share * 3 * (rows[TARGET] == POSITIVE)
    return rows.sample(len(rows), replace=True, weights=weights, random_state=seed(rng))


def unit(rows: Table, share: float, rng: np.random.Generator) -> Table:
    """A client sends a column in centimetres instead of millimetres."""
    wrong = rng.random(len(rows)) < share
    return rows.assign(**{"worst radius": rows["worst radius"].where(~wrong, rows["worst radius"] / 10)})


def missing(rows: Table, share: float, rng: np.random.Generator) -> Table:
    """A client no longer sends a column; the service refuses the whole request."""
    gone = rng.random() < share
    return rows.assign(**{"worst texture": None}) if gone else rows


def concept(rows: Table, share: float, rng: np.random.Generator) -> Table:
    """A new definition: the larger ones of the benign tumours count as malignant."""
    benign = rows[TARGET] != POSITIVE
    renamed = benign & (rows["mean radius"] > 12) & (rng.random(len(rows)) < share)
    return rows.assign(**{TARGET: rows[TARGET].where(~renamed, POSITIVE)})


CHANGES: dict[str, Callable[[Table, float, np.random.Generator], Table]] = {
    "none": lambda rows, _share, _rng: rows,
    **{each.__name__: each for each in (covariate, labels, unit, missing, concept)},
}


class Production:
    """The project that is played with, and what its production has seen."""

    def __init__(self, folder: Path, change: str, slow: bool) -> None:
        self.folder, self.change, self.slow = folder, CHANGES[change], slow
        self.log, self.raw = folder / "build/production/log", folder / "build/production/raw"
        self.rng = np.random.default_rng(0)
        self.labels: list[dict[str, Any]] = []
        self.rows = self.refused = 0

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder / "src"), "PYTHONSAFEPATH": "1"}

    def run(self, *command: str, check: bool = True, quiet: bool = True) -> int:
        """Run a program in the project; its output is shown where it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=quiet, text=True, check=False
        )
        if check and done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.returncode

    def module(self, name: str, *arguments: str, check: bool = True) -> int:
        return self.run(sys.executable, "-m", name, *arguments, check=check)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        if not self.run("git", "diff", "--cached", "--quiet", check=False):
            return
        self.run("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "-m", message)

    def create(self) -> Table:
        """Clone the project, train on some rows, and return the others."""
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.folder)], check=True)
        self.run("git", "switch", "--quiet", "--force-create", "main")
        self.run("git", "remote", "remove", "origin")
        table = pd.read_parquet(ROOT / "data/prepared/table.parquet").sample(frac=1, random_state=1)
        known = table[: 3 * len(table) // 5]
        (self.folder / "data/raw").mkdir(parents=True, exist_ok=True)
        known.to_csv(self.folder / "data/raw/known.csv", index=False)
        yaml = YAML()
        params = yaml.load(self.folder / "params.yaml")
        params["data"]["source"] = "data/raw/known.csv"
        source = "build/production/labels.csv"
        params["monitor"] = {
            "labels": {"source": source, "row": "row", "time": "known_at"},
            # after a change of the definition, old rows teach the old one
            "retrain": {"when": "alarm", "most_new_share": 0.9},
        }
        yaml.dump(params, self.folder / "params.yaml")
        suite = self.folder / params["validate"]["suite"]
        suite.write_text(suite.read_text(encoding="utf-8").replace('"min_value": 500', '"min_value": 300'), "utf-8")
        self.release("Start", "v1.0.0")
        return table[len(known) :]

    def release(self, message: str, tag: str) -> None:
        self.run("dvc", "repro")
        self.commit(message)
        self.run("git", "tag", "--force", tag)
        self.module("mlops.release.identity")

    @contextmanager
    def service(self) -> Iterator[str]:
        """The service of what is checked out; its address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **self.environment,
            "PREDICTION_LOG": str(self.raw),
            "BENTOML_HOME": str(self.folder / "build/bentoml"),
            "BENTOML_DO_NOT_TRACK": "true",
        }
        command = [sys.executable, "-m", "mlops.serving.start", "mlops.serving.service:Service"]
        with (self.folder / "build/service.log").open("ab") as output:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=output,
            )
        address = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + 120
            while not ready(address):
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit(f"the service did not start: {self.folder / 'build/service.log'}")
                time.sleep(0.2)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def share(self, number: int) -> float:
        """How far the change has come on a day: from 0 to 1."""
        if self.change in (unit, missing) and number >= BEGINS + REPAIRED:
            return 0.0
        return min(1.0, max(0, number - BEGINS + 1) / SLOW) if self.slow else float(number >= BEGINS)

    def day(self, number: int, held_back: Table, address: str) -> None:
        """Send the requests of a day; their labels become known later."""
        share = self.share(number)
        asked = [column for column in held_back.columns if column != TARGET]
        for hour in range(REQUESTS):
            rows = held_back.sample(ROWS, replace=True, random_state=seed(self.rng))
            noise = 1 + 0.02 * self.rng.normal(size=(ROWS, 1))
            rows = pd.concat([rows[asked] * noise, rows[[TARGET]]], axis=1).reset_index(drop=True)
            if share > 0:
                rows = self.change(rows, share, self.rng).reset_index(drop=True)
            request_id, moment = f"day{number}-{hour}", START + timedelta(days=number, hours=8 + hour)
            body = json.dumps({"rows": json.loads(rows[asked].to_json(orient="records"))})
            headers = {"Content-Type": "application/json", "X-Request-ID": request_id}
            answer = requests.post(f"{address}/predict", data=body, headers=headers, timeout=60)
            if answer.status_code == 422:
                self.refused += 1
                continue
            answer.raise_for_status()
            self.rows += ROWS
            for row in np.flatnonzero(self.rng.random(ROWS) < LABELLED):
                known_at = moment + timedelta(days=float(self.rng.exponential(DELAY)))
                label = {"request_id": request_id, "row": int(row), TARGET: rows[TARGET][row]}
                self.labels.append({**label, "known_at": known_at.isoformat()})
        self.collect(number)

    def collect(self, number: int) -> None:
        """Move the lines of a day to the day that is simulated."""
        until = time.monotonic() + 60
        while len(lines := self.lines(number)) < self.rows - self.logged():
            if time.monotonic() > until:
                sys.exit("the service has not logged what it predicted")
            time.sleep(0.1)
        self.log.mkdir(parents=True, exist_ok=True)
        moment = START + timedelta(days=number)
        content = "".join(
            json.dumps({**line, "time": f"{moment:%Y-%m-%d}{line['time'][10:]}"}) + "\n" for line in lines
        )
        (self.log / f"{moment:%Y%m%dT%H%M%SZ}-{number:012x}.jsonl.gz").write_bytes(gzip.compress(content.encode()))

    def logged(self) -> int:
        return sum(len(gzip.decompress(path.read_bytes()).splitlines()) for path in self.log.glob("*.gz"))

    def lines(self, number: int) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self.raw.glob("*.jsonl*")) if self.raw.is_dir() else ():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            complete = content[: content.rfind(b"\n") + 1].splitlines()
            found += [line for line in map(json.loads, complete) if line["request_id"].startswith(f"day{number}-")]
        return found

    @contextmanager
    def monitoring(self) -> Iterator[Callable[[int], Findings]]:
        """What `make monitor` finds on the evening of a day."""
        command = [sys.executable, "-c", MONITOR, str(self.log)]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:

            def monitor(number: int) -> Findings:
                today, day = (f"{START + timedelta(days=number + later):%Y-%m-%d}" for later in (1, 0))
                arrived = pd.DataFrame(self.labels, columns=["request_id", "row", TARGET, "known_at"])
                arrived = arrived[arrived["known_at"] < today]
                arrived.to_csv(self.folder / "build/production/labels.csv", index=False)
                print(day, file=process.stdin, flush=True)
                if not process.stdout.readline():
                    sys.exit("the monitor failed")  # and has said why
                return findings.read(self.folder / findings.REPORT)

            yield monitor

    def keep(self, name: str, *paths: str) -> None:
        """Copy a page or text to where it can be looked at."""
        for path in paths:
            shutil.copy(self.folder / path, self.folder / f"build/simulation/{name}{Path(path).suffix}")


def ready(address: str) -> bool:
    try:
        return requests.get(f"{address}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


def play(production: Production) -> None:
    """From the first release to an alarm and, where it is retrained, to the days after the next release."""
    held_back = production.create()
    (production.folder / "build/simulation").mkdir(parents=True, exist_ok=True)
    print(f"v1.0.0 is released; {len(held_back)} rows are held back for production", flush=True)
    last, alarmed, seen = LASTS, LASTS, set[str]()
    with production.service() as address, production.monitoring() as monitor:
        for number in range(LASTS):
            production.day(number, held_back, address)
            found = monitor(number) if production.rows else None
            show(number, found, production)
            if found is not None and found.state in issue.TITLES and found.state not in seen:
                seen.add(found.state)
                alarmed = number
                report(production, found)
            if "alarm" in seen and number == alarmed + PATIENCE:
                last = number
                break
    production.keep("v1.0.0", "build/monitor/report.html")
    if "alarm" not in seen:
        print("no alarm")
        return
    if retrain(production):
        with production.service() as address, production.monitoring() as monitor:
            for number in range(last + 1, last + 1 + AFTER):
                production.day(number, held_back, address)
                show(number, monitor(number), production)
        production.keep("v1.1.0", "build/monitor/report.html")


def report(production: Production, found: Findings) -> None:
    """What the workflow does: one issue."""
    text = issue.body(found, "https://github.com/ada/model/actions/runs/1")
    (production.folder / f"build/simulation/issue-{found.state}.md").write_text(text, encoding="utf-8")
    production.keep(found.state, "build/monitor/report.html")
    print(f"        an issue is opened: issue-{found.state}.md, {found.state}.html", flush=True)


def show(number: int, found: Findings | None, production: Production) -> None:
    """One line for a day."""
    state = "no row was predicted" if found is None else f"{found.labels.rows:>5,} labels  {found.headline}"
    change = "changed" if production.share(number) and production.change is not CHANGES["none"] else ""
    refused = f", {production.refused} requests refused" if production.refused else ""
    print(
        f"{START + timedelta(days=number):%d %b}  {change:<8}{production.rows:>6,} rows  {state}{refused}", flush=True
    )


def retrain(production: Production) -> bool:
    """Retrain, review and release; whether a new model runs."""
    code = production.module("mlops.monitoring.retrain", str(production.log), check=False)
    production.keep("retraining", "build/monitor/retrain/retrain.md")
    if code:
        print("the new rows are broken, so nothing is trained on them: retraining.md says which")
        return False
    branch = next(
        iter(
            subprocess.run(
                ["git", "for-each-ref", "--format=%(refname:short)", "refs/heads/retrain"],
                cwd=production.folder,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
        )
    )
    production.run("git", "switch", "--quiet", branch)
    production.run("dvc", "repro")
    production.commit("Run the pipeline")
    production.module("mlops.review", "--base", "main", check=False)
    production.keep("comment", "build/review/comment.md")
    review = json.loads((production.folder / "build/review/report.json").read_text(encoding="utf-8"))
    blocking = [f"{each['rule']} {each['subject']}" for each in review["policy"]["results"] if each["blocks"]]
    print(
        f"{branch} is reviewed: comment.md; " + (f"the gate blocks: {', '.join(blocking)}" if blocking else "it passes")
    )
    if blocking:
        print("  its test rows are from before the change: a person waives these rules, with the reason")
    production.run("git", "switch", "--quiet", "main")
    production.run("git", "merge", "--quiet", "--ff-only", branch)
    production.release("Retrain", "v1.1.0")
    print("merged, and v1.1.0 is released", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("change", help=", ".join(CHANGES))
    parser.add_argument("--slow", action="store_true", help=f"the change arrives in {SLOW} days")
    given = parser.parse_args()
    if given.change not in CHANGES:
        hint = closest(given.change, list(CHANGES))
        raise UserError(f"there is no change {given.change!r}{hint}", f"CHANGE={' | '.join(CHANGES)}")
    production = Production(ROOT / "build/simulate" / given.change, given.change, given.slow)
    play(production)
    print(f"all of it is in {(production.folder / 'build/simulation').relative_to(ROOT)}")


if __name__ == "__main__":
    with errors_in_words():
        main()
