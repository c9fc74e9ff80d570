"""What tests and measures the template itself, and so does not come along into a project.

Git still has these files: they are removed from the working tree alone, and only where nobody changed them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlops.core.files import atomic
from mlops.core.git import git
from mlops.core.template.merge import TEMPLATE_ONLY

DEPENDABOT = Path(".github/dependabot.yml")
MARK = "  # of the template alone: `make start` removes the rest of this file\n"


def remove() -> int:
    """Remove the files that are as Git has them.

    Returns
    -------
    int
        Their number; 0 in a folder that is no Git repository.
    """
    changed = set(_listed("diff", "--name-only", "--relative", "-z", "HEAD"))
    tracked = _listed("ls-files", "-z")
    removed = [Path(name) for name in tracked if TEMPLATE_ONLY.fullmatch(name) and name not in changed]
    for path in removed:
        path.unlink(missing_ok=True)
    # the deepest first
    for folder in sorted({parent for path in removed for parent in path.parents}, reverse=True):
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        if folder != Path() and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    _shorten(DEPENDABOT)
    return len(removed)


def _shorten(path: Path) -> None:
    """Cut a file where it begins to be about removed folders."""
    kept, mark, _ = path.read_text(encoding="utf-8").partition(MARK) if path.exists() else ("", "", "")
    if mark:
        with atomic(path) as partial:
            partial.write_text(kept.rstrip() + "\n", encoding="utf-8")


def _listed(*arguments: str) -> list[str]:
    return [name for name in git(*arguments, check=False).split("\0") if name]
