"""What publishing a review needs of the place where changes are proposed: GitHub or GitLab.

What comes from there is either asked of its API with the job's own token, and believed, or is content of a change,
and is data: the report of a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mlops.core.report import Sha


class Run(NamedTuple):
    """The run that reviewed a change."""

    id: int
    head: Sha
    """The commit of the change."""
    conclusion: str
    """How it ended: `success`, or another word."""
    url: str
    name: str
    """What messages call it."""


class Touched(NamedTuple):
    """A file that a change touches."""

    name: str
    before: str | None = None
    """Its name before the change, where that differs."""
    removed: bool = False


class Forge(Protocol):
    """GitHub or GitLab, for a job that holds a token."""

    @property
    def request(self) -> str:
        """What a proposed change is called there."""

    @property
    def mark(self) -> str:
        """What its number begins with."""

    def runs(self) -> Iterable[Run]:
        """The runs whose review is to be published."""

    def numbers(self, run: Run) -> list[int]:
        """Numbers of the open requests whose head is still the commit that ran."""

    def report(self, run: Run) -> bytes:
        """What a run left as `report.json`. Untrusted.

        Raises
        ------
        UserError
            Where it left none, or one that is too large.
        """

    def files(self, number: int) -> tuple[list[Touched], bool]:
        """Files that a request touches, and whether these are all; the change cannot alter this list."""

    def comment(self, run: Run, number: int, markdown: str) -> str:
        """Create or update the one comment of a request, and return what was done.

        Raises
        ------
        UserError
            Where the request was updated or closed meanwhile: nothing is posted then.
        """

    def conclude(self, run: Run, passed: bool) -> None:
        """Let the request be merged or not, where this job decides about it."""
