"""`make replay LOG=folder`: a recorded log through main's model and the one in the working tree.

It leaves a page, its Markdown and all numbers in `build/replay`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import atomic, write_json
from mlops.core.git import resolve
from mlops.core.markdown import code, one_line, table
from mlops.core.replayed import Replayed
from mlops.data import project as projects
from mlops.review import baseline as main_branch
from mlops.review import replaying
from mlops.review.preview import page
from mlops.review.replay_section import BASES, MOST_LETTERS, blocks, summary

FOLDER = Path("build/replay")
MOST_FEATURES = 40


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mlops.review.replay", description=__doc__)
    parser.add_argument("log", type=Path, nargs="?", help="folder of the prediction log; by default monitor.replay")
    parser.add_argument("--base", default="origin/main", help="branch, tag or commit whose model is the champion")
    given = parser.parse_args()
    project = projects.open()
    configured = project.settings.monitor.replay
    folder = given.log or (Path(configured) if configured else None)
    if folder is None:
        raise UserError("no prediction log is named", "make replay LOG=folder, or set monitor.replay in params.yaml")
    champion = main_branch.find(resolve(given.base), project.settings)
    found, features = replaying.run(folder, project, champion)
    write_json({**found.model_dump(), "features_of_largest": features}, FOLDER / "report.json")
    text = markdown(found, features, given.base)
    for name, content in (("report.md", text), ("report.html", page(text))):
        with atomic(FOLDER / name) as partial:
            partial.write_text(content, encoding="utf-8")
    print("\n".join(ending(found)))


def markdown(found: Replayed, features: list[dict[str, Any]], base: str) -> str:
    """The page: the comment's section, and the features of the rows that change most."""
    parts = [f"## {summary(found)}", f"Main is the model of {code(one_line(base, MOST_LETTERS))}.", *blocks(found)]
    for each in features:
        known = list(each["features"].items())[:MOST_FEATURES]
        rows = [[code(one_line(name, MOST_LETTERS)), code(value(given))] for name, given in known]
        title = f"{code(one_line(each['request_id'], MOST_LETTERS))}, row {each['row']:,}"
        parts.append(f"<details>\n<summary>{title}</summary>\n\n{table(['column', 'value'], rows)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def value(given: Any) -> str:
    return one_line(given if isinstance(given, str) else json.dumps(given), MOST_LETTERS)


def ending(found: Replayed) -> list[str]:
    """The result for a terminal."""
    lines = ["", summary(found)]
    lines += [f"  {line(each.before)} → {line(each.after)}  {each.rows:,}" for each in found.moves[:10]]
    for each in found.prices:
        basis = BASES[each.basis].format(rows=f"{each.rows:,}")
        lines.append(f"  cost of a row {each.before:.4g} → {each.after:.4g}, {basis}")
    if not found.prices and found.priceless:
        lines.append(f"  no cost: {found.priceless}")
    most = sorted(found.slices, key=lambda each: -each.changed / max(1, each.rows))[:1]
    lines += [f"  most in {line(one.column)} {line(one.name)}: {one.changed:,} of {one.rows:,} rows" for one in most]
    if found.skew is not None:
        lines.append(f"  main's model differs from its own log in {found.skew.differ:,} of {found.skew.rows:,} rows")
    for one in found.obstacles:
        what = "do not fit" if one.refused else "would be refused by the service of"
        lines.append(f"  {one.rows:,} rows {what} {'main' if one.model == 'main' else 'this change'}: {one.why}")
    if found.unreadable or found.damaged:
        lines.append(f"  {found.unreadable:,} unreadable lines, {found.damaged:,} damaged files")
    return [*lines, f"  details in {FOLDER}/report.html", ""]


def line(text: str) -> str:
    return one_line(text, MOST_LETTERS)


if __name__ == "__main__":
    with errors_in_words():
        main()
