"""`python -m mlops.release.deployed`: the version that runs in production, as `deploy/` on main names it."""

from __future__ import annotations

from mlops.core.errors import UserError, errors_in_words
from mlops.release import lineage
from mlops.release.deploy import PLACES, STAGING


def version() -> str:
    """The version whose image production runs, without the `v` of its tag.

    Raises
    ------
    UserError
        If nothing is deployed, the places disagree, or no commit names the version of the image.
    """
    history = lineage.deployments(lineage.main_branch())
    images = history[-1].images if history else {}
    digests = {images[place].partition("@")[2] for place in PLACES if place in images and place != STAGING}
    if not digests:
        raise UserError("deploy/ on main names no image in production", "release and deploy a version first")
    if len(digests) > 1:
        named = ", ".join(f"{place} {images[place].partition('@')[2][:19]}" for place in PLACES if place in images)
        raise UserError(f"deploy/ on main names several images: {named}", "make monitor LOG=folder VERSION=1.4.0")
    (digest,) = digests
    found = lineage.versions(history).get(digest)
    if not found:
        raise UserError(f"no commit of deploy/ names the version of {digest[:19]}", "make monitor VERSION=1.4.0")
    return found.removeprefix("v")


if __name__ == "__main__":
    with errors_in_words():
        print(version())
