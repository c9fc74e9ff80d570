"""`make verify`: checks that this commit reproduces its `dvc.lock`.

The commit is cloned, set up from `uv.lock`, and run with an empty cache. Every output must have the hash in the
lock; the stages of those that do not are listed.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from mlops.core import madeon, paths
from mlops.core.environment import apart
from mlops.core.errors import UserError, errors_in_words
from mlops.core.git import git
from mlops.core.lock import differences, read_lock


def main() -> None:
    commit = git("rev-parse", "HEAD", environment=apart())
    if git("status", "--porcelain", "--untracked-files=no", environment=apart()):
        print("note: uncommitted changes are ignored; only the commit is verified")
    if not git("ls-files", "dvc.lock", environment=apart()):
        raise UserError("dvc.lock is not in Git", "make && git add dvc.lock && git commit")
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        clone = Path(folder) / "clone"
        print(f"cloning {commit[:10]} and running the pipeline with an empty cache", flush=True)
        git("clone", "--quiet", str(Path.cwd()), str(clone), environment=apart())
        git("-C", str(clone), "checkout", "--quiet", commit, environment=apart())
        before = read_lock(clone / paths.LOCK)
        content = (clone / paths.LOCK).read_bytes()
        made_on = madeon.read(content)
        make = ["make", "--directory", str(clone), "pipeline", "FLAGS=--force"]
        done = subprocess.run(make, env=apart(), check=False)
        if done.returncode:
            raise UserError(
                f"commit {commit[:10]} does not run in a fresh clone", "make, and commit every file it needs"
            )
        moved = differences(before, read_lock(clone / paths.LOCK))
        changed = git("-C", str(clone), "diff", "--name-only", environment=apart()).splitlines()
        # the line that names the platform may differ
        if madeon.LINE.sub(b"", (clone / paths.LOCK).read_bytes()) == madeon.LINE.sub(b"", content):
            changed = [path for path in changed if path != str(paths.LOCK)]
    if moved or changed:
        files = "\n".join(f"  stage {stage}: {path}" for stage, path in moved)
        others = "".join(f"\n  in Git: {path}" for path in changed if path != str(paths.LOCK))
        remedy = "make, and commit"
        if made_on not in (None, madeon.here()):
            # no run here can give its bits
            remedy = f"make verify on {made_on}, where dvc.lock was made; {madeon.here()} gives other last bits"
        raise UserError(f"a run without cache does not reproduce {commit[:10]}:\n{files}{others}", remedy)
    outputs = sum(len(stage.get("outs", [])) for stage in before.values())
    print(f"verified: {len(before)} stages and {outputs} outputs of {commit[:10]} are bit for bit as in dvc.lock")


if __name__ == "__main__":
    with errors_in_words():
        main()
