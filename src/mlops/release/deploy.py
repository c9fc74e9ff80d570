"""The places in `deploy/` that say which image runs, and the pull request that changes them.

An image is named by its digest and by nothing else. Merging the pull request deploys; reverting it rolls back.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from ruamel.yaml import YAML

from mlops.core.commits import commit_files, signed
from mlops.core.errors import UserError
from mlops.core.files import atomic
from mlops.core.git import git, show
from mlops.core.github import Api
from mlops.release.tag import MAIN, parse

REFERENCE = re.compile(r"[a-z0-9][a-z0-9.:/_-]*@sha256:[0-9a-f]{64}", re.A)
NOTHING = "sha256:" + "0" * 64
"""What stands in `deploy/` before the first release."""
KEY = "model"  # what the manifests of the base call the image
STAGING = Path("deploy/kubernetes/overlays/staging/kustomization.yaml")
LINES = {Path("deploy/compose/.env"): "MODEL_IMAGE", Path("deploy/quadlet/model.container"): "Image"}
PLACES = (
    *LINES,
    STAGING,
    Path("deploy/kubernetes/overlays/production/kustomization.yaml"),
    Path("deploy/knative/kustomization.yaml"),
)


def write(reference: str, places: tuple[Path, ...] = PLACES) -> list[Path]:
    """Write `name@sha256:…` into `deploy/`, and return the files that changed."""
    texts = changed(reference, lambda path: path.read_bytes() if path.exists() else None, places)
    for path, text in texts.items():
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return list(texts)


def changed(reference: str, read: Callable[[Path], bytes | None], places: tuple[Path, ...] = PLACES) -> dict[Path, str]:
    """The files of `deploy/` that name another image, as they should be."""
    if not REFERENCE.fullmatch(reference):
        raise UserError(f"{reference!r} is not of the form name@sha256:…", "name the image by digest, not by tag")
    contents = {path: content.decode("utf-8") for path in places if (content := read(path)) is not None}
    if not contents:
        raise UserError(f"no file in deploy/ names an image: expected one of {', '.join(map(str, places))}")
    replaced = {path: _replaced(path, text, reference) for path, text in contents.items()}
    return {path: text for path, text in replaced.items() if text != contents[path]}


def deployed(path: Path, text: str) -> str | None:
    """The image that a file names."""
    if path in LINES:
        found = re.search(rf"^{LINES[path]}=(\S+)\s*$", text, re.M)
        return found[1] if found else None
    for entry in YAML(typ="safe").load(text).get("images") or []:
        if entry.get("name") == KEY and "digest" in entry:
            return f"{entry.get('newName', KEY)}@{entry['digest']}"
    return None


def _replaced(path: Path, text: str, reference: str) -> str:
    if path in LINES:
        new, count = re.subn(rf"^{LINES[path]}=.*$", f"{LINES[path]}={reference}", text, flags=re.M)
        if count != 1:
            raise UserError(f"{path}: {count} lines begin with {LINES[path]}=; expected one")
        return new
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 4096
    document = yaml.load(text)
    entries = [entry for entry in document.get("images") or [] if entry.get("name") == KEY]
    if len(entries) != 1:
        raise UserError(f"{path}: {len(entries)} entries of images are named {KEY}; expected one")
    entries[0]["newName"], entries[0]["digest"] = reference.split("@")
    entries[0].pop("newTag", None)
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def propose(
    api: Api, repository: str, tag: str, reference: str, notes: str, environment: Mapping[str, str]
) -> str | None:
    """Open the pull request that deploys an image, or bring it up to date; a release candidate goes to staging only.

    Where the repository does not let workflows open pull requests, which is one setting with letting them approve, the
    branch is pushed and a person opens it.

    Returns
    -------
    str or None
        Its address, or that of a form in which everything is filled in; None where main names the image already.
    """
    branch = f"deploy/{tag}"
    with_token = signed(environment)
    parent, texts = needed(tag, reference, with_token)
    if not texts:
        return None
    made = commit_files(parent, {str(path): text.encode() for path, text in texts.items()}, message(tag, reference))
    # the branch is ours alone; what an earlier attempt left on it is replaced
    git("push", "--quiet", "--force", "origin", f"{made}:refs/heads/{branch}", environment=with_token)
    owner = repository.split("/")[2]
    body = (
        f"{described(tag, reference, notes, texts)}Merge it to deploy. `make rollback` opens the way back.\n\n"
        "<sub>Where a workflow opened this, its checks wait for *Approve workflows to run*.</sub>\n"
    )
    what = {"title": f"Deploy {tag}", "body": body}
    for pull in api.pages(f"{repository}/pulls", state="open", head=f"{owner}:{branch}"):
        return str(api.patch(f"{repository}/pulls/{pull['number']}", what)["html_url"])
    pull = api.post(f"{repository}/pulls", {**what, "head": branch, "base": MAIN}, refusal=403)
    if pull is not None:
        return str(pull["html_url"])
    server = environment.get("GITHUB_SERVER_URL", "https://github.com")
    form = f"{server}/{repository.removeprefix('/repos/')}/compare/{MAIN}...{quote(branch)}"
    return f"{form}?{urlencode({'expand': 1, **what})}"


def needed(tag: str, reference: str, environment: Mapping[str, str]) -> tuple[str, dict[Path, str]]:
    """The last commit of main, and the files that it must have to deploy an image; `environment` is git's."""
    places = (STAGING,) if parse(tag).is_candidate else PLACES
    git("fetch", "--quiet", "origin", f"refs/heads/{MAIN}", environment=environment)
    parent = git("rev-parse", "FETCH_HEAD")
    return parent, changed(reference, lambda path: show(parent, path), places)


def message(tag: str, reference: str) -> str:
    """Message of the commit that deploys an image; `make trace` finds the version in it."""
    return f"Deploy {tag}\n\n{reference}"


def described(tag: str, reference: str, notes: str, files: Iterable[Path]) -> str:
    """What the request that deploys an image does."""
    where = "staging" if list(files) == [STAGING] else "every place in `deploy/`"
    return f"Deploys [{tag}]({notes}) to {where}, by its digest:\n\n```text\n{reference}\n```\n\n"
