"""`make start`: from a table and its target to a project. It looks, decides, and writes what a reviewer can check.

`reading` opens the source; `columns`, `recipe` and `first_model` decide; `writing` makes the texts; `leftovers` removes
what belongs to the template alone; `__main__` is the command. `mlops.core.started` knows whether somebody edited a
file. The gate follows after the first run: `mlops.review.first_gate`.
"""
