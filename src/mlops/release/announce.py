"""`make release-announce`: the release with its notes on GitHub or GitLab, and the pull request that deploys it.

It runs approved code with a token that may write. What it is given is data: the files of `make release-facts`, and the
digest that was checked and attested; and the package by its SHA-256. Run again, it updates both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.core import paths
from mlops.core import report as reports
from mlops.core.errors import UserError, errors_in_words
from mlops.core.github import Api
from mlops.inference import provenance
from mlops.release import deploy, gitlab_announce
from mlops.release.notes import Facts, notes
from mlops.release.place import sha256
from mlops.release.tag import AGAIN, CARD, FOLDER, REPORT, parse, read

WHEEL = Path("build/wheel/dist")
NAME = re.compile(r"[a-z0-9_]+-[0-9][a-z0-9.]*-py3-none-any\.whl")
MOST_BYTES = 1 << 30

GITHUB = ("GITHUB_REF_NAME", "GITHUB_REPOSITORY", "GITHUB_TOKEN")
NEEDED = "the job needs `permissions:` with contents and pull-requests: write"


def publish(api: Api, repository: str, tag: str, text: str) -> dict[str, Any]:
    """Create the GitHub release of a tag, or update the one that is there, and return it."""
    candidate = parse(tag).is_candidate
    body = {"tag_name": tag, "name": tag, "body": text, "draft": False, "prerelease": candidate}
    # a fix of an old version does not become the latest one
    body |= {"make_latest": "false" if candidate else "legacy"}
    for release in api.pages(f"{repository}/releases"):
        if release["tag_name"] == tag:
            return dict(api.patch(f"{repository}/releases/{release['id']}", body))
    return dict(api.post(f"{repository}/releases", body))


def package(digest: str) -> Path | None:
    """The wheel that the job before has made, by its SHA-256; None where the model has none.

    Raises
    ------
    UserError
        If it is another file.
    """
    if not digest:
        return None
    found = sorted(WHEEL.glob("*"))
    if len(found) != 1 or not NAME.fullmatch(found[0].name) or found[0].stat().st_size > MOST_BYTES:
        raise UserError(f"{WHEEL} does not hold one wheel: {', '.join(each.name for each in found) or 'nothing'}")
    if (actual := sha256(found[0])) != digest:
        raise UserError(f"{found[0]} is not the wheel that was made: its digest is {actual}, expected {digest}")
    return found[0]


def attach(api: Api, release: Mapping[str, Any], wheel: Path) -> None:
    """Attach the wheel to a release; one that is there already stays."""
    if all(asset["name"] != wheel.name for asset in release.get("assets", [])):
        api.upload(str(release["upload_url"]).partition("{")[0], wheel.name, wheel.read_bytes())


def facts(environment: Mapping[str, str], tag: str, added: Mapping[str, Any]) -> Facts:
    """The facts of a tag, from the files of the job before; `added` is of GitHub or GitLab."""
    found = read()
    release = provenance.read(FOLDER / paths.RELEASE.name)
    if release.commit != found.commit:
        raise UserError(f"{FOLDER} is the release of another commit: {release.commit}")
    if found.tag != tag:
        raise UserError(f"{FOLDER} is about {found.tag}, but this run is about {tag}")
    return Facts(
        tag=found,
        release=release,
        report=reports.read(REPORT),
        reference=environment["REFERENCE"],
        card=CARD.read_text(encoding="utf-8") if CARD.is_file() else None,
        wheel=wheel.name if (wheel := package(environment.get("WHEEL", ""))) else None,
        digest=environment.get("WHEEL", ""),
        **added,
    )


def forge_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """The facts of GitHub: addresses, and whether it has signed."""
    name, tag = environment["GITHUB_REPOSITORY"], environment["GITHUB_REF_NAME"]
    page = f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    attested = bool(environment.get("ATTESTATION"))
    return {"page": page, "files": f"{page}/releases/download/{tag}", "repository": name, "attested": attested}


def main(environment: Mapping[str, str] = os.environ) -> None:
    gitlab = bool(environment.get("GITLAB_CI"))
    names = gitlab_announce.NAMES if gitlab else GITHUB
    missing = [name for name in (*names, "REFERENCE") if not environment.get(name)]
    if missing:
        raise UserError(f"missing environment variables: {', '.join(missing)}", "leave this to the release of a tag")
    if not deploy.REFERENCE.fullmatch(environment["REFERENCE"]):
        raise UserError(f"REFERENCE is not of the form name@sha256:…: {environment['REFERENCE']!r}")
    added = gitlab_announce.forge_facts(environment) if gitlab else forge_facts(environment)
    known = facts(environment, environment[names[0]], added)
    if gitlab:
        gitlab_announce.announce(known, [WHEEL / known.wheel] if known.wheel else [], environment)
        return
    tag = known.tag.tag
    api = Api(environment.get("GITHUB_API_URL", "https://api.github.com"), environment["GITHUB_TOKEN"], needed=NEEDED)
    repository = f"/repos/{environment['GITHUB_REPOSITORY']}"
    # for a tag that is gone GitHub would make a new one, of main
    if (found := str(api.get(f"{repository}/commits/tags%2F{tag}")["sha"])) != known.tag.commit:
        raise UserError(f"{tag} was moved from {known.tag.commit[:10]} to {found[:10]}", AGAIN)
    release = publish(api, repository, tag, notes(known))
    address = str(release["html_url"])
    if known.wheel:
        attach(api, release, WHEEL / known.wheel)
    print(f"{tag} is released: {address}")
    pull = deploy.propose(api, repository, tag, known.reference, address, environment)
    do = "open and merge" if pull and "/compare/" in pull else "merge"
    print(f"{do} this pull request to deploy it: {pull}" if pull else "deploy/ on main already names this image")
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            deploys = f" [{do.capitalize()} the pull request that deploys it]({pull})." if pull else ""
            file.write(f"[{tag}]({address}) is released.{deploys}\n")


if __name__ == "__main__":
    with errors_in_words():
        main()
