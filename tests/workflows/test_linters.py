"""What others know about workflows: actionlint, zizmor, shellcheck, and the schemas of GitHub and GitLab."""

from __future__ import annotations

import subprocess

import pytest
from conftest import ROOT
from machine import tool

FORMS = sorted(str(path) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
WORKFLOWS = sorted(str(path) for path in (ROOT / ".github/workflows").iterdir())


def run(*command: str) -> None:
    done = subprocess.run(
        [tool(command[0]), *command[1:]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_nothing() -> None:
    run("actionlint", "-shellcheck", tool("shellcheck"))


def test_zizmor_finds_nothing() -> None:
    run("zizmor", "--offline", "--no-progress", "--persona=auditor", "--strict-collection", ".github")


def test_shellcheck_finds_nothing() -> None:
    scripts = [str(path) for path in (ROOT / ".ci").iterdir() if path.read_bytes().startswith(b"#!/usr/bin/env bash")]
    assert scripts
    run("shellcheck", *scripts)


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("dependabot", [".github/dependabot.yml"]),
        ("github-issue-forms", FORMS),
        ("github-issue-config", [".github/ISSUE_TEMPLATE/config.yml"]),
        ("gitlab-ci", [".gitlab-ci.yml"]),
    ],
)
def test_files_are_as_their_schema_asks(schema: str, files: list[str]) -> None:
    transform = ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *transform, *files)
