"""What a physician expects of a model that reads cell nuclei, on the table that the template ships with.

The three kinds of test are those of Ribeiro et al. 2020 (doi:10.18653/v1/2020.acl-main.442).
"""

from __future__ import annotations

import numpy as np
import pytest

from mlops.core import settings

SOURCE = "sklearn:breast_cancer"
if settings.load().data.source != SOURCE:
    pytest.skip(f"these tests are about {SOURCE}", allow_module_level=True)


def test_a_larger_worst_radius_does_not_lower_the_probability_of_malignancy(model, test, example):
    """Directional expectation: large nuclei are a sign of malignancy."""
    larger = test.assign(**{"worst radius": 1.1 * test["worst radius"]})
    before, after = (model.predict_proba(rows)["malignant"] for rows in (test, larger))
    lowered = after < before - 0.05
    example(test.assign(before=before, after=after)[lowered][["worst radius", "before", "after", "diagnosis"]])
    assert not lowered.any()


def test_measurement_error_leaves_the_decision_in_clear_cases(model, test, example):
    """Invariance: a second measurement of the same cells differs by about 1 %."""
    measured = test.columns.drop("diagnosis")
    errors = np.random.default_rng(0).uniform(0.99, 1.01, test[measured].shape)
    again = test.assign(**(test[measured] * errors))
    certain = model.predict_proba(test).max(axis="columns") > 0.9
    before, after = model.predict(test), model.predict(again)
    changed = certain & (before != after)
    example(test.assign(before=before, after=after)[changed][["before", "after", "diagnosis", *measured]])
    assert not changed.any()


def test_textbook_cases_are_diagnosed_right(model, train, test, example):
    """Minimum functionality: radius and concave points are both in the lowest quarter, or both in the highest."""
    signs = ["worst radius", "worst concave points"]
    low, high = train[signs].quantile(0.25), train[signs].quantile(0.75)
    benign = (test[signs] < low).all(axis="columns") & (test["diagnosis"] == "benign")
    malignant = (test[signs] > high).all(axis="columns") & (test["diagnosis"] == "malignant")
    cases = test[benign | malignant]
    wrong = cases.assign(predicted=model.predict(cases))[lambda rows: rows["predicted"] != rows["diagnosis"]]
    example(wrong[[*signs, "diagnosis", "predicted"]])
    assert len(cases) > 20
    assert wrong.empty
