"""Median milliseconds of a row, predicted so many times by an installed package."""

import importlib
import statistics
import sys
import time

model = importlib.import_module(sys.argv[1])
row = {field["name"]: field["example"] for field in model.contract()["fields"]}
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    model.predict([row])
    times.append(time.perf_counter() - start)
print(1000 * statistics.median(times))
