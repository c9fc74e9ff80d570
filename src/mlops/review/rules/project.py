"""A row about a rule of the team's own, `{rule: project.NAME, …}`: a function in `src/project/rules.py`.

Only the run of the pull request can call the function, so the job that posts the comment takes its verdict as it is.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from mlops.review.rules.base import Case, Finding, Inconclusive, Rule

PREFIX = "project."


class ProjectRule(Rule):
    """A function in `src/project/rules.py`; further keys are its parameters."""

    # settings are frozen and say where a key is wrong; here the function says which keys there are
    model_config = ConfigDict(extra="allow")

    derivable: ClassVar = False

    rule: str = Field(pattern=r"^project\.[A-Za-z_]\w*$", description="`project.` and the name of the function.")
    inconclusive: Inconclusive = "warn"

    @property
    def function(self) -> str:
        """Name of the function."""
        return self.rule.removeprefix(PREFIX)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the function is called with, beside the evidence."""
        return dict(self.model_extra or {})

    def find(self, case: Case) -> Finding:
        from mlops.review import project_rules  # it needs NumPy

        return project_rules.find(self, case)
