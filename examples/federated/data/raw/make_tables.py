"""The tables of four hospitals, made from the breast cancer data set: `python data/raw/make_tables.py`.

Hospital A coordinates. Its rows are a random part; the other hospitals see different patients: B screens and sees small
tumours, C is a clinic for the large ones, D takes what is between.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

HERE = Path(__file__).parent
HOSPITALS = HERE.parents[1] / "federation/hospitals"


def make_tables() -> dict[str, pd.DataFrame]:
    """Table of each hospital; every row is in exactly one of them."""
    bunch = load_breast_cancer(as_frame=True)
    table = bunch.frame.drop(columns="target")
    table["diagnosis"] = bunch.target_names[bunch.target]
    rng = np.random.default_rng(7)
    order = rng.permutation(len(table))
    own, others = order[:227], order[227:]
    # the hospitals' patients overlap
    size = table["mean area"].to_numpy()[others] * rng.lognormal(0, 0.3, len(others))
    b, d, c = np.array_split(others[np.argsort(size, kind="stable")], 3)
    parts = {"a": own, "b": b, "c": c, "d": d}
    return {name: table.iloc[np.sort(rows)].reset_index(drop=True) for name, rows in parts.items()}


if __name__ == "__main__":
    for name, rows in make_tables().items():
        folder = HERE if name == "a" else HOSPITALS
        rows.to_csv(folder / f"hospital-{name}.csv", index=False, lineterminator="\n")
