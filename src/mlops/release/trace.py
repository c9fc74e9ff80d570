"""`make trace ID=…`: from a request, version, image, model or commit to the people, parameters and data behind it.

Git answers most of it, without a network. The rest is asked of GitHub and MLflow. One line each says what could not be
reached, and how to get it. With LOG, the ID is a request's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlops.core import paths
from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.git import git
from mlops.core.letters import visible
from mlops.core.markdown import one_line
from mlops.core.settings import PARAMS, Settings
from mlops.monitoring.log import WholeLine
from mlops.release import lineage, outside
from mlops.release.lineage import MODEL, Commit
from mlops.release.lookup import MOST_FOUND, Repository, Target, requests
from mlops.release.tag import MAIN

MOST_ROWS = 20
MOST_LETTERS = 300
MOST_LINE = 2000


def main(environment: Mapping[str, str] = os.environ) -> None:
    text, folder = environment.get("ID", "").strip(), environment.get("LOG", "")
    shape = environment.get("FORMAT") or "text"
    if not text or len(text) > MOST_LETTERS:
        what = "ID is not set" if not text else f"ID has {len(text):,} letters; at most {MOST_LETTERS} are searched for"
        raise UserError(what, "make trace ID=v1.0.0, or ID=request LOG=folder")
    if shape not in ("text", "json"):
        raise UserError(f"FORMAT must be text or json, got {one_line(shape, 40)!r}")
    repository = Repository()
    found: dict[str, Any] = {"id": text}
    if folder:
        rows, count, damaged = requests(Path(folder), text)
        if not rows:
            also = f" ({counted(len(damaged), 'damaged file')})" if damaged else ""
            hint = "the folder that held the log at that time; of a version, digest, model or commit: without LOG"
            raise UserError(f"{one_line(folder, 200)} has no request {one_line(text, 80)!r}{also}", hint)
        found |= {"rows": [row(each) for each in rows], "row_count": count, "damaged_files": damaged}
        releases = dict.fromkeys((each.version, each.model) for each in rows)
        found["traces"] = [of_row(repository, *release, environment) for release in releases]
    else:
        found["traces"] = [trace(repository, repository.find(text), environment)]
    if shape == "json":
        json.dump(found, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        print("\n".join(shown(line) for line in in_lines(found)))


def row(line: WholeLine) -> dict[str, Any]:
    """A row of the log, as the log has it."""
    return {key: getattr(line, key) for key in line.__struct_fields__}


def of_row(repository: Repository, version: str, model: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Trace what the log says of a row: its version, or its model where the version names no commit of this clone."""
    try:
        target = repository.find(version) if version else repository.find(model)
    except UserError as error:
        try:
            target = repository.find(model)
        except UserError:
            return {"missing": {"release": f"the log names version {version}: {' '.join(str(error).split())}"}}
    found = trace(repository, target, environment)
    if found.get("model") != model:
        what = f"the log names the model {model}, which is not the one in dvc.lock at that commit"
        found["missing"] = {"model": f"{what}; it was served from a changed working tree"} | found["missing"]
    elif version.endswith("-dirty"):
        what = "the service ran from a working tree with changes that were not committed"
        found["missing"] = {"changes": what} | found["missing"]
    return found


