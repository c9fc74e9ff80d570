"""What we ask of GitHub, held against GitHub's own description of its API.

The other tests hold requests against descriptions in our own words, which could be wrong in the same way as the code.
`.ci/tools` fetches the published one; it has 13 MB and is loaded once for each file of tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

OPENAPI = Path.home() / ".local/share/github-openapi/api.github.com.json"
OURS = ("tests/review/github.yaml", "tests/review/gh.yaml")


@pytest.fixture(scope="module")
def published() -> Path:
    path = Path(os.environ.get("GITHUB_OPENAPI") or OPENAPI)
    if not path.is_file():
        pytest.skip(f"{path} is missing: .ci/tools fetches it")
    return path


@pytest.mark.parametrize(
    ("tests", "chosen"),
    [
        ("review/test_protect.py", ""),
        # those that differ in what is asked
        ("review/test_publish.py", "posted or updated or earlier or share or hundreds or number_of_others or user"),
        ("review/test_relock.py", ""),
        ("release/test_announce.py", ""),
        ("release/test_deploy.py", ""),
        ("release/test_tag.py", ""),
        ("release/test_trace.py", "github or number"),
    ],
    ids=["protect", "publish", "relock", "announce", "deploy", "tag", "trace"],
)
def test_every_request_is_as_github_describes_it(published: Path, tests: str, chosen: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{tests}", "-k", chosen],
        cwd=ROOT,
        env={**os.environ, "GITHUB_OPENAPI": str(published)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_our_descriptions_have_the_operations_and_parameters_of_github_s(published: Path) -> None:
    theirs = json.loads(published.read_text(encoding="utf-8"))
    for name in OURS:
        ours = YAML(typ="safe").load(ROOT / name)
        for path, operations in ours["paths"].items():
            for method, operation in operations.items():
                same = theirs["paths"][path][method]
                assert operation["operationId"] == same["operationId"]
                missing = parameters(ours, operation) - parameters(theirs, same)
                assert not missing, f"{name}: {operation['operationId']} has {missing}"
                assert set(operation["responses"]) <= set(same["responses"]), operation["operationId"]
                assert ("requestBody" in operation) == ("requestBody" in same), operation["operationId"]
                unknown = properties(ours, operation) - properties(theirs, same)
                assert not unknown, f"{name}: {operation['operationId']} sends {unknown}"


def resolved(root: Any, part: Any) -> Any:
    while "$ref" in part:
        found = root
        for key in part["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        part = found
    return part


def parameters(root: Any, operation: Any) -> set[tuple[str, str]]:
    return {(each["in"], each["name"]) for each in (resolved(root, each) for each in operation.get("parameters", []))}


def properties(root: Any, operation: Any) -> set[str]:
    """What a body may hold."""
    body = resolved(root, operation.get("requestBody", {})).get("content", {}).get("application/json")
    return set(resolved(root, body["schema"])["properties"]) if body else set()
