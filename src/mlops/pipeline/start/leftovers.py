"""The last step of the first `make start`: remove what tests and measures the template itself.

Git still has these files: they are removed from the working tree alone, and only where they are the template's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlops.core import started
from mlops.core.errors import counted, errors_in_words
from mlops.core.files import atomic
from mlops.core.git import git, show
from mlops.core.template import record
from mlops.core.template.merge import TEMPLATE_ONLY, Files, files

DEPENDABOT = ".github/dependabot.yml"
MARK = "  # of the template alone: `make start` removes the rest of this file\n"


def main() -> None:
    if count := remove():
        print(f"removed   {counted(count, 'file')} that test and measure the template itself; Git still has them")


def remove() -> int:
    """Remove the files that neither a commit nor an edit has changed since the project began.

    Returns
    -------
    int
        Their number; 0 if a commit has started the project already, and without Git.
    """
    if not git("rev-parse", "--verify", "--quiet", "HEAD", check=False):
        return 0
    began, now = beginning(), files("HEAD")
    if began is None or now.get(started.PARAMS) != began.get(started.PARAMS):
        return 0
    edited = set(git("diff", "--name-only", "--no-renames", "-z", "HEAD").split("\0"))
    same = {path for path, what in now.items() if began.get(path) == what and path not in edited}
    removed = [Path(path) for path in same if TEMPLATE_ONLY.fullmatch(path)]
    for path in removed:
        path.unlink(missing_ok=True)
    # the deepest first
    for folder in sorted({parent for path in removed for parent in path.parents}, reverse=True):
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        if folder != Path() and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if DEPENDABOT in same:
        _shorten(Path(DEPENDABOT))
    return len(removed)


def beginning() -> Files | None:
    """The files that the project began with: its first commit, or what `make start` recorded in a clone or fork."""
    first = git("rev-list", "--max-parents=0", "HEAD").splitlines()[-1]
    if show(first, record.PATH) is not None:
        return files(first)
    content = Path(record.PATH).read_text(encoding="utf-8") if Path(record.PATH).exists() else "{}"
    tree = record.parse(content).tree
    return files(tree) if tree and git("cat-file", "-t", tree, check=False) == "tree" else None


def _shorten(path: Path) -> None:
    """Cut a file where it begins to be about removed folders."""
    kept, mark, _ = path.read_text(encoding="utf-8").partition(MARK)
    if mark:
        with atomic(path) as partial:
            partial.write_text(kept.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    with errors_in_words():
        main()
