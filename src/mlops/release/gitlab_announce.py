"""GitLab for `make release-announce`: the release with its notes and files, and the merge request that deploys it.

The job's own token writes the release. It can neither push nor open a merge request, so this needs an access token;
without one, the release is complete and a person opens the merge request.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.gitlab import Api, quiet
from mlops.release import deploy
from mlops.release.notes import Facts, notes
from mlops.release.place import sha256
from mlops.release.tag import AGAIN, FOLDER, MAIN

NAMES = ("CI_COMMIT_TAG", "CI_API_V4_URL", "CI_PROJECT_ID", "CI_PROJECT_URL", "CI_JOB_TOKEN")
SBOM = FOLDER / "sbom.json"
NEEDED = "who pushed the tag must be able to create it, and the project have a package registry: docs/gitlab.md"


def forge_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """The facts of GitLab: addresses, and that nothing is signed; so the notes hold the hash of each file."""
    if not SBOM.is_file():
        raise UserError(f"{SBOM} is missing", "start all jobs of the pipeline again")
    page = f"{environment['CI_PROJECT_URL']}/-"
    files = f"{page}/releases/{environment['CI_COMMIT_TAG']}/downloads"
    return {"page": page, "files": files, "mark": "!", "attested": False, "sbom": sha256(SBOM)}


def announce(known: Facts, wheels: list[Path], environment: Mapping[str, str]) -> None:
    """Create or update the release of a tag, attach its files, and propose its deployment.

    Raises
    ------
    UserError
        Where the tag is gone or was moved: nothing is announced then.
    """
    tag = known.tag.tag
    git("fetch", "--quiet", "origin", f"refs/tags/{tag}")
    if (found := git("rev-parse", "FETCH_HEAD^{commit}")) != known.tag.commit:
        raise UserError(f"{tag} was moved from {known.tag.commit[:10]} to {found[:10]}", AGAIN)
    url, project = environment["CI_API_V4_URL"], f"/projects/{environment['CI_PROJECT_ID']}"
    api = Api(url, environment["CI_JOB_TOKEN"], header="JOB-TOKEN", needed=NEEDED)
    publish(api, project, tag, quiet(notes(known)))
    attach(api, project, tag, [SBOM, *wheels])
    address = f"{known.page}/releases/{tag}"
    print(f"{tag} is released: {address}")
    if not (token := environment.get("DEPLOYMENT_TOKEN")):
        do = f"write {known.reference} into deploy/ with a merge request"
        print(f"no merge request deploys it, because DEPLOYMENT_TOKEN is not set: {do}")
        return
    request = propose(Api(url, token), project, tag, known.reference, address)
    print(f"merge this to deploy it: {request}" if request else f"deploy/ on {MAIN} names this image already")


def publish(api: Api, project: str, tag: str, text: str) -> None:
    """Create the release of a tag, or update the one that is there."""
    body = {"name": tag, "description": text}
    # without `ref`, GitLab makes no tag
    if api.post(f"{project}/releases", {"tag_name": tag, **body}, refusal=409) is None:
        api.put(f"{project}/releases/{tag}", body)


def attach(api: Api, project: str, tag: str, files: Iterable[Path]) -> None:
    """Put files into the package registry, and link the release to them."""
    links = f"{project}/releases/{tag}/assets/links"
    there = {link["name"] for link in api.pages(links)}
    for path in files:
        package = f"{project}/packages/generic/release/{tag.removeprefix('v')}/{path.name}"
        # also in a second run: the notes hold the hash of this file
        api.upload(package, path.read_bytes())
        if path.name in there:
            continue
        link = {"name": path.name, "url": f"{api.url}{package}", "direct_asset_path": f"/{path.name}"}
        api.post(links, {**link, "link_type": "package"})


def propose(api: Api, project: str, tag: str, reference: str, notes: str) -> str | None:
    """Open the merge request that deploys an image, or bring it up to date; a release candidate goes to staging only.

    Returns
    -------
    str or None
        Its address; None where main names the image already.
    """
    parent, texts = deploy.needed(tag, reference, os.environ)
    if not texts:
        return None
    branch = f"deploy/{tag}"
    files = [{"action": "update", "file_path": str(path), "content": text} for path, text in texts.items()]
    commit = {"branch": branch, "start_sha": parent, "commit_message": deploy.message(tag, reference), "actions": files}
    # the branch is ours alone; what an earlier attempt left on it is replaced
    api.post(f"{project}/repository/commits", {**commit, "force": True})
    text = f"{deploy.described(tag, reference, notes, texts)}Merge it to deploy. Its revert rolls back.\n"
    what = {"title": f"Deploy {tag}", "description": text}
    opened = api.pages(f"{project}/merge_requests", state="opened", source_branch=branch, target_branch=MAIN)
    for request in opened:
        # a fork may have a branch of this name
        if request["source_project_id"] == request["target_project_id"]:
            return str(api.put(f"{project}/merge_requests/{request['iid']}", what)["web_url"])
    where = {"source_branch": branch, "target_branch": MAIN, "remove_source_branch": True}
    return str(api.post(f"{project}/merge_requests", {**where, **what})["web_url"])
