"""`make retrain LOG=folder`: put new labelled rows of the log on a branch, if `monitor.retrain` says that it is time.

The rows are validated first. They are divided into training rows and a recent window, which nothing is fitted on. Test
rows stay as they are. Exit code 3 means that the rows are broken; `build/monitor/retrain/retrain.md` says which.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.files import md5
from mlops.core.git import show
from mlops.core.report import shortened
from mlops.core.settings import PARAMS, Monitor
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.project import Project
from mlops.data.tables import Catalogue
from mlops.monitoring import batch as batches
from mlops.monitoring import branch, findings, labels, reference, store
from mlops.monitoring.batch import Batch
from mlops.monitoring.collect import collect
from mlops.monitoring.log import Reading
from mlops.monitoring.proposal import FOLDER, MOST_IN_GIT, DataFile, Problem, Proposal, write
from mlops.monitoring.reference import Reference

DAY = 24 * 3600
BROKEN = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mlops.monitoring.retrain", description=__doc__)
    parser.add_argument("log", type=Path, help="folder of the prediction log")
    parser.add_argument(
        "--release", type=Path, default=Path(), help="folder of the release's files, by default this one"
    )
    parser.add_argument(
        "--fetched", action="store_true", help="read the labels that make fetch-labels left, and leave the rest to jobs"
    )
    given = parser.parse_args()
    known = reference.of_release(given.release)
    branch.update()
    options = settings_module.load().monitor
    if given.fetched:
        options = labels.fetched(options)
    # in the workflow, other jobs hold the rights to store the rows and to push the branch
    remote = bool(os.environ.get(store.URL)) if given.fetched else store.has_remote()
    found, contents = propose(given.log, projects.open(), known, options, datetime.now(UTC), remote)
    write(found, contents)
    if found.state == "proposed" and given.fetched:
        print(f"{found.branch} is proposed: {found.why}")
    elif found.state == "proposed":
        store.push(found)
        branch.create(found.branch, branch.commit(found, contents, found.main))
        print(f"{found.branch}: {found.why}")
        print(f"  try: git switch {found.branch} && make && make review BASE={branch.MAIN}")
    else:
        print(f"no retraining: {found.why}")
        for each in found.problems:
            first = each.examples[0] if each.examples else None
            place = f"; request {first.request_id}, row {first.row}: {first.value}" if first else ""
            print(f"  {each.column}: {each.what} ({counted(each.rows, 'row')}{place})")
        if found.state == "broken":
            print("  try: correct the labels or the clients, or clean such rows (data.clean, src/project/cleaning.py)")
    print(f"  details: {FOLDER}/retrain.md")
    return BROKEN if found.state == "broken" else 0


def propose(
    log: Path, project: Project, known: Reference, options: Monitor, now: datetime, remote: bool
) -> tuple[Proposal, dict[str, bytes]]:
    """Decide on a retraining, and make its files.

    Parameters
    ----------
    remote : bool
        Whether DVC's remote is to hold the files.

    Returns
    -------
    Proposal
    dict of str to bytes
        Path in the repository → content.
    """
    main = branch.main_commit()
    proposal = Proposal(state="waiting", why="", model=known.model, main=main)

    def ended(why: str, **more: Any) -> tuple[Proposal, dict[str, bytes]]:
        return proposal.model_copy(update={"why": shortened(why), **more}), {}

    alarms = [] if options.retrain.when != "alarm" else read_alarms(known.model)
    proposal = proposal.model_copy(update={"alarms": [shortened(alarm) for alarm in alarms[:20]]})
    if early := too_early(options, alarms, proposal.branch, main, now):
        return ended(early)
    truth = labels.read(options.labels, project.settings, project.source[project.settings.data.target])  # type: ignore[arg-type]
    reading = Reading(log, known.contract, known.model)
    fields = [field.name for field in known.contract.fields]
    matched = collect(reading, truth, fields, 0, ("time", "request_id", "row")).labelled
    if matched is None or len(matched) < options.retrain.least_rows:
        rows = counted(0 if matched is None else len(matched), "new labelled row")
        return ended(f"the log has {rows}; monitor.retrain.least_rows is {options.retrain.least_rows:,}")
    settings, catalogue = project.settings, project.source
    check_main(main, catalogue, fields)
    batch, problems = batches.build(matched.together(), known.contract, catalogue, settings)
    warned: list[Problem] = []
    if not problems:
        problems, warned = batches.check(batch, known.contract, catalogue, settings)
    days = {"first": str(batch.time[0])[:10], "last": str(batch.time[-1])[:10]}
    if problems:
        names = ", ".join(dict.fromkeys(each.column for each in problems))
        why = f"the new labelled rows are broken, so nothing is trained on them: {names}"
        return ended(why, state="broken", problems=problems[: batches.MOST_PROBLEMS], **days)
    training = train_rows(main)
    older, recent = batches.divide(batch, options.retrain, training)
    if not len(older) or not len(recent):
        return ended(
            f"the {len(batch):,} new rows cannot be divided into training rows and a recent window by their time"
        )
    notes = batches.oddities(batch, truth.corrected)
    if left := len(batch) - len(older) - len(recent):
        notes.append(
            f"{counted(left, 'older new row is', 'older new rows are')} left out by monitor.retrain.most_new_share"
        )
    files, contents = stored({"more": older, "recent": recent}, known.model, remote)
    reason = f"After {counted(len(alarms), 'alarm')}" if alarms else "With new labels"
    why = f"{reason}: {len(older):,} rows to train on, {len(recent):,} rows for the recent window"
    update = {"state": "proposed", "why": shortened(why), "notes": notes[:20], "files": files, "training": training}
    return proposal.model_copy(update={**update, **days, "problems": warned[: batches.MOST_PROBLEMS]}), contents


def read_alarms(model: str) -> list[str]:
    """Alarms of the last `make monitor`, which must be about the same model."""
    found = findings.read()
    if found.model != model:
        raise UserError(f"{findings.REPORT} is about another model", "make monitor LOG=folder, then make retrain")
    return found.alarms


def too_early(options: Monitor, alarms: list[str], name: str, main: str, now: datetime) -> str | None:
    """Why nothing is to be proposed now, before the log is read."""
    policy = options.retrain
    if policy.when == "never":
        return "monitor.retrain.when is never"
    if options.labels is None:
        raise UserError(f"{PARAMS}: monitor.retrain needs monitor.labels, the labels of logged rows")
    if policy.when == "alarm" and not alarms:
        return "the monitor has no alarm"
    there = branch.state(name, branch.tip_of(name), main)
    if there.work != "none":
        return there.why
    last = branch.last_retraining(name, main)
    if last is not None:
        days = (now.timestamp() - last) / DAY
        if days < policy.cool_down_days:
            return f"the last retraining was {days:.1f} days ago; cool_down_days is {policy.cool_down_days:g}"
    return None


def check_main(main: str, catalogue: Catalogue, fields: list[str]) -> None:
    """Check that main still has the columns that the log has, in the same kinds."""
    content = show(main, paths.CATALOGUE)
    if content is None:
        raise UserError(f"main has no {paths.CATALOGUE}", "make on main, and commit what it writes")
    theirs = {column.name: column.kind for column in Catalogue.model_validate_json(content).columns}
    for name in fields:
        if theirs.get(name) != catalogue[name].kind:
            was, now = catalogue[name].kind, theirs.get(name, "none")
            raise UserError(
                f"column {name!r} is {was} in the deployed release and {now} on main",
                "release main first: rows of the old log do not fit it",
            )


def train_rows(main: str) -> int:
    """How many training rows main has."""
    try:
        return int(json.loads(show(main, paths.SPLIT) or b"")["train"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"main's {paths.SPLIT} is missing or broken", "make on main, and commit what it writes"
        ) from None


def stored(parts: dict[Any, Batch], model: str, remote: bool) -> tuple[list[DataFile], dict[str, bytes]]:
    """The rows as Parquet files, which DVC's remote keeps if there is one, and Git otherwise.

    Raises
    ------
    UserError
        If a file is too large for Git, and there is no remote.
    """
    files: list[DataFile] = []
    contents: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for role, rows in parts.items():
            path = Path(folder) / f"{role}.parquet"
            tables.write(rows.table, path)
            content = path.read_bytes()
            if len(content) > MOST_IN_GIT and not remote:
                raise UserError(
                    f"the new rows take {len(content):,} bytes; Git is for files up to {MOST_IN_GIT:,}",
                    f"make remote URL=s3://bucket/path (in the workflow, the variable {store.URL}), "
                    "or a smaller monitor.retrain.most_new_share",
                )
            where: Any = "dvc" if remote else "git"
            file = DataFile(role=role, rows=len(rows), size=len(content), md5=md5(content), stored=where)
            files.append(file)
            contents[file.path(model)] = content
    return files, contents


if __name__ == "__main__":
    with errors_in_words():
        sys.exit(main())
