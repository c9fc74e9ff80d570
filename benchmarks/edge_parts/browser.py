"""Start and mean latency of the page of `make edge` in headless Chromium, served from loopback."""

import functools
import http.server
import json
import statistics
import sys
import tempfile
import threading
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from services.browser import chromium

ASK = """(async () => {
    const {predictor} = await import("./model.js")
    const contract = await (await fetch("contract.json")).json()
    const session = await ort.InferenceSession.create("model.onnx", {executionProviders: ["wasm"]})
    const predict = predictor(session, contract)
    const rows = [Object.fromEntries(contract.fields.map((field) => [field.name, field.example]))]
    const times = []
    for (let n = 0; n < ROWS; n++) {
        const start = performance.now()
        await predict(rows)
        times.push(performance.now() - start)
    }
    return times
})()"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the bundle without a word."""

    def log_message(self, *_: object) -> None:
        pass


handler = functools.partial(Handler, directory="build/edge")
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    starts = []
    for _ in range(int(sys.argv[1])):  # a new profile each time, so that nothing is cached
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder)) as page:
            page.open(f"http://127.0.0.1:{server.server_port}/")
            page.wait("!document.querySelector('main').hidden")
            starts.append(page.ask("performance.getEntriesByName('predicted')[0].startTime") / 1000)
            expression = ASK.replace("ROWS", sys.argv[2])
            options = {"awaitPromise": True, "returnByValue": True}
            times = page.send("Runtime.evaluate", expression=expression, **options)["result"]["value"]
    server.shutdown()
print(json.dumps({"start": statistics.median(starts), "latency": statistics.fmean(times[100:])}))
