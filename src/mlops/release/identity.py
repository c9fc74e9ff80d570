"""Write `models/release.json`: which commit, data and model this is, after the bytes were checked against `dvc.lock`.

DVC does not notice corrupt files, so every file is hashed here.
"""

from __future__ import annotations

import json
import os
from typing import Any

from mlops.core import journal, outdated, paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import folder_md5, md5, write_json
from mlops.core.git import git
from mlops.core.lock import outputs, read_lock
from mlops.core.paths import RELEASE
from mlops.data import tables
from mlops.inference import provenance
from mlops.inference.provenance import Release


def identify() -> Release:
    """Identify the release of the files here, after checking their hashes.

    Raises
    ------
    UserError
        Names the file that is missing, or whose hash is not the one in `dvc.lock`.
    """
    lock = read_lock() if paths.LOCK.exists() else {}
    expected = {path: out["md5"] for path, out in outputs(lock).items()}
    wanted = [paths.MODEL, paths.METRICS, paths.EVALUATION, paths.EXPORTED, paths.CATALOGUE]
    for path in wanted:
        if str(path) not in expected:
            raise UserError(f"dvc.lock does not name {path}", "make, and commit dvc.lock")
        if not path.is_file():
            raise UserError(f"{path} is missing; dvc.lock names its MD5 {expected[str(path)]}", "make, or dvc pull")
        found = md5(path)
        if found != expected[str(path)]:
            raise UserError(
                f"{path} does not match dvc.lock: its MD5 is {found}, expected {expected[str(path)]}", "make"
            )
    folder = paths.SERVICE
    inside = next((path for path in sorted(folder.glob("*")) if path.is_dir()), None)
    if inside:
        raise UserError(f"{inside} is a folder; the folder of the model must hold files only", f"rm -r {inside}")
    files = {path.name: md5(path) for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    found, named = folder_md5(files), expected.get(str(folder))
    if found != named:
        hint = "make, or dvc checkout --force"
        raise UserError(f"{folder} does not match dvc.lock: its MD5 is {found}, expected {named}", hint)
    catalogue = tables.read_catalogue()
    evaluation = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
    return Release(
        version=version(),
        commit=journal.commit(),
        model_md5=expected[str(paths.MODEL)],
        service_md5=expected[str(folder)],
        files=files,
        data={
            "source": catalogue.source,
            "rows": catalogue.rows,
            "sha256": catalogue.sha256,
            **{f"{path.stem}_md5": expected.get(str(path)) for path in (paths.TRAIN, paths.TEST)},
        },
        export=json.loads(paths.EXPORTED.read_text(encoding="utf-8")),
        metrics={name: _interval(each) for name, each in evaluation["metrics"].items()},
        log=settings_module.load().monitor.log,
    )


def _interval(estimate: dict[str, Any]) -> dict[str, Any]:
    return {key: estimate[key] for key in ("value", "low", "high")}


def version() -> str:
    """``1.4.0`` on the tag v1.4.0; between two tags the last one, the commits since, and the commit.

    A commit may have two, a release candidate's and the release's: then the one that GitHub runs for counts.
    """
    tag = os.environ.get("GITHUB_REF_NAME", "")
    if (
        os.environ.get("GITHUB_REF_TYPE") == "tag"
        and tag in git("tag", "--points-at", "HEAD", check=False).splitlines()
    ):
        return tag.removeprefix("v") + ("-dirty" if journal.commit().endswith("-dirty") else "")
    found = (
        git("describe", "--tags", "--match", "v[0-9]*", "--dirty", "--always", "--abbrev=10", check=False) or "unknown"
    )
    return found.removeprefix("v") if found.startswith("v") else f"0.0.0-{found}"


def _known(release: Release) -> bool:
    """Whether that is written already, so that what runs side by side does not write one file."""
    try:
        return provenance.read(RELEASE) == release
    except UserError:  # it is missing or broken
        return False


def _older() -> str:
    """Says that the model is older than the settings or the code, if it is."""
    changed = outdated.since(read_lock(), paths.SERVICE)
    if not changed:
        return ""
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"note: the model is older than {', '.join(changed[:3])}{more}; `make` trains it anew"


def main() -> None:
    release = identify()
    if older := _older():
        print(older)
    if not _known(release):
        write_json(release.model_dump(), RELEASE)
    print(f"release {release.version} of commit {release.commit[:10]}, model {release.model_md5[:10]} → {RELEASE}")


if __name__ == "__main__":
    with errors_in_words():
        main()
