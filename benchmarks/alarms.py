"""False alarms over years without a change, and days until a rise is found, beside common rules and MAPIE."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from mapie.exchangeability_testing import RiskMonitoring
from scipy import stats

from benchmarks.measuring import progress, table, verdict
from mlops.monitoring import drift
from mlops.monitoring.risk import DAYS_OF_YEAR, REFERENCE_ERROR
from mlops.monitoring.sequential import Detector, upper_bound

Array = np.ndarray[Any, Any]

YEARS, DAYS, COLUMNS, SIZES, REFERENCE = 400, 365, 30, (100, 1_000), 2_000
DECLARED = 20  # years
LOOKS = DECLARED * DAYS_OF_YEAR
ERROR = 0.1
WINDOWS, LEAST_EFFECT, LEVELS = (1, 7, 28), 0.1, 50
RISES, RUNS, THEIR_RUNS, GOALS = (0.15, 0.2), 200, 5, {0.15: 22, 0.2: 6}
LONGEST = 150  # days that are waited


class Stream(NamedTuple):
    """Errors of a day, as counts."""

    name: str
    share: Any
    """From a generator to the probability of an error on each day of a year."""


def stable(rng: np.random.Generator) -> Array:
    return np.full(DAYS, ERROR)


def seasonal(rng: np.random.Generator) -> Array:
    return ERROR * (1 + 0.3 * np.sin(2 * np.pi * (np.arange(DAYS) / DAYS + rng.random())))


def weekly(rng: np.random.Generator) -> Array:
    return ERROR * np.where(np.arange(DAYS) % 7 >= 5, 1.5, 0.8)


def autocorrelated(rng: np.random.Generator) -> Array:
    """Good and bad weeks: the day's logit is a first-order autoregression. The mean error is the reference's."""
    steps = rng.normal(size=DAYS)
    state = np.zeros(DAYS)
    for day in range(1, DAYS):
        state[day] = 0.9 * state[day - 1] + 0.3 * np.sqrt(1 - 0.9**2) * steps[day]
    odds = np.exp(state) * ERROR / (1 - ERROR)
    share = odds / (1 + odds)
    return np.asarray(share * ERROR / share.mean())


STREAMS = [
    Stream("independent", stable),
    Stream("a week's rhythm: 0.08 on weekdays, 0.15 at weekends", weekly),
    Stream("a year's season: 0.07 to 0.13", seasonal),
    Stream("good and bad weeks: autocorrelation 0.9, 0.06 to 0.17", autocorrelated),
]


def false_alarms() -> str:
    """Years with an alarm of the risk, and days and years with a warning of columns."""
    rows, kept = [], []
    for stream in STREAMS:
        for size in SIZES if stream.share is stable else SIZES[:1]:
            progress(f"monitoring: {YEARS} years, {stream.name}, {size:,} rows a day")
            rng = np.random.default_rng(0)
            found = np.array([year_of_errors(stream, size, rng) for _ in range(YEARS)])
            rows.append([stream.name, f"{size:,}", *(f"{100 * share:.1f} %" for share in found.mean(axis=0))])
            kept += [found.mean(axis=0)[0] <= 1 / DECLARED] if stream.share is stable else []
    columns = []
    for size in SIZES:
        progress(f"monitoring: {YEARS} years of {COLUMNS} columns, {size:,} rows a day")
        warned, naive = years_of_columns(size)
        kept.append(warned.any(axis=1).mean() <= 1 / DECLARED)
        columns.append(
            [
                f"{size:,}",
                *(f"{100 * share:.1f} %" for share in (warned.any(axis=1).mean(), warned.mean())),
                *(f"{100 * share:.1f} %" for share in (naive.any(axis=1).mean(), naive.mean())),
            ]
        )
    return "\n\n".join(
        [
            f"{YEARS} simulated years without a change, looked at daily. Each year has {REFERENCE:,} reference rows of "
            f"its own. Declared: one false alarm and one false warning in {DECLARED} years, which are "
            f"{100 / DECLARED:g} % of years: {verdict(all(kept))}.",
            f"Share of years with an alarm of the risk, at a mean error of {ERROR:g}:",
            table(["errors", "rows a day", "ours", "daily 3-sigma rule", "cumulative z-test at 1 %, daily"], rows),
            "The test assumes that no day's expected error is above the reference's bound. A season or a bad week that "
            "is as long as a rise is one to the test, so there it alarms more often than declared.",
            f"Warnings of {COLUMNS} columns, of the last day, week and four weeks (each column has {LEVELS} values, "
            "whose ties make the test of Kolmogorov and Smirnov careful):",
            table(["rows a day", "ours, years", "ours, days", "KS below 0.05 in any column, years", "days"], columns),
        ]
    )


def year_of_errors(stream: Stream, size: int, rng: np.random.Generator) -> tuple[bool, bool, bool]:
    """Whether ours, the 3-sigma rule and the cumulative z-test raise an alarm in a year."""
    known = (rng.random(REFERENCE) < ERROR).astype(float)
    counts = rng.binomial(size, stream.share(rng))
    detector = Detector(upper_bound(known, REFERENCE_ERROR), LOOKS)
    for count in counts:  # the order within a day does not matter to it
        detector.look(np.repeat([1.0, 0.0], [count, size - count]))
    mean = known.mean()
    sigma = (counts / size > mean + 3 * np.sqrt(mean * (1 - mean) / size)).any()
    total = size * np.arange(1, DAYS + 1)
    pooled = (counts.cumsum() + known.sum()) / (total + REFERENCE)
    z = (counts.cumsum() / total - mean) / np.sqrt(pooled * (1 - pooled) * (1 / total + 1 / REFERENCE))
    return detector.alarm, bool(sigma), bool((z > stats.norm.isf(0.01)).any())


def years_of_columns(size: int) -> tuple[Array, Array]:
    """Of each day of each year: whether a column is warned of, and whether any has a p-value below 0.05."""
    rng = np.random.default_rng(1)
    limit = drift.level(LOOKS, COLUMNS + 1, len(WINDOWS)) / 2  # missing values are tested beside
    agree(limit)
    warned, naive = np.zeros((YEARS, DAYS), dtype=bool), np.zeros((YEARS, DAYS), dtype=bool)
    shares = np.full(LEVELS, 1 / LEVELS)
    for year in range(YEARS):
        known = (rng.multinomial(REFERENCE, shares, COLUMNS).cumsum(axis=1) / REFERENCE).astype(np.float32)
        counts = rng.multinomial(size, shares, (DAYS, COLUMNS)).cumsum(axis=2)
        totals = np.concatenate([np.zeros((1, COLUMNS, LEVELS), dtype=int), counts.cumsum(axis=0)]).astype(np.float32)
        for days in WINDOWS:
            window = totals[days:] - totals[:-days]
            window /= size * days
            window -= known
            distance = np.abs(window, out=window).max(axis=2)
            warned[year, days - 1 :] |= (distance >= max(LEAST_EFFECT, least(limit, size * days))).any(axis=1)
            if days == 1:
                naive[year] = (distance >= least(0.05, size)).any(axis=1)
    return warned, naive


def least(p_value: float, rows: int) -> float:
    """The distance that has this p-value by the test of Kolmogorov and Smirnov."""
    return float(stats.kstwo.isf(p_value, round(REFERENCE * rows / (REFERENCE + rows))))


def agree(limit: float) -> None:
    """Check that these distances are those of the monitor."""
    reference, window = np.arange(REFERENCE, dtype=float), np.arange(SIZES[0], dtype=float) * 20
    for shift in range(0, 1_600, 80):
        change = drift.numbers(reference, window + shift)
        assert (change.p_value <= 2 * limit) == (change.effect >= least(limit, SIZES[0]) - 1e-9)


def delays() -> str:
    """Days until a rise of the error is found."""
    rows, met = [], []
    for rise in RISES:
        for quiet in (0, 180):
            progress(f"monitoring: days until an error of {rise:g} is found after {quiet} days")
            rng = np.random.default_rng(2)
            ours = [our_delay(rise, quiet, rng) for _ in range(RUNS)]
            theirs = [their_delay(rise, quiet, rng) for _ in range(THEIR_RUNS)] if rise == RISES[-1] else []
            met.append(np.median(ours) <= GOALS[rise])
            rows.append(
                [f"{ERROR:g} → {rise:g}", str(quiet), quartiles(ours), str(GOALS[rise]), quartiles(theirs) or "–"]
            )
    return "\n\n".join(
        [
            f"Days until a rise of the error is found, at 100 labels a day and {REFERENCE:,} reference rows: median "
            f"(quartiles) of {RUNS} runs, of MAPIE {THEIR_RUNS}. Goals: {verdict(all(met))}.",
            table(
                ["error", "quiet days before", "ours", "goal", "MAPIE `RiskMonitoring`, tolerance 0, level 0.05"],
                rows,
            ),
        ]
    )


def our_delay(rise: float, quiet: int, rng: np.random.Generator) -> float:
    known = (rng.random(REFERENCE) < ERROR).astype(float)
    detector = Detector(upper_bound(known, REFERENCE_ERROR), LOOKS)
    for day in range(-quiet, LONGEST):
        if detector.look((rng.random(100) < (rise if day >= 0 else ERROR)).astype(float)):
            return day + 1
    return np.inf


def their_delay(rise: float, quiet: int, rng: np.random.Generator) -> float:
    known = (rng.random(REFERENCE) < ERROR).astype(int)
    longest = LONGEST if quiet else LONGEST // 5  # it takes minutes
    monitor = RiskMonitoring(risk="accuracy", test_level=0.05, tolerance=0, warn=False)
    monitor.compute_threshold(np.ones_like(known), 1 - known)
    days = np.where(np.arange(-quiet, longest) >= 0, rise, ERROR).repeat(100)
    wrong = (rng.random(len(days)) < days).astype(int)
    monitor.update(np.ones_like(wrong), 1 - wrong)
    beyond = np.flatnonzero(monitor.online_risk_lower_bound_sequence_history > monitor.threshold)
    return float(beyond[0] // 100 + 1 - quiet) if len(beyond) else np.inf


def quartiles(days: list[float]) -> str:
    """``12 (10 to 14)``."""
    if not days:
        return ""
    low, middle, high = (np.quantile(days, share, method="nearest") for share in (0.25, 0.5, 0.75))
    shown = [f"over {LONGEST}" if np.isinf(each) else f"{each:.0f}" for each in (middle, low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"
