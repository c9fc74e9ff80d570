"""`make monitor-issue`: one issue that says what the monitor found, for the workflow `monitor`.

It is opened for an alarm or a warning, kept up to date, and closed when neither is left. Its texts come from a log,
which anybody may have filled: they are read by a strict schema and escaped. The job runs main's code, with a token that
may write issues and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from mlops.core.errors import UserError, errors_in_words
from mlops.core.github import Api
from mlops.core.markdown import escaped, number, table
from mlops.monitoring import findings, proposal
from mlops.monitoring.findings import Findings, Risk
from mlops.monitoring.proposal import Proposal

LABEL = "monitoring"
MARKER = "<!-- mlops: what the monitor found -->"
NEEDED = "the job needs `permissions:` with issues: write"
TITLES = {
    "alarm": "Monitoring: the model is worse than at its release",
    "warning": "Monitoring: inputs or predictions have changed",
}
BROKEN = "Monitoring: new labelled rows are broken"
MOST_ROWS = 15  # of a table


def body(found: Findings, run: str, retraining: Proposal | None = None) -> str:
    """The issue, as Markdown."""
    parts = [
        MARKER,
        f"**{escaped(found.headline)}**",
        f"Model {escaped(found.model[:10])}, {found.start} to {found.until}: {found.rows:,} predicted rows, "
        f"{found.labels.rows:,} with a label ({found.labels.share:.0%}).",
        *risks(found),
        *columns(found),
        *([] if retraining is None else ["### Retraining", proposal.text(retraining).rstrip()]),
        f"[The run]({run}) has the whole page as an artifact, `report.html`.",
        what_to_do(found),
    ]
    return "\n\n".join(parts) + "\n"


def risks(found: Findings) -> list[str]:
    """The losses with an alarm, or those of all rows."""
    alarmed = [each for each in found.risk if each.alarm]
    shown = alarmed or [each for each in found.risk if each.part == "all rows"]
    if not shown:
        return []

    def row(each: Risk) -> list[str]:
        state = f"**alarm since {each.alarm}**" if each.alarm else "no alarm"
        if each.missing:
            state = f"cannot tell: {each.missing:,} more labels needed"
        return [
            f"{escaped(each.metric)}, {escaped(each.part)}: {escaped(each.meaning)}",
            number(each.reference),
            number(each.limit),
            number(each.mean),
            f"{each.rows:,}",
            state,
        ]

    header = ["Metric", "At the release", "At most", "Newest rows", "Rows", ""]
    return ["### Risk", table(header, map(row, shown[:MOST_ROWS])), *more(len(shown))]


def columns(found: Findings) -> list[str]:
    """The columns with a warning."""
    warned = [each for each in found.columns if each.warns and each.change]
    if not warned:
        return []
    rows = [
        [escaped(each.column), f"{each.days}", escaped(each.change.what), number(each.change.effect)]
        for each in warned[:MOST_ROWS]
        if each.change
    ]
    return ["### Changed columns", table(["Column", "Last days", "Change", "Effect"], rows), *more(len(warned))]


def more(count: int) -> list[str]:
    return [f"… and {count - MOST_ROWS:,} more."] if count > MOST_ROWS else []


def what_to_do(found: Findings) -> str:
    if found.alarms:
        return (
            "**What to do**: look at the changed columns first; a broken input is repaired where it comes from. "
            "Otherwise roll back (`make rollback`), or train with newer rows (`docs/production.md`). "
            "This issue is closed when a new release has no alarm."
        )
    return (
        "**What to do**: find out whether the change is real or an error of the input. A warning does not say that the "
        "model is worse. This issue is closed when the change is gone."
    )


def update(api: Api, repository: str, found: Findings, text: str, broken: bool) -> str:
    """Open, update or close the issue, and say in one line what was done.

    Parameters
    ----------
    text : str
        Of the issue.
    broken : bool
        Whether new labelled rows are broken, which is an issue of its own where there is no other.
    """
    ours = [
        each
        for each in api.pages(f"{repository}/issues", state="open", labels=LABEL)
        if (each.get("body") or "").startswith(MARKER) and each["user"]["type"] == "Bot"
    ]
    title = TITLES.get(found.state) or (BROKEN if broken else None)
    for surplus in ours[:-1] if title else ours:  # the list begins with the newest one
        closed = {"state": "closed", "state_reason": "completed" if not title else "not_planned"}
        api.patch(f"{repository}/issues/{surplus['number']}", {**closed, "body": text})
    if title is None:
        return f"{found.headline}; " + (f"closed {ours[0]['html_url']}" if ours else "there is no open issue")
    what = {"title": title, "body": text}
    if ours:
        number_ = ours[-1]["number"]
        return f"updated {api.patch(f'{repository}/issues/{number_}', what)['html_url']}"
    opened = api.post(f"{repository}/issues", {**what, "labels": [LABEL]})
    return f"opened {opened['html_url']}"


def main(environment: Mapping[str, str] = os.environ) -> None:
    names = ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_TOKEN")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UserError(f"missing environment variables: {', '.join(missing)}", "leave this to the workflow `monitor`")
    found = findings.read()
    name = environment["GITHUB_REPOSITORY"]
    server = environment.get("GITHUB_SERVER_URL", "https://github.com")
    run = f"{server}/{name}/actions/runs/{environment['GITHUB_RUN_ID']}"
    api = Api(environment.get("GITHUB_API_URL", "https://api.github.com"), environment["GITHUB_TOKEN"], needed=NEEDED)
    retraining = proposal.read()[0] if (proposal.FOLDER / proposal.NAME).is_file() else None
    broken = retraining is not None and retraining.state == "broken"
    print(update(api, f"/repos/{name}", found, body(found, run, retraining), broken))


if __name__ == "__main__":
    with errors_in_words():
        main()
