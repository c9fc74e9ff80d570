"""What only GitHub and MLflow know of a model: who approved it, whether the gate passed, and the run of its training.

Each answer may be missing. Then a sentence says why, and how to get it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlops.core.errors import UserError
from mlops.core.github import Api
from mlops.release.tag import MAIN, passed

NEEDED = "a token that may read actions, checks, contents and pull requests"
STORE = Path("mlflow.db")
MOST_RUNS = 5
Missing = dict[str, str]


def github(
    page: str | None, commit: str, number: int | None, environment: Mapping[str, str] = os.environ
) -> tuple[dict[str, Any], Missing]:
    """Pull request, author, approvers and the check `gate` of a commit on main, from GitHub.

    Parameters
    ----------
    page : str or None
        Address of the repository's page.
    number : int or None
        Of the pull request, where the commit's message has it.
    """
    token = environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN")
    at = urlsplit(page or "")
    here = at.netloc == urlsplit(environment.get("GITHUB_SERVER_URL", "https://github.com")).netloc
    repository = environment.get("GITHUB_REPOSITORY") or (at.path.strip("/") if here else "")
    if not token or not repository:
        what = "GITHUB_TOKEN is not set" if not token else "origin is not on GitHub, and GITHUB_REPOSITORY is not set"
        hint = f"GITHUB_TOKEN={NEEDED}" if not token else "GITHUB_REPOSITORY=owner/name"
        there = f"; or read {page}/pull/{number}" if page and number else ""
        return {}, dict.fromkeys(("approvers", "gate report"), f"{what}; set {hint}{there}")
    try:
        api = Api(environment.get("GITHUB_API_URL", "https://api.github.com"), token, timeout=5, needed=NEEDED)
    except UserError as error:
        return {}, {"GitHub": _flat(error)}
    path = f"/repos/{repository}"
    found: dict[str, Any] = {}
    missing: Missing = {}
    try:
        found |= reviewed(api, path, commit, number)
    except UserError as error:
        missing["approvers"] = _flat(error)
    try:
        gate = passed(api, path, commit)
        found["gate"] = {"verdict": "passed", "commit": gate["head"], "url": gate["url"]}
    except UserError as error:
        missing["gate report"] = str(error).splitlines()[0]  # what follows is advice for a release
    return found, missing


def reviewed(api: Api, path: str, commit: str, number: int | None) -> dict[str, Any]:
    """The pull request that was merged as a commit, its author, and those whose last review approves it."""
    if number is None:
        pulls = api.pages(f"{path}/commits/{commit}/pulls")
        numbers = [each["number"] for each in pulls if each["merged_at"] and each["base"]["ref"] == MAIN]
        if not numbers:
            raise UserError(f"GitHub knows no pull request that was merged as {commit[:10]}")
        number = int(numbers[0])
    pull = api.get(f"{path}/pulls/{number}")
    states = {}
    for review in api.pages(f"{path}/pulls/{number}/reviews"):
        if review["state"] in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            states[_login(review)] = review["state"]
    return {
        "pull_request": number,
        "url": str(pull["html_url"]),
        "author": _login(pull),
        "approvers": [login for login, state in states.items() if state == "APPROVED"],
    }


def _login(each: dict[str, Any]) -> str:
    return str((each.get("user") or {}).get("login", "a deleted account"))


def _flat(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines())


def runs(model_md5: str, environment: Mapping[str, str] = os.environ) -> tuple[list[dict[str, str]], Missing]:
    """The MLflow runs that recorded a model, newest first; their tag `commit` is what was checked out then."""
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    if not uri and not STORE.is_file():
        return [], {"MLflow run": f"there is no {STORE} here; set MLFLOW_TRACKING_URI=address of the MLflow server"}
    credentials = urlsplit(uri).netloc.rpartition("@")[0]
    where = uri.replace(f"{credentials}@", "") if credentials else uri or f"sqlite:///{STORE}"
    from mlops.model import tracking  # noqa: F401  sets environment variables that MLflow reads when it is imported
    import mlflow  # isort: skip
    import sqlalchemy.exc  # isort: skip

    try:
        client = mlflow.MlflowClient()
        found = client.search_runs(
            [each.experiment_id for each in client.search_experiments()],
            filter_string=f"tags.`model.md5` = '{model_md5}'",
            max_results=MOST_RUNS,
            order_by=["attributes.start_time DESC"],
        )
    except (mlflow.exceptions.MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        problem = problem.replace(f"{credentials}@", "") if credentials else problem
        return [], {"MLflow run": f"{where} cannot be read: {problem[:200]}; check MLFLOW_TRACKING_URI"}
    if not found:
        return [], {"MLflow run": f"{where} has none of this model; set MLFLOW_TRACKING_URI=where it was trained"}
    return [
        {"id": run.info.run_id, "store": where, "status": run.info.status, "commit": run.data.tags.get("commit", "")}
        for run in found
    ], {}
