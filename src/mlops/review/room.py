"""Main's own `src/project/`, so that main's model is scored with main's features and estimators, not this change's."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mlops.core.git import git, show
from mlops.core.hooks import PACKAGE, ROOM


class Room:
    """The team's code of a commit, beside the code of this change.

    Parameters
    ----------
    commit : str
    folder : Path
        Where its files are written; what is there is removed.
    """

    def __init__(self, commit: str, folder: Path) -> None:
        self.folder = folder.resolve()
        self.modules: dict[str, ModuleType] = {}
        shutil.rmtree(self.folder, ignore_errors=True)
        # a commit without this package has an empty one, or this change's would be found
        (self.folder / PACKAGE).mkdir(parents=True)
        (self.folder / PACKAGE / "__init__.py").touch()
        listed = git("ls-tree", "-r", "-z", "--name-only", commit, "--", f"{ROOM.as_posix()}/")
        for name in filter(None, listed.split("\0")):
            path = self.folder / PACKAGE / Path(name).relative_to(ROOM)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(show(commit, Path(name)) or b"")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """While the block runs, `project` is the commit's, here and in processes that are started."""
        ours = _taken_out()
        sys.modules.update(self.modules)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.folder), before]))
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            self.modules = _taken_out()
            sys.modules.update(ours)
            sys.path.remove(str(self.folder))
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before


def _taken_out() -> dict[str, ModuleType]:
    """The modules of the team that are imported, which are not so any more."""
    names = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}
