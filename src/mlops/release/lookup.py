"""Finds what an ID names: rows of the prediction log, a version, the digest of an image, a model's hash or a commit.

IDs come from clients and from elsewhere. None is passed to Git before it is known to be hexadecimal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from mlops.core.errors import UserError, counted
from mlops.core.git import git
from mlops.core.markdown import one_line
from mlops.monitoring.log import WholeLine, lines, segments
from mlops.release import lineage
from mlops.release.lineage import MODEL, Commit, Deployment, Tag

HEXADECIMAL = re.compile("[0-9a-f]{6,64}", re.A)
DIGEST = re.compile(r"(?:[a-z0-9][a-z0-9.:/_-]*@)?sha256:([0-9a-f]{6,64})", re.A)
DESCRIBED = re.compile(r"(?:.+-[0-9]+-g|0\.0\.0-)([0-9a-f]{6,40})", re.A)
"""What `git describe` names between two tags, and without a tag."""
MOST_FOUND = 1_000  # rows of a request


class Target(NamedTuple):
    """What an ID names; None where it is not known."""

    commit: str | None
    tag: str | None = None
    model: str | None = None
    digest: str | None = None


class Repository:
    """The history that IDs are looked up in, each part read when it is needed."""

    @cached_property
    def tip(self) -> str:
        return lineage.main_branch()

    @cached_property
    def tags(self) -> list[Tag]:
        return lineage.tags()

    @cached_property
    def deployments(self) -> list[Deployment]:
        return lineage.deployments(self.tip)

    @cached_property
    def versions(self) -> dict[str, str]:
        return lineage.versions(self.deployments)

    @cached_property
    def merged(self) -> list[tuple[Commit, dict[str, str]]]:
        return lineage.merged_models(self.tip)

    @cached_property
    def tagged(self) -> list[tuple[Tag, str | None]]:
        """Each tag with the hash of its model."""
        commits = lineage.described(tag.commit for tag in self.tags)
        found = dict(zip(commits, lineage.models(list(commits.values())), strict=True))
        return [(tag, found.get(tag.commit, {}).get(MODEL)) for tag in self.tags]

    def find(self, text: str) -> Target:
        """What an ID names.

        Raises
        ------
        UserError
            Where it names nothing, or more than one thing.
        """
        text = text.strip()
        clean = text.removesuffix("-dirty")
        for tag in self.tags:
            if tag.name in (clean, f"v{clean}"):
                return Target(tag.commit, tag.name)
        if match := DIGEST.fullmatch(clean):
            return self._one(text, list(self._digests(match[1])))
        match = DESCRIBED.fullmatch(clean)
        short = (match[1] if match else clean).lower()
        found: dict[str, Target] = {}
        if HEXADECIMAL.fullmatch(short):
            found |= {f"commit {sha}": Target(sha) for sha in self._commits(short)}
            if not match:
                found |= {f"model {md5}": self._model(md5) for md5 in self._models(short)}
                found |= {f"image {each.digest}": each for each in self._digests(short)}
        return self._one(text, list(found.values()), list(found))

    def _one(self, text: str, found: list[Target], names: list[str] | None = None) -> Target:
        shown = one_line(text, 80)
        if len(found) == 1:
            return found[0]
        if found:
            what = names or [f"image sha256:{each.digest}" for each in found]
            raise UserError(f"the ID {shown!r} is ambiguous: {', '.join(what[:5])}", "give more digits of it")
        models = {md5 for md5 in (*(each[MODEL] for _, each in self.merged), *(each for _, each in self.tagged)) if md5}
        searched = (
            f"{counted(len(self.tags), 'tag')}, {counted(len(models), 'model')} in the dvc.lock of main and of tags, "
            f"{counted(len(self.versions), 'image')} in deploy/, and the commits of this clone"
        )
        hint = "git fetch origin --tags" + (" --unshallow" if lineage.is_shallow() else "")
        raise UserError(
            f"nothing is known by the ID {shown!r}; searched: {searched}",
            f"{hint}; of a hash, at least 6 digits; for a request: make trace ID=… LOG=folder of the prediction log",
        )

    def _commits(self, short: str) -> list[str]:
        objects = git("rev-parse", f"--disambiguate={short}", check=False).splitlines() if len(short) <= 40 else []
        kinds = git("cat-file", "--batch-check", given="\n".join(objects)).splitlines() if objects else []
        return [line.split()[0] for line in kinds if line.split()[1] == "commit"]

    def _models(self, short: str) -> list[str]:
        known = [*(each[MODEL] for _, each in self.merged), *(each for _, each in self.tagged if each)]
        return list(dict.fromkeys(md5 for md5 in known if md5.startswith(short)))

    def _model(self, md5: str) -> Target:
        """The first commit on main that has the model; else the first tag that does."""
        for commit, each in self.merged:
            if each[MODEL] == md5:
                return Target(commit.sha, model=md5)
        return next(Target(tag.commit, tag.name, md5) for tag, each in self.tagged if each == md5)

    def _digests(self, short: str) -> Iterator[Target]:
        for digest, version in self.versions.items():
            if digest.removeprefix("sha256:").startswith(short):
                tag = next((tag for tag in self.tags if tag.name == version), None)
                yield Target(tag and tag.commit, version or None, digest=digest)


def requests(folder: Path, request_id: str) -> tuple[list[WholeLine], int, list[str]]:
    """The rows of a request in the prediction log, by time, how many there are, and the names of damaged files.

    A client may use an id more than once, so the rows may be of several releases. The first `MOST_FOUND` are returned.
    """
    damaged: list[str] = []
    found: list[WholeLine] = []
    count = 0
    for line in of_request(folder, request_id, damaged):
        found.append(line)
        count += 1
        if len(found) == 2 * MOST_FOUND:  # a client may use one id for all that it asks
            found = sorted(found, key=by_time)[:MOST_FOUND]
    return sorted(found, key=by_time)[:MOST_FOUND], count, damaged


def by_time(line: WholeLine) -> tuple[str, int]:
    return line.time, line.row


def of_request(folder: Path, request_id: str, damaged: list[str]) -> Iterator[WholeLine]:
    """The rows of a request, in the order of the log; adds the names of damaged files."""
    decoder = msgspec.json.Decoder(WholeLine)
    # decoding takes ten times as long as this search, which finds the ids that the service takes
    plain = json.dumps(request_id).encode() if re.fullmatch("[A-Za-z0-9._-]+", request_id, re.A) else b""
    for path in segments(folder):
        for text in lines(path, damaged):
            if plain not in text:
                continue
            try:
                line = decoder.decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            if line.request_id == request_id:
                yield line
