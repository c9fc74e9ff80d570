"""The comment names the columns whose share of the contributions moved by more than its uncertainty, and no others."""

from __future__ import annotations

import numpy as np

from mlops.core.report import Influence
from mlops.review import sections
from mlops.review.influence import moved

RNG = np.random.default_rng(0)
N, NAMES = 200, ["a", "b", "c", "d"]
BEFORE = np.abs(RNG.normal(size=(N, 4))) * [4, 2, 2, 1]


def test_the_same_contributions_in_another_unit_are_no_move() -> None:
    assert moved(BEFORE, NAMES, 0.1 * BEFORE, NAMES, 0.95) == []


def test_a_move_within_its_uncertainty_is_not_shown() -> None:
    noisy = np.abs(RNG.normal(size=(N, 4))) * [4, 2, 2, 1]
    assert moved(BEFORE, NAMES, noisy, NAMES, 0.95) == []


def test_columns_that_matter_more_less_or_newly_are_named_largest_first() -> None:
    after = np.column_stack([BEFORE * [0.2, 1, 1.5, 1], np.full(N, 3.0)])
    found = moved(BEFORE, NAMES, after, [*NAMES, "new"], 0.95)
    assert [each.column for each in found] == ["a", "new", "c", "b", "d"]
    by_name = {each.column: each for each in found}
    assert by_name["new"].before is None
    assert by_name["a"].after is not None
    assert by_name["a"].difference.value is not None
    assert np.isclose(by_name["a"].after, (after[:, 0].mean() / after.sum(axis=1).mean()))
    assert by_name["a"].difference.value < 0 < (by_name["c"].difference.low or 0)
    # the interval of a share's difference is that of resampled rows, for all columns together
    rows = RNG.integers(0, N, (2000, N))
    old, new = (
        each.mean(axis=1) / each.mean(axis=1).sum(axis=1, keepdims=True) for each in (BEFORE[rows], after[rows])
    )
    low, high = np.quantile(new[:, 0] - old[:, 0], [0.005, 0.995])
    assert np.allclose([by_name["a"].difference.low, by_name["a"].difference.high], [low, high], atol=0.01)


def test_the_section_is_a_line_that_opens_and_its_names_are_inert() -> None:
    found = moved(BEFORE, ["@ada", "b|", "c", "d"], BEFORE * [0.2, 1, 1, 1], ["@ada", "b|", "c", "d"], 0.95)
    text = sections.influence(Influence(rows=N, columns=4, moved=found[:1], count=len(found)))
    assert "<summary>What drives the predictions: 4 of 4 columns moved</summary>" in text
    assert "- <code>&#64;&#8288;ada</code>: 44.3% → 13.7%, −30.6 (−32.3 … −28.8)\n" in text
    assert "- 3 more" in text
    assert sections.influence(None) == sections.influence(Influence(rows=N, columns=4)) == ""
    assert "not compared: main" in sections.influence(Influence(rows=0, problem="main's model is a SVC"))
