"""The behaviour tests of a change, `tests/behaviour/`: run with pytest in a process with a time limit.

The change's own tests are run. A test that the base branch has, or that this change defines, and that did not run is
listed, so that no test disappears unnoticed.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlops.core.git import git, show
from mlops.core.report import Behaviour, FailedTest, NotRun, Value, shortened
from mlops.review.policy import Gate
from mlops.review.rules.behaviour import Behaviour as BehaviourRule

FOLDER = Path("tests/behaviour")
MOST = 20
SECONDS = 300.0
# Plugins of packages that are here for something else; they take two seconds to import
NEEDLESS = ("schemathesis", "hydra_pytest")
# pytest's own exit codes: all passed, some failed, none collected
ORDERLY = (0, 1, 5)


def run(base: str, seconds: float) -> Behaviour:
    """Run the behaviour tests of this change.

    Parameters
    ----------
    base : str
        Commit of the base branch, whose tests should still be there.
    seconds : float
        Time limit for all tests together.
    """
    before, here = defined_in(base), defined_here()
    if not here:
        return summarise([], before, here, seconds)
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.jsonl"
        code = _pytest(record, seconds)
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    events = [json.loads(line) for line in lines]
    if code is not None and (not events or events[-1].get("code") not in ORDERLY):
        events.append({"event": "stopped", "code": code})
    return summarise(events, before, here, seconds)


def time_limit(gate: Gate) -> float:
    """Seconds that the gate's rule allows for all behaviour tests together."""
    return next((rule.seconds for rule in gate.rules if isinstance(rule, BehaviourRule)), SECONDS)


def _pytest(record: Path, seconds: float) -> int | None:
    """Run pytest and return its exit code, or None where it took too long."""
    command = [sys.executable, "-P", "-m", "pytest", str(FOLDER), f"--confcutdir={FOLDER}", "-q", "-o", "addopts="]
    plugins = ["-p", "mlops.review.recorder", f"--record={record}", "-p", "no:cacheprovider"]
    # a file that cannot be imported does not keep the others from running
    plugins.append("--continue-on-collection-errors")
    plugins += [option for name in NEEDLESS for option in ("-p", f"no:{name}")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    process = subprocess.Popen([*command, *plugins], stdout=sys.stderr, env=environment, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            # a test may have started processes
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def summarise(events: list[dict[str, Any]], before: list[str], here: list[str], seconds: float) -> Behaviour:
    """Summarise what pytest recorded.

    Parameters
    ----------
    events : list of dict
        Lines of the recorder, and ``stopped`` where pytest did not end in order.
    before, here : list of str
        Names of the tests that the base branch and this change define.
    """
    failed: dict[str, FailedTest] = {}
    skipped: dict[str, NotRun] = {}
    passed: set[str] = set()
    running = ""
    for event in events:
        name = str(event.get("name", "")).removeprefix(f"{FOLDER}/")
        match event["event"]:
            case "started":
                running = name
            case "failed":
                failed.setdefault(name, _failed(name, event))
            case "skipped":
                skipped[name] = NotRun(name=shortened(name), reason="skipped", why=shortened(event["why"]))
            case "passed":
                passed.add(name)
        if event["event"] in ("failed", "skipped", "passed"):
            running = ""
    ending = events[-1] if events else {"event": "none"}
    if here and ending["event"] != "ended":
        why = f"did not finish within {seconds:g} s"
        if ending["event"] == "stopped":
            why = f"pytest stopped with exit code {ending['code']}; the log has its output"
        failed[running] = FailedTest(name=shortened(running or FOLDER), why=why)
    passed -= {*failed, *skipped}
    not_run = [*skipped.values(), *absent(before, here, {*passed, *failed, *skipped})]
    return Behaviour(
        passed=len(passed),
        failures=len(failed),
        failed=list(failed.values())[:MOST],
        not_run=not_run[:MOST],
        left_out=max(0, len(not_run) - MOST),
    )


def _failed(name: str, event: dict[str, Any]) -> FailedTest:
    example = event.get("example") or {"rows": None, "row": {}, "left_out": 0}
    why = event["why"].removeprefix("AssertionError: ")
    if example["row"] and why.startswith("assert "):
        why = ""  # the rows say more than the expression
    row = [Value(column=shortened(column), value=shortened(value)) for column, value in example["row"].items()]
    return FailedTest(
        name=shortened(name), why=shortened(why), rows=example["rows"], row=row[:MOST], left_out=example["left_out"]
    )


def absent(before: list[str], here: list[str], seen: set[str]) -> Iterable[NotRun]:
    """Tests that the base branch defines and this change does not, and those of this change that did not run."""
    removed = Counter(name.partition("::")[2] for name in before)
    removed.subtract(name.partition("::")[2] for name in here)
    for name in before:
        test = name.partition("::")[2]
        if removed[test] > 0 and name not in here:
            removed[test] -= 1
            yield NotRun(name=shortened(name), reason="removed", why="")
    # a file that could not be collected, or was skipped, stands for its tests
    seen = {name.partition("[")[0] for name in seen}
    for name in here:
        if name not in seen and name.partition("::")[0] not in seen:
            yield NotRun(name=shortened(name), reason="deselected", why="")


def defined_in(commit: str) -> list[str]:
    """Names of the tests that a commit defines, as ``file.py::test`` or ``file.py::Class::test``."""
    listed = git("ls-tree", "-r", "-z", "--name-only", commit, "--", str(FOLDER)).split("\0")
    paths = [Path(name) for name in listed if name]
    return [name for path in paths for name in _names(path, show(commit, path) or b"")]


def defined_here() -> list[str]:
    """The same for the files of this folder."""
    return [name for path in sorted(FOLDER.rglob("*.py")) for name in _names(path, path.read_bytes())]


def _names(path: Path, source: bytes) -> Iterable[str]:
    if not (path.name.startswith("test_") or path.name.endswith("_test.py")):
        return
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError):
        yield path.relative_to(FOLDER).as_posix()  # pytest says what is wrong with it
        return
    for node in module.body:
        inner = node.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test") else [node]
        owner = [node.name] if isinstance(node, ast.ClassDef) else []
        for each in inner:
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test"):
                yield "::".join([path.relative_to(FOLDER).as_posix(), *owner, each.name])
