"""Write `models/release.json`: which commit, data and model this is, after the bytes were checked against `dvc.lock`.

DVC takes a damaged file at its word, so everything is hashed here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from mlops import contract, lineage, provenance, tables
from mlops.provenance import RELEASE, Release, folder_md5, md5
from mlops.stage import UserError, errors_in_words, write_json
from mlops.verify import read_lock

LOCK = Path("dvc.lock")
MODEL = Path("models/model.skops")


def identify() -> Release:
    """What is here, checked.

    Raises
    ------
    UserError
        Names the file that is missing, or whose hash is not the one in `dvc.lock`.
    """
    lock = read_lock(LOCK) if LOCK.exists() else {}
    expected = {out["path"]: out["md5"] for stage in lock.values() for out in stage.get("outs", [])}
    wanted = [MODEL, lineage.METRICS, lineage.EVALUATION, lineage.EXPORTED, tables.CATALOGUE]
    for path in wanted:
        if str(path) not in expected:
            raise UserError(f"dvc.lock does not name {path}", "make, and commit dvc.lock")
        if not path.is_file():
            raise UserError(f"{path} is missing; dvc.lock names its MD5 {expected[str(path)]}", "make, or dvc pull")
        found = lineage.md5(path)
        if found != expected[str(path)]:
            raise UserError(
                f"{path} is not what dvc.lock names: its MD5 is {found}, expected {expected[str(path)]}", "make"
            )
    folder = contract.FOLDER
    inside = next((path for path in sorted(folder.glob("*")) if path.is_dir()), None)
    if inside:
        raise UserError(f"{inside} is a folder; beside the model there is none", f"rm -r {inside}")
    files = {path.name: md5(path.read_bytes()) for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    found, named = folder_md5(files), expected.get(str(folder))
    if found != named:
        hint = "make, or dvc checkout --force"
        raise UserError(f"{folder} is not what dvc.lock names: its MD5 is {found}, expected {named}", hint)
    catalogue = tables.read_catalogue()
    evaluation = json.loads(lineage.EVALUATION.read_text(encoding="utf-8"))
    return Release(
        version=version(),
        commit=lineage.commit(),
        model_md5=expected[str(MODEL)],
        service_md5=expected[str(folder)],
        files=files,
        data={
            "source": catalogue.source,
            "rows": catalogue.rows,
            "sha256": catalogue.sha256,
            **{f"{path.stem}_md5": expected.get(str(path)) for path in (tables.TRAIN, tables.TEST)},
        },
        export=json.loads(lineage.EXPORTED.read_text(encoding="utf-8")),
        metrics={name: _interval(each) for name, each in evaluation["metrics"].items()},
    )


def _interval(estimate: dict[str, Any]) -> dict[str, Any]:
    return {key: estimate[key] for key in ("value", "low", "high")}


def version() -> str:
    """``1.4.0`` on the tag v1.4.0; between two tags the last one, the commits since, and the commit.

    A commit may have two, a release candidate's and the release's: then the one that GitHub runs for counts.
    """
    tag = os.environ.get("GITHUB_REF_NAME", "")
    if os.environ.get("GITHUB_REF_TYPE") == "tag" and tag in _git("tag", "--points-at", "HEAD").splitlines():
        return tag.removeprefix("v") + ("-dirty" if lineage.commit().endswith("-dirty") else "")
    found = _git("describe", "--tags", "--match", "v[0-9]*", "--dirty", "--always", "--abbrev=10") or "unknown"
    return found.removeprefix("v") if found.startswith("v") else f"0.0.0-{found}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def _known(release: Release) -> bool:
    """Whether that is written already, so that what runs side by side does not write one file."""
    try:
        return provenance.read(RELEASE) == release
    except UserError:  # it is missing or broken
        return False


def main() -> None:
    release = identify()
    if not _known(release):
        write_json(release.model_dump(), RELEASE)
    print(f"release {release.version} of commit {release.commit[:10]}, model {release.model_md5[:10]} → {RELEASE}")


if __name__ == "__main__":
    with errors_in_words():
        main()
