"""Size, start and latency of the image, built and run here as `make release-check` does."""

import json
import statistics
import sys

from mlops.release import builder as tools
from mlops.release import image, smoke

builder = tools.find(runs=True)
made = image.make(builder=builder)
starts = []
for _ in range(int(sys.argv[1])):
    with smoke.running(builder, made.id) as one:
        starts.append(one.cold_start)
        found = smoke.ask(one, made.release)
size = int(tools.tool(builder, "image", "inspect", "--format", "{{.Size}}", made.id))
tools.tool(builder, "rmi", made.id)
print(json.dumps({"size": size, "start": statistics.median(starts), "latency": found["median_ms"]}))
