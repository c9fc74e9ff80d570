"""The features that the template ships: what a physician would check with a pencil."""

from __future__ import annotations

import numpy as np
import pytest

from project.features import irregularity


def test_a_circle_has_an_irregularity_of_one_whatever_its_size() -> None:
    radius = np.array([0.1, 1.0, 17.0])
    np.testing.assert_allclose(irregularity(2 * np.pi * radius, np.pi * radius**2), 1.0)


def test_a_longer_outline_around_the_same_area_is_more_irregular() -> None:
    square, oblong = irregularity(np.array([4.0, 10.0]), np.array([1.0, 4.0]))
    assert square == pytest.approx(4 / np.pi)
    assert oblong > square


def test_a_missing_measurement_gives_no_irregularity() -> None:
    assert np.isnan(irregularity(np.array([np.nan]), np.array([1.0])))[0]
