"""Compares a change with main: parameters, gate, data, files and dependencies."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlops.core.git import git, show
from mlops.core.lock import Lock, hash_of
from mlops.core.paths import CATALOGUE, LOCK, MODEL, TEST
from mlops.core.report import Change, Changes, Wear, shortened
from mlops.core.settings import PARAMS
from mlops.review.policy import GATE

# What the pipeline writes into Git: version by its numbers
WRITTEN = ("reports/", "models/CARD.md")

MOST = 60
# After so many decisions the union bound over their 2^H outcomes doubles the error that the same rows allow at 95 %
# (Renggli et al. 2019, Continuous Integration of Machine Learning Models with ease.ml/ci, section 3; Blum and Hardt
# 2015, The Ladder, on why): ln(2^H / 0.05) = 4 ln(1 / 0.05).
BUDGET = 13
HISTORY = 500


def changes(base: str, files: list[str]) -> Changes:
    """List everything that differs from `base`."""
    # the gate first, so that its changes are never cut off
    params = differences(_read(_gate, show(base, GATE)), _read(_gate, _here(GATE)))
    params += differences(_read(_params, show(base, PARAMS)), _read(_params, _here(PARAMS)))
    data = differences(_read(_of_table, show(base, CATALOGUE)), _read(_of_table, _here(CATALOGUE)))
    dependencies = differences(_read(_packages, show(base, "uv.lock")), _read(_packages, _here("uv.lock")))
    shown = [shortened(name) for name in files if not name.startswith(WRITTEN)]
    return Changes(
        params=params[:MOST],
        data=data[:MOST],
        files=shown[:MOST],
        dependencies=dependencies[:MOST],
        left_out=sum(max(0, len(each) - MOST) for each in (params, data, dependencies, shown)),
    )


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Values that differ, in the order of the keys."""
    return [
        Change(name=shortened(name), before=_text(before.get(name)), after=_text(after.get(name)))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _text(value: Any) -> str | None:
    return None if value is None else shortened(value)


def _here(path: str | Path) -> bytes | None:
    path = Path(path)
    return path.read_bytes() if path.is_file() else None


def _read(reader: Callable[[bytes], dict[str, Any]], content: bytes | None) -> dict[str, Any]:
    """Read a file into names and values; a broken file is reported as such."""
    try:
        return reader(content) if content else {}
    except (YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return {"the file": "cannot be read"}


def _params(content: bytes) -> dict[str, Any]:
    return _flat(YAML(typ="safe", pure=True).load(content))


def _gate(content: bytes) -> dict[str, Any]:
    return _flat(YAML(typ="safe", pure=True).load(content), "gate")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """One entry for each parameter, such as ``model.params.C``; a rule of the gate goes by its name."""
    if isinstance(value, dict) and value:
        return {
            key: each
            for name, item in value.items()
            for key, each in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    if prefix == "gate.rules" and isinstance(value, list):
        rules = [dict(rule) if isinstance(rule, dict) else {"rule": str(rule)} for rule in value]
        named = {
            " ".join(str(rule.pop(key)) for key in ("rule", "column", "metric", "rows") if key in rule): rule
            for rule in rules
        }
        return {
            f"gate: {name}": ", ".join(f"{key} {each}" for key, each in rule.items()) or "on"
            for name, rule in named.items()
        }
    if prefix == "model.steps" and isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        steps = [{"place": place, **each} for place, each in enumerate(value)]
        names = [str(each.get("name") or str(each.get("transformer")).rpartition(".")[2].lower()) for each in value]
        return {
            key: each
            for name, step in zip(names, steps, strict=True)
            for key, each in _flat(step, f"{prefix}.{name}").items()
        }
    return {prefix: json.dumps(value, ensure_ascii=False, default=str)} if prefix else {}


def _of_table(content: bytes) -> dict[str, Any]:
    """Source, rows, content and column types in the catalogue."""
    catalogue = json.loads(content)
    columns = {f"column {column['name']}": column["kind"] for column in catalogue["columns"]}
    return {"source": catalogue["source"], "rows": f"{catalogue['rows']:,}", "sha256": catalogue["sha256"]} | columns


def _packages(content: bytes) -> dict[str, str]:
    """Names and versions in a `uv.lock`; where a package comes from, if from no registry; and the registries."""
    versions: dict[str, list[str]] = {}
    registries = set()
    for package in tomllib.loads(content.decode()).get("package", []):
        source = dict(package.get("source", {}))
        registries.add(source.pop("registry", ""))
        version = " from ".join([package.get("version", ""), *source.values()])
        versions.setdefault(package["name"], []).append(version)
    found = {name: ", ".join(listed) for name, listed in versions.items()}
    return {"registries": ", ".join(sorted(registries - {""}))} | found


def lock_changes(before: Lock, after: Lock) -> list[str]:
    """Stages and files in which two locks differ, such as ``train: models/model.skops``."""
    found = []
    for stage in dict.fromkeys([*before, *after]):
        old, new = before.get(stage, {}), after.get(stage, {})
        paths = [_entries(old), _entries(new)]
        moved = [path for path in dict.fromkeys([*paths[0], *paths[1]]) if paths[0].get(path) != paths[1].get(path)]
        found += [f"{stage}: {path}" for path in moved] or ([stage] if old != new else [])
    return found


def _entries(stage: dict[str, Any]) -> dict[str, str]:
    return {each["path"]: each.get("md5", "") for key in ("deps", "outs") for each in stage.get(key, [])}


def wear(base: str, lock: Lock) -> Wear:
    """Count the models that main has taken while it had the present test rows."""
    test = hash_of(lock, TEST)
    commits = git("log", "--first-parent", f"--max-count={HISTORY}", "--format=%H", base, "--", str(LOCK)).split()
    models = set()
    for commit in commits:
        # a lock is read line by line here, because parsing hundreds of them would take minutes
        content = (show(commit, LOCK) or b"").decode(errors="replace")
        if _md5(content, str(TEST)) == test:
            models.add(_md5(content, str(MODEL)))
    return Wear(decisions=max(0, len(models) - 1), budget=BUDGET)


def _md5(lock: str, path: str) -> str | None:
    """The hash beside a path in the text of a `dvc.lock`."""
    found = re.search(rf"path: {re.escape(path)}\n(?:.+\n){{0,1}}? *md5: ([0-9a-f]+)", lock)
    return found[1] if found else None
