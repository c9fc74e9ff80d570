"""Rules of this team for the gate, beside the built-in ones.

A row of `gate.yaml` names the function and its parameters, such as ``{rule: project.missed_cases, alpha: 0.01}``. A
pull request is judged by main's rules, so a new or edited rule applies from the next pull request on.
"""

from __future__ import annotations

from math import comb

from mlops import Evidence, Verdict, failed, inconclusive, passed, rule


@rule
def missed_cases(evidence: Evidence, alpha: float = 0.01) -> Verdict:
    """The number of positive cases that the model misses must not rise.

    Recall hides behind its interval what a physician counts: patients. A rise blocks where it is more than chance by
    McNemar's exact test, which looks only at the cases that one of the two models finds.

    Parameters
    ----------
    alpha : float
        How often a change without any effect may be blocked.
    """
    positive = evidence.y_true == evidence.positive
    if not positive.any():
        return failed("no test row is a positive case: set data.positive in params.yaml")
    missed = positive & (evidence.y_pred != evidence.positive)
    count = int(missed.sum())
    reason = f"{count} of {positive.sum()} {evidence.positive} cases missed"
    if evidence.y_pred_main is None:
        return inconclusive(f"{reason}; {evidence.main_problem}", value=count)
    missed_by_main = positive & (evidence.y_pred_main != evidence.positive)
    before = int(missed_by_main.sum())
    reason += f", {before} by main's model"
    if count <= before:
        return passed(reason, value=count, limit=before)
    only_here, only_main = int((missed & ~missed_by_main).sum()), int((missed_by_main & ~missed).sum())
    differing = only_here + only_main
    chance = sum(comb(differing, k) for k in range(only_here, differing + 1)) / 2**differing
    if chance <= alpha:
        return failed(f"{reason}; the rise is significant", value=count, limit=before)
    return inconclusive(f"{reason}; the rise may be chance", value=count, limit=before)
