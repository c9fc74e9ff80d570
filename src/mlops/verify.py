"""`make verify`: is `dvc.lock` what this commit makes?

The commit is cloned to an empty place with an empty cache, set up from `uv.lock` and run cold. Every output must come
out as the lock has it; one that does not is named with its stage.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlops.stage import UserError, errors_in_words

# what names begin with that lead Git, make, uv or Python in another folder back to this one, or to its environment
LEADING_HERE = (
    *("GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE"),
    *("GNUMAKEFLAGS", "MAKE", "MFLAGS"),
    *("PYTHONHOME", "PYTHONPATH", "UV_PROJECT", "UV_WORKING_DIR", "VIRTUAL_ENV"),
)


def main() -> None:
    commit = _git("rev-parse", "HEAD")
    if _git("status", "--porcelain", "--untracked-files=no"):
        print("note: there are uncommitted changes; it is the commit that is verified, without them")
    if not _git("ls-files", "dvc.lock"):
        raise UserError("dvc.lock is not in Git", "make && git add dvc.lock && git commit")
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        clone = Path(folder) / "clone"
        print(f"cloning {commit[:10]} and running it cold", flush=True)
        _git("clone", "--quiet", str(Path.cwd()), str(clone))
        _git("-C", str(clone), "checkout", "--quiet", commit)
        before = read_lock(clone / "dvc.lock")
        make = ["make", "--directory", str(clone), "pipeline", "FLAGS=--force"]
        done = subprocess.run(make, env=apart(), check=False)
        if done.returncode:
            raise UserError(f"commit {commit[:10]} does not run in a fresh clone", "make, and commit what it needs")
        moved = differences(before, read_lock(clone / "dvc.lock"))
        changed = _git("-C", str(clone), "diff", "--name-only").splitlines()
    if moved or changed:
        files = "\n".join(f"  stage {stage}: {path}" for stage, path in moved)
        others = "".join(f"\n  in Git: {path}" for path in changed if path != "dvc.lock")
        raise UserError(f"a cold run gives other files than {commit[:10]} holds:\n{files}{others}", "make, and commit")
    outputs = sum(len(stage.get("outs", [])) for stage in before.values())
    print(f"verified: {len(before)} stages and {outputs} outputs of {commit[:10]} came out bit for bit as in dvc.lock")


def apart() -> dict[str, str]:
    """The variables for a command in a clone, which must change neither this checkout nor its `.venv`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(LEADING_HERE)}


def read_lock(path: Path) -> dict[str, Any]:
    """The stages of a `dvc.lock`.

    Raises
    ------
    UserError
        Where it is empty, half a file, or two that Git could not merge.
    """
    try:
        document = YAML(typ="safe").load(path)
    except YAMLError:
        document = None
    stages = document.get("stages") if isinstance(document, dict) else None
    if not isinstance(stages, dict):
        raise UserError(
            f"{path} is no file of DVC's; was it merged with a conflict?", f"git checkout HEAD {path} && make"
        )
    return stages


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    """Stages and outputs whose hash differs, or that only one lock has."""
    hashes = [
        {(name, out["path"]): out["md5"] for name, stage in lock.items() for out in stage.get("outs", [])}
        for lock in (before, after)
    ]
    keys = dict.fromkeys([*hashes[1], *hashes[0]])
    return [key for key in keys if hashes[0].get(key) != hashes[1].get(key)]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], env=apart(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    with errors_in_words():
        main()
