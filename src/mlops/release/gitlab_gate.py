"""GitLab for `make release-verify`: the commit status that `make publish` set before the merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.gitlab import Api

NAMES = ("CI_COMMIT_TAG", "CI_API_V4_URL", "CI_PROJECT_ID", "CI_PROJECT_URL", "CI_DEFAULT_BRANCH", "RELEASE_TOKEN")
STATUS = "mlops-review"
AGAIN = "merge a change into the default branch through a merge request, and tag that commit"


def passed(environment: Mapping[str, str], commit: str) -> dict[str, Any]:
    """The merge request that was merged as this commit, the head that was judged, and where.

    Raises
    ------
    UserError
        Where its status is missing or failed, or where what was merged has other files than what was judged.
    """
    api = Api(environment["CI_API_V4_URL"], environment["RELEASE_TOKEN"])
    project = f"/projects/{environment['CI_PROJECT_ID']}/repository/commits"
    for request in api.pages(f"{project}/{commit}/merge_requests"):
        merged = {request["sha"], request["merge_commit_sha"], request["squash_commit_sha"]}
        branch = environment["CI_DEFAULT_BRANCH"]
        if request["state"] != "merged" or request["target_branch"] != branch or commit not in merged:
            continue
        number, head = int(request["iid"]), str(request["sha"])
        git("fetch", "--quiet", "origin", f"refs/merge-requests/{number}/head")
        if git("rev-parse", "FETCH_HEAD") != head:
            raise UserError(f"merge request !{number} has another head than {head[:10]}", AGAIN)
        if git("rev-parse", f"{head}^{{tree}}") != git("rev-parse", f"{commit}^{{tree}}"):
            raise UserError(
                f"`{STATUS}` is about {head[:10]}, but the files of {commit[:10]} differ: its branch was behind",
                f"set the merge method Fast-forward merge (docs/gitlab.md); {AGAIN}",
            )
        found = api.pages(f"{project}/{head}/statuses", name=STATUS)
        last = max(found, key=lambda each: int(each["id"]), default={"status": "missing"})
        if last["status"] != "success":
            raise UserError(f"`{STATUS}` has not passed for {head[:10]}: it is {last['status']!r}", AGAIN)
        return {
            "pull_request": number,
            "head": head,
            "url": f"{environment['CI_PROJECT_URL']}/-/merge_requests/{number}",
        }
    raise UserError(f"no merge request was merged as {commit[:10]}, so it was not reviewed", AGAIN)
