"""Renders the notes of a release as Markdown for GitHub, from the results of the gate.

Numbers and names come from reports, so every text of them is escaped as in the comment of a pull request.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops.core.markdown import code, details, escaped, number, table
from mlops.core.report import Change, Comparison, Estimate, Report, interval
from mlops.inference.provenance import Release
from mlops.release.tag import Tag

# GitHub takes 125,000 characters
MOST_BYTES = 100_000


class Facts(NamedTuple):
    """What the notes tell; the addresses come from the environment that GitHub or GitLab gives to the job."""

    tag: Tag
    """What `make release-verify` found: tag, commit, previous release, pull request, gate."""
    release: Release
    report: Report
    reference: str
    """`ghcr.io/…@sha256:…`."""
    page: str
    """Address under which the repository has `blob/` and `compare/`."""
    files: str
    """Address under which the release has its files."""
    repository: str = ""
    """`owner/name` on GitHub, which signs for it."""
    mark: str = "#"
    """What the number of a pull request or merge request begins with."""
    card: str | None = None
    attested: bool = True
    """Whether GitHub has signed where the image comes from."""
    wheel: str | None = None
    """Name of the file of the Python package, which is attached."""
    digest: str = ""
    """`sha256:…` of that file."""
    sbom: str = ""
    """`sha256:…` of the attached list of the image's packages, where it is not attested."""


def notes(facts: Facts) -> str:
    """Render the notes of a release."""
    parts = [heading(facts), image(facts), package(facts), metrics(facts), what_changed(facts), hashes(facts.release)]
    if facts.card:
        # its links are those of a file in models/
        parts.append(details("Model card", facts.card.replace("](../", f"]({facts.page}/blob/{facts.tag.commit}/")))
    text = ""
    for part in filter(None, parts):
        if len((text + part).encode()) > MOST_BYTES:
            return f"{text}\n*Some parts are too long for release notes; they are in the tagged commit.*\n"
        text += f"{part}\n\n"
    return text


def heading(facts: Facts) -> str:
    """Name the release, and the pull request and check that it passed."""
    report, tag = facts.report, facts.tag
    about = []
    if report.estimator and report.target:
        name = " → ".join(part.rsplit(".", 1)[-1] for part in report.estimator.split(" → "))
        about.append(f"{code(name)} predicts {code(report.target)}")
    judged = f"{facts.mark}{tag.pull_request}" if tag.pull_request else f"the merge queue at {code(tag.head[:10])}"
    about.append(f"passed [`gate`]({tag.url}) in {judged}")
    if report.rows:
        about.append(f"{report.rows.train:,} training and {report.rows.test:,} test rows")
    return " · ".join(about)


def image(facts: Facts) -> str:
    """The image by its digest, and how to check where it comes from."""
    heading = f"### Image\n\n```text\n{facts.reference}\n```\n\n"
    run = f"docker run --rm --read-only --tmpfs /tmp --publish 3000:3000 {facts.reference}"
    if not facts.attested:
        packages = f"\n\n`sbom.json` lists its packages (`{facts.sbom}`)." if facts.sbom else ""
        return f"{heading}Run it:\n\n```sh\n{run}\n```{packages}"
    # the workflow that signs is that of the commit: so it must be the one that was verified
    commands = [
        f"gh attestation verify oci://{facts.reference} --repo {facts.repository} \\",
        f"  --signer-workflow {facts.repository}/.github/workflows/release.yaml \\",
        f"  --source-ref refs/tags/{facts.tag.tag} --source-digest {facts.tag.commit}",
        run,
    ]
    return (
        f"{heading}Check where it was built, and run it:\n\n```sh\n" + "\n".join(commands) + "\n```\n\n"
        "A second attestation holds the list of its packages (`--predicate-type https://cyclonedx.org/bom`)."
    )


def package(facts: Facts) -> str:
    """The Python package, if the model has one."""
    if not facts.wheel:
        return ""
    # pip refuses a file with another hash
    commands = [f"pip install {facts.files}/{facts.wheel}#{facts.digest.replace(':', '=')}"]
    if facts.attested:
        commands.append(f"gh attestation verify {facts.wheel} --repo {facts.repository}")
    return "### Python package\n\n```sh\n" + "\n".join(commands) + "\n```"


def metrics(facts: Facts) -> str:
    """Each metric on the test rows with its interval, and its difference to the release before, on the same rows."""
    previous = facts.tag.previous
    compared = {each.metric: each for each in facts.report.metrics} if previous else {}
    header = ["metric", "value"] + ([f"{previous}", "difference"] if compared else [])
    rows = []
    for name, found in facts.release.metrics.items():
        row = [code(name), interval(Estimate(value=found["value"], low=found["low"], high=found["high"]))]
        if compared:
            row += _difference(compared.get(name))
        rows.append(row)
    if not rows:
        return ""
    note = f"With {facts.report.confidence:.0%} intervals."
    if compared:
        note += f" Both models were scored on the test rows of {facts.tag.tag}."
    return f"### Metrics\n\n{table(header, rows)}\n\n<sub>{note}</sub>"


def _difference(each: Comparison | None) -> list[str]:
    return ["–", "–"] if each is None else [number(each.baseline), interval(each.difference, signed=True)]


def what_changed(facts: Facts) -> str:
    """List data, parameters and dependencies that differ from the previous release."""
    previous, found = facts.tag.previous, facts.report.changes
    if previous is None:
        return "This is the first release."
    heading = f"### Changes since {previous}"
    if not facts.report.touched:
        return f"{heading}\n\nDocumentation only: the model is the same."
    blocks = [
        f"{title}\n\n{changes(listed, previous, facts.tag.tag)}"
        for title, listed in (
            ("Data", found.data),
            ("Parameters", found.params),
            ("Dependencies", found.dependencies),
        )
        if listed
    ]
    if found.left_out:
        blocks.append(f"And {found.left_out:,} more.")
    compare = f"[All commits]({facts.page}/compare/{previous}...{facts.tag.tag})."
    return "\n\n".join([heading, *(blocks or ["Neither data nor parameters nor dependencies."]), compare])


def changes(listed: list[Change], before: str, after: str) -> str:
    rows = [
        [code(each.name), *("–" if side is None else code(side) for side in (each.before, each.after))]
        for each in listed
    ]
    return table(["", before, after], rows)


def hashes(release: Release) -> str:
    """What the image holds, by the hashes in `dvc.lock`."""
    named = {
        "commit": release.commit,
        "model (MD5)": release.model_md5,
        "models/service (MD5)": release.service_md5,
        "table (SHA-256)": str(release.data.get("sha256")),
        "training rows (MD5)": str(release.data.get("train_md5")),
        "test rows (MD5)": str(release.data.get("test_md5")),
        "runs on": str(release.export.get("runtime")),
    }
    return details("Lineage", table(["", ""], [[escaped(name), code(value)] for name, value in named.items()]))