def trace(repository: Repository, target: Target, environment: Mapping[str, str]) -> dict[str, Any]:
    """All that is known of what an ID names."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if target.digest:
        found["image"] = target.digest
    if target.commit is None:
        named = f"the tag {target.tag}, which this clone lacks" if target.tag else "no version"
        missing["release"] = f"the commit that deployed the image names {named}; git fetch origin --tags"
        return found | {"missing": missing}
    commit = lineage.described([target.commit])[target.commit]
    lock = lineage.models([commit])[0]
    model = lock.get(MODEL)
    found["commit"] = of_commit(commit)
    same = [tag.name for tag, md5 in repository.tagged if tag.commit == commit.sha or (model and md5 == model)]
    found["releases"] = [target.tag] if target.tag else same
    if not found["releases"]:
        missing["release"] = "no tag of this clone has this model; git fetch origin --tags"
    found["runs_in"] = [
        lineage.ENVIRONMENTS[path]
        for path, image in (repository.deployments[-1].images if repository.deployments else {}).items()
        if target.digest == (digest := image.partition("@")[2]) or repository.versions.get(digest) in found["releases"]
    ]
    if git("rev-list", "--max-count=1", commit.sha, f"^{repository.tip}"):
        missing["review"] = f"the commit is not on {MAIN} as this clone knows it; git fetch origin"
    if model is None:
        missing["model"] = f"{paths.LOCK} of this commit names no {MODEL}"
        return found | {"missing": missing}
    found["model"] = model
    origin, certain = first_with(commit, model)
    if not certain:
        missing["change"] = (
            "this clone is shallow, so the commit that made the model is not in it; git fetch --unshallow"
        )
    found["change"] = of_commit(origin) | {"approvers": list(origin.approvers)}
    if len(origin.parents) > 1:  # the author of a merge is who merged
        branch = lineage.described([origin.parents[1]]).get(origin.parents[1])
        found["change"]["author"] = branch.author if branch else origin.author
    known, unknown = outside.github(lineage.page(), origin.sha, origin.pull_request, environment)
    found["change"] |= {key: known[key] for key in ("pull_request", "url") if key in known}
    if "approvers" in known:
        found["change"]["approvers"] = known["approvers"]
        found["change"]["author"] = f"{found['change']['author']} ({known['author']})"
    elif origin.approvers:
        unknown.pop("approvers", None)
    found |= {key: known[key] for key in ("gate",) if key in known}
    missing |= unknown
    found["parameters"] = parameters(lineage.file(commit.sha, PARAMS))
    found["data"] = data(commit.sha, lock)
    found["mlflow"], unknown = outside.runs(model, environment)
    return found | {"missing": missing | unknown}


def of_commit(commit: Commit) -> dict[str, Any]:
    return {
        "commit": commit.sha,
        "subject": commit.subject,
        "author": commit.author,
        "date": commit.date,
        "pull_request": commit.pull_request,
    }


def first_with(commit: Commit, model: str) -> tuple[Commit, bool]:
    """The commit since which the first parents of a commit have its model, and whether the clone goes back that far."""
    commits = lineage.log(commit.sha, paths.LOCK)
    for earlier, lock in zip(commits, lineage.models(commits), strict=True):
        if lock.get(MODEL) != model:
            return commit, True
        commit = earlier
    return commit, not lineage.is_shallow()


def parameters(content: bytes | None) -> dict[str, Any]:
    """What `params.yaml` sets other than by default, as flat keys; all that it sets where keys are of another time."""
    try:
        document = YAML(typ="safe").load(content) if content else {}
    except (YAMLError, ValueError):
        return {}
    with suppress(ValidationError):
        document = Settings.model_validate(document).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return flat(document)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {
            key: each
            for name, inner in value.items()
            for key, each in flat(inner, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value} if prefix and value not in (None, {}, []) else {}


def data(commit: str, lock: dict[str, str]) -> dict[str, Any]:
    """Source, hashes and rows of the data of a commit."""
    wanted = (f"{commit}:{path}" for path in (paths.CATALOGUE, paths.EVALUATION))
    catalogue, evaluation = (lineage.parsed(found and found[1]) for found in lineage.files(wanted))
    rows = evaluation.get("rows")
    named = {"table": paths.TABLE, "train": paths.TRAIN, "test": paths.TEST}
    return {
        "source": catalogue.get("source"),
        "sha256": catalogue.get("sha256"),
        **{f"{name}_md5": lock.get(str(path)) for name, path in named.items()},
        "raw": {path: md5 for path, md5 in lock.items() if path.startswith("data/raw")},
        "rows": {key: rows.get(key) for key in ("train", "test")} if isinstance(rows, dict) else {},
    }


def shown(line: str) -> str:
    """A line without what a terminal would obey."""
    line = visible(line)
    return line if len(line) <= MOST_LINE else f"{line[: MOST_LINE - 1]}…"


def in_lines(found: dict[str, Any]) -> list[str]:
    """The trace for a terminal."""
    lines: list[str] = []
    for each in found.get("rows", [])[:MOST_ROWS]:
        chances = ", ".join(f"{name} {value:.3g}" for name, value in (each["probabilities"] or {}).items())
        lines += [
            f"{each['time']}  row {each['row']}  {each['prediction']}" + (f"  ({chances})" if chances else ""),
            f"  received  {_values(each['features'])}",
            *([f"  computed  {_values(each['computed'])}"] if each["computed"] else []),
            *([f"  precomputed  {each['precomputed']}, in a table of predictions"] if each["precomputed"] else []),
        ]
    left = found.get("row_count", 0) - MOST_ROWS
    lines += (
        [f"… and {left:,} more rows; FORMAT=json shows up to {MOST_FOUND:,}", ""] if left > 0 else [""] if lines else []
    )
    if found.get("damaged_files"):
        lines += [
            f"{counted(len(found['damaged_files']), 'file')} of the log cannot be read whole: rows may be missing",
            "",
        ]
    for each in found["traces"]:
        lines += [f"{name:<14}{text}" for name, text in facts(each) if text]
        if each["missing"]:
            lines += ["", "not reached", *(f"  {name:<12}{why}" for name, why in each["missing"].items())]
        lines.append("")
    return lines[:-1]


def _values(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    commit, change, about = found.get("commit", {}), found.get("change", {}), found.get("data", {})
    number = change.get("pull_request")
    hashes = [f"{name} {about[f'{name}_md5']}" for name in ("table", "train", "test") if about.get(f"{name}_md5")]
    rows = about.get("rows") or {}
    gate = found.get("gate")
    return [
        ("image", found.get("image", "")),
        ("release", ", ".join(found.get("releases", []))),
        ("runs in", ", ".join(found.get("runs_in", []))),
        ("commit", _commit(commit)),
        ("model", found.get("model", "")),
        ("made by", _commit(change)),
        ("pull request", f"#{number}  {change.get('url', '')}" if number else ""),
        ("author", change.get("author", "")),
        ("approved by", ", ".join(change.get("approvers", []))),
        ("gate", f"{gate['verdict']} at {gate['commit'][:10]}  {gate['url']}" if gate else ""),
        *(("parameters" if place == 0 else "", line) for place, line in enumerate(_parameters(found))),
        ("data", f"{about['source']}  SHA-256 {about['sha256']}" if about.get("sha256") else ""),
        *((("data (MD5)" if place == 0 else ""), line) for place, line in enumerate(hashes)),
        *(("", f"{path} {md5}") for path, md5 in about.get("raw", {}).items()),
        ("rows", f"{rows['train']:,} for training, {rows['test']:,} for tests" if _counts(rows) else ""),
        *(("MLflow run", f"{run['id']}  {run['store']}  commit {run['commit']}") for run in found.get("mlflow", [])),
    ]


def _parameters(found: dict[str, Any]) -> list[str]:
    return [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.get("parameters", {}).items()]


def _counts(rows: dict[str, Any]) -> bool:
    return all(isinstance(rows.get(key), int) for key in ("train", "test"))


def _commit(each: dict[str, Any]) -> str:
    return f"{each['commit'][:10]}  {each['date'][:10]}  {each['subject']}" if each else ""


if __name__ == "__main__":
    with errors_in_words():
        main()
