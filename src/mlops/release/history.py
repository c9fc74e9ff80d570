"""`make history`: every model that main had and every release, with metrics, reasons and people, as one static page.

All of it comes from Git, but for the alarms, which are those of the last `make monitor` here. The same commits and tags
give the same page.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlops.core import paths
from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.files import atomic
from mlops.core.markdown import one_line
from mlops.monitoring import findings
from mlops.release import lineage
from mlops.release.history_page import page
from mlops.release.lineage import ENVIRONMENTS, MODEL, Commit, Deployment

PAGE = Path("build/history/index.html")
GATE = Path("gate.yaml")
MOST_METRICS = 6


class Entry(NamedTuple):
    """A merge that gave main another model, or a release."""

    kind: str
    """`merged` or `release`."""
    name: str
    """Of a release, its tag."""
    commit: Commit
    author: str
    date: str
    model: str
    hashes: dict[str, str]
    estimator: str
    rows: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]
    waivers: list[str]
    """What the gate waived then."""
    runs_in: list[str]


def entries(tip: str, history: list[Deployment]) -> list[Entry]:
    """Merged models and releases, oldest first."""
    merged = lineage.merged_models(tip)
    tags = lineage.releases()
    tagged = lineage.described(tag.commit for tag in tags)
    locks = dict(zip(tagged, lineage.models(list(tagged.values())), strict=True))
    found = [("merged", "", commit, lock, commit.date, "") for commit, lock in merged]
    found += [
        ("release", tag.name, tagged[tag.commit], locks[tag.commit], tag.date, tag.author)
        for tag in tags
        if MODEL in locks.get(tag.commit, {})
    ]
    found.sort(key=lambda each: (datetime.datetime.fromisoformat(each[4]), each[0], each[1]))
    merges = [commit for _, _, commit, *_ in found if len(commit.parents) > 1]
    authors = lineage.described(commit.parents[1] for commit in merges)  # the author of a merge is who merged
    wanted = (
        f"{commit.sha}{parent}:{path}"
        for kind, _, commit, *_ in found
        # the gate of the base branch judged a merge
        for path, parent in ((paths.EVALUATION, ""), (paths.METRICS, ""), (GATE, "^" if kind == "merged" else ""))
    )
    contents = lineage.files(wanted)
    gates: dict[str, list[dict[str, Any]]] = {}
    running = runs_in(history)
    made = []
    for kind, name, commit, lock, date, tagger in found:
        evaluation, metrics = (lineage.parsed(each and each[1]) for each in (next(contents), next(contents)))
        gate = next(contents)
        if gate and gate[0] not in gates:
            gates[gate[0]] = waivers(gate[1])
        branch = authors.get(commit.parents[1]) if len(commit.parents) > 1 else None
        model, rows = evaluation.get("model"), evaluation.get("rows")
        made.append(
            Entry(
                kind,
                name,
                commit,
                tagger or (branch or commit).author,
                date,
                lock[MODEL],
                lock,
                str(model.get("estimator", "")) if isinstance(model, dict) else "",
                rows if isinstance(rows, dict) else {},
                lineage.estimates(evaluation, metrics),
                in_force(gates[gate[0]] if gate else [], date),
                running.get(name, []) if kind == "release" else [],
            )
        )
    return made


def runs_in(history: list[Deployment]) -> dict[str, list[str]]:
    """Version → where it runs now; the digest of an image whose version is not known."""
    versions = lineage.versions(history)
    found: dict[str, list[str]] = {}
    for path, image in (history[-1].images if history else {}).items():
        digest = image.partition("@")[2]
        found.setdefault(versions.get(digest) or digest, []).append(ENVIRONMENTS[path])
    return found


def waivers(content: bytes) -> list[dict[str, Any]]:
    """The waivers of a `gate.yaml`; none where it cannot be read any more."""
    try:
        document = YAML(typ="safe").load(content)
    except (YAMLError, ValueError):
        return []
    listed = document.get("waivers") if isinstance(document, dict) else None
    return [each for each in listed or [] if isinstance(each, dict)]


def in_force(listed: list[dict[str, Any]], date: str) -> list[str]:
    """The waivers that had not expired on a day, in words."""
    return [
        f"{one_line(each.get('rule'), 60)} {one_line(each.get('subject', ''), 60)}".strip()
        + f" until {one_line(each['until'], 10)}: {one_line(each.get('reason', ''), 300)}"
        for each in listed
        if str(each.get("until", "")) >= date[:10]
    ]


def main_metrics(found: list[Entry]) -> list[str]:
    """The metrics that the gate of the last entry names, then others of it, up to a limit."""
    if not found:
        return []
    gate = lineage.file(found[-1].commit.sha, GATE) or b""
    try:
        document = YAML(typ="safe").load(gate)
        rules = document["rules"] if isinstance(document, dict) else []
        named = [str(rule["metric"]) for rule in rules if isinstance(rule, dict) and "metric" in rule]
    except (YAMLError, ValueError, KeyError, TypeError):
        named = []
    known = found[-1].metrics
    chosen = [name for name in dict.fromkeys(named) if name in known]
    return (chosen or list(known))[:MOST_METRICS]


def main() -> None:
    tip = lineage.main_branch()
    if lineage.is_shallow():
        raise UserError("this clone is shallow, so the history is not in it", "git fetch --unshallow --tags")
    history = lineage.deployments(tip)
    found = entries(tip, history)
    if not found:
        raise UserError("main has no dvc.lock with a model, so there is no history", "make, and commit dvc.lock")
    monitored = findings.read() if findings.REPORT.is_file() else None
    model = (PAGE.parent / "model/index.html").is_file()  # by `make site`
    text = page(found, main_metrics(found), runs_in(history), monitored, tip, lineage.page(), model)
    with atomic(PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    merged = sum(each.kind == "merged" for each in found)
    print(f"{counted(merged, 'merged model')} and {counted(len(found) - merged, 'release')} → {PAGE}")


if __name__ == "__main__":
    with errors_in_words():
        main()
