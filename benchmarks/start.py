"""`make start` on real tables: what it guesses, whether `make` and the first review pass, and how long each takes.

Each table gets a project of its own. The first review is of a branch that changes one parameter of the estimator.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.measuring import clone, environment, progress, table, uv, verdict
from benchmarks.start_tables import PACKAGES, TABLES, Table

GOAL = 120
# the small change of the first review
SMALLER = {"C": 0.5, "alpha": 2.0, "learning_rate": 0.09}


def measure() -> str:
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        packages = installed(Path(place))
        found = [project(each, packages, Path(place)) for each in TABLES]
    slow = [each["name"] for each in found if max(each["make"][1], each["review"][1]) > GOAL]
    broken = [each["name"] for each in found if not (each["make"][0] and each["review"][0])]
    header = ["table", "rows × columns", "`make start` and `make`", "s", "first review", "s", "CPU s"]
    rows = [
        [
            *(each["name"], each["size"], "passes" if each["make"][0] else "**fails**", f"{each['make'][1]:.0f}"),
            *(each["verdict"], f"{each['review'][1]:.0f}", f"{each['make'][2] + each['review'][2]:.0f}"),
        ]
        for each in found
    ]
    guesses = [[each["name"], each["has"], *each["guesses"]] for each in found]
    passed = (
        f"{len(found) - len(broken)} of {len(found)} tables lead to a passing `make` and a first review that passes"
    )
    return "\n\n".join(
        [
            f"{passed} (goal: all: {verdict(not broken)}); each takes less than {GOAL} s (goal: {verdict(not slow)}"
            f"{': not ' + ', '.join(slow) if slow else ''}).",
            table(header, rows),
            "What `make start` guessed:",
            table(["table", "has", "task", "split", "key, left out", "estimator", "slices", "margins"], guesses),
        ]
    )


def installed(place: Path) -> Path:
    """The folder of the packages' files, in an environment of its own; their own requirements are not needed."""
    progress("start: installing the packages that hold the tables")
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, str(place / "env")], check=True)
    python = str(place / "env/bin/python")
    subprocess.run([uv(), "pip", "install", "--quiet", "--no-deps", "--python", python, *PACKAGES], check=True)
    return next((place / "env/lib").glob("python*/site-packages"))


def project(each: Table, packages: Path, place: Path) -> dict[str, Any]:
    """Start a project from a table, then review a small change."""
    progress(f"start: {each.name}")
    (place / each.name).mkdir()
    source = each.make(packages, place / each.name)
    with clone() as folder:
        chosen = {"TABLE": source, "TARGET": each.target}
        chosen["DATABASE_URL"] = f"sqlite:///{place / each.name / 'movies.db'}"
        for setting in ("user.name=A", "user.email=a@example.org"):
            subprocess.run(["git", "config", *setting.split("=")], cwd=folder, check=True)
        subprocess.run(["git", "switch", "--quiet", "--force-create", "main"], cwd=folder, check=True)
        steps = ["mlops.pipeline.start", "mlops.core.dvcfiles", "dvc repro", "mlops.review.first_gate"]
        started, seconds, cpu, said = timed(folder, steps, chosen)
        if not started:
            progress(said[-2000:])
            empty = {"size": "", "verdict": "–", "review": (False, 0.0, 0.0), "guesses": [last(said), *[""] * 5]}
            return {"name": each.name, "has": each.has, "make": (False, seconds, cpu), **empty}
        described = guesses(folder)
        commit(folder, "start")
        subprocess.run(["git", "switch", "--quiet", "--create", "change"], cwd=folder, check=True)
        for name, value in SMALLER.items():
            params = (folder / "params.yaml").read_text(encoding="utf-8")
            (folder / "params.yaml").write_text(re.sub(rf"(?m)^(    {name}): .*$", rf"\1: {value}", params))
        timed(folder, ["dvc repro"], chosen)
        commit(folder, "change")
        passed, took, more, said = timed(folder, ["mlops.review --base main"], chosen)
        report = folder / "build/review/report.json"
        outcome = "**fails**"
        if report.exists():
            rules = json.loads(report.read_text(encoding="utf-8"))["policy"]["results"]
            open_ = [rule["rule"] for rule in rules if rule["verdict"] == "inconclusive"]
            outcome = ("passes" if passed else "**fails**") + (f", {len(open_)} inconclusive" if open_ else "")
        if not passed:
            progress(said[-2000:])
    rest = {"verdict": outcome, "review": (passed, took, more), "guesses": described[1:], "size": described[0]}
    return {"name": each.name, "has": each.has, "make": (True, seconds, cpu), **rest}


def timed(folder: Path, steps: list[str], chosen: dict[str, str]) -> tuple[bool, float, float, str]:
    """Run steps in a project: whether all succeed, seconds, seconds of processors, and what the last one said."""
    start, before = time.perf_counter(), os.times()
    said, succeeded = "", True
    for step in steps:
        command = step.split() if step.startswith("dvc") else [sys.executable, "-P", "-m", *step.split()]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(folder) | chosen,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said, succeeded = done.stdout, done.returncode == 0
        if not succeeded:
            break
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return succeeded, time.perf_counter() - start, cpu, said


def commit(folder: Path, message: str) -> None:
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", message], cwd=folder, check=True)


def last(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.startswith("error")), "failed")[:100]


def guesses(folder: Path) -> list[str]:
    """The table's size, and the decisions as cells of a table."""
    yaml = YAML(typ="safe")
    params, gate = (yaml.load(folder / name) for name in ("params.yaml", "gate.yaml"))
    data, split = params["data"], params["split"]
    catalogue = json.loads((folder / "data/prepared/catalogue.json").read_text(encoding="utf-8"))
    task = data["task"] if "positive" not in data else f"classification, positive `{data['positive']}`"
    by = split.get("time") or split.get("group")
    out = data.get("drop", [])
    clean = data["clean"]
    left = [f"key {', '.join(data['key'])}"] if data["key"] else []
    left += [f"{', '.join(out[:5])}{f' and {len(out) - 5} more' if len(out) > 5 else ''}"] if out else []
    left += [name for name, there in (("rows without target", "missing_target" in clean),) if there]
    left += ["duplicates"] if "duplicates" in clean else []
    left += [f"missing: {', '.join(data['missing_values'])}"] if "missing_values" in data else []
    left += [f"{name}: {kind}" for name, kind in data.get("types", {}).items()]
    margins = [f"{rule['metric']} {rule['margin']:g}" for rule in gate["rules"] if rule["rule"] == "no_worse"]
    return [
        f"{catalogue['rows']:,} × {len(catalogue['columns']):,}",
        task,
        f"{split['method']}{f' by {by}' if by else ''}",
        "; ".join(left) or "–",
        params["model"]["estimator"].rpartition(".")[2],
        ", ".join(params["evaluate"]["slices"]) or "–",
        ", ".join(margins),
    ]
