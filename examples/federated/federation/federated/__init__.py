"""Logistic regression over the rows of several hospitals, none of which sends a row. See docs/federated.md."""
