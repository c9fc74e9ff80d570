"""`dvc repro` for `make`: the same run, log, errors and exit code, without hints that other commands should follow.

DVC ends a run with advice on Git, autostaging and the remote, between our own lines. The summary of `make` says it
once instead, where there is something to commit or push. If `dvc.lock` has changed, it names this platform.
"""

from __future__ import annotations

import logging
import sys

from dvc.cli import main as dvc
from dvc.commands import repro

from mlops.core import madeon
from mlops.core.paths import LOCK


class Repro(repro.CmdRepro):  # type: ignore[misc]
    """DVC's command, without `Use dvc push to send your updates` at its end."""

    def run(self) -> int:
        if not self.repo.reproduce(**self._common_kwargs, **self._repro_kwargs):
            print("Data and pipelines are up to date.")
        return 0


def main(arguments: list[str]) -> int:
    """Run `dvc repro` with these arguments, and return its exit code."""
    # `To track the changes with git, run`; there is no setting for it, and --quiet would hide errors as well
    logging.getLogger("dvc.repo.scm_context").setLevel(logging.WARNING)
    repro.CmdRepro = Repro
    before = _content()
    code: int = dvc(["repro", *arguments])
    if _content() not in (before, b""):
        madeon.write()
    return code


def _content() -> bytes:
    return LOCK.read_bytes() if LOCK.exists() else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
