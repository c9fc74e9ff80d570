"""Make `orders.csv.gz`: 400 orders in 1,000 columns, with everything wrong that tables have.

What decides whether an order comes back: size, age, payment, and what was said. All else is noise.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

ROWS, COPIES, CUSTOMERS, COLUMNS = 390, 10, 130, 1_000

UNHAPPY = ["leider zu klein", "trop grand pour moi", "the zip broke"]
HAPPY = ["passt gut", "色がとても良い", "очень удобно", "schöne Farbe"]
GREETINGS = ["wie immer", "merci beaucoup", "ありがとう", "спасибо большое", "see you soon", "à bientôt", "mit Grüßen"]


def make_table() -> pd.DataFrame:
    """The table as text, of shape (400, 1000); a missing value is an empty cell, '?' or 'unbekannt'."""
    rng = np.random.default_rng(0)
    customer = rng.integers(0, CUSTOMERS, ROWS)
    size = rng.normal(170, 10, ROWS).round(1)
    age = rng.integers(18, 90, ROWS)
    payment = rng.choice(["card", "invoice", "cash", "cheque", "barter"], ROWS, p=[0.5, 0.35, 0.13, 0.01, 0.01])
    said = rng.choice(UNHAPPY + HAPPY, ROWS)
    unhappy = np.isin(said, UNHAPPY)
    greeting = rng.choice(GREETINGS, ROWS)
    texts = [f"{what}, {bye} {number % 99}" for what, bye, number in zip(said, greeting, range(ROWS), strict=True)]
    inclined = 2.5 * (payment == "invoice") + 3 * unhappy + (size - 170) / 10 - (age - 54) / 30 - 2
    returned = rng.random(ROWS) < 1 / (1 + np.exp(-2 * inclined))
    day = np.datetime64("2024-01-01") + rng.integers(0, 500, ROWS)
    insured = np.where(rng.random(ROWS) < 0.3, "true", "false")

    def with_gaps(values: object, share: float, *words: str) -> np.ndarray:
        """The values as text, a share of them missing."""
        text = np.array(values).astype(object)
        gaps = rng.random(ROWS) < share
        text[gaps] = rng.choice(["", *words], gaps.sum())
        return text

    columns = {
        "客番": [f"K{number:04}" for number in customer],
        "prénom": rng.choice(["Zoë", "Jürgen", "愛子", "Олег", "Anaïs"], ROWS),
        "e-mail": [f"kunde{number}@example.org" for number in customer],
        "größe": with_gaps(size, 0.15, "?"),
        "年齢": with_gaps(age, 0.1, "unbekannt"),
        "paiement": with_gaps(payment, 0.05),
        "bestellt am": with_gaps(day, 0.08),
        "versichert": with_gaps(insured, 0.1),
        "newsletter": with_gaps(rng.choice(["yes", "no"], ROWS), 0.2),
        "code postal": rng.choice(["01067", "75011", "10115", "20095"], ROWS),
        "Hausnummer": [f"{number}{'a' if number % 7 == 0 else ''}" for number in rng.integers(1, 60, ROWS)],
        "отзыв": with_gaps(texts, 0.1),
        "immer gleich": "1",
        "immer leer": "",
    }
    answers = rng.choice(["0", "1", "2", ""], (ROWS, COLUMNS - len(columns) - 1), p=[0.9, 0.05, 0.03, 0.02])
    columns |= {f"frage {number:03}": column for number, column in enumerate(answers.T, 1)}
    columns["zurückgesandt"] = np.where(returned, "ja", "nein")
    table = pd.DataFrame(columns).astype(str)
    return pd.concat([table, table.sample(COPIES, random_state=0)], ignore_index=True)


if __name__ == "__main__":
    text = make_table().to_csv(sep=";", index=False, lineterminator="\n")
    Path(__file__).with_name("orders.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
