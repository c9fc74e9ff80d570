"""`make rollout ON=compose LOG=folder`: replace the version on one machine after a canary with a share of the traffic.

The canary starts beside the model, and a proxy gives it a share of the requests. Its technical health is judged first.
With `LOG`, `make canary` is asked, too, which compares the outcomes. Exit code 0 is *promote*: the model is replaced. 1
is *abort*: the canary is stopped. 2 is *not yet*: both keep serving, and the next call goes on. 3 is an error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from mlops.core import settings as settings_module
from mlops.core.errors import UserError, errors_in_words
from mlops.monitoring import canary

FAILED = 3
MODEL, CANARY = "http://127.0.0.1:3000", "http://127.0.0.1:3002"  # as in deploy/rollout/haproxy.cfg
LEAST_REQUESTS = 50  # of the canary, before its health is judged
BREACHES = 3  # in a row, which abort
READY_SECONDS, PROXY_SECONDS = 300, 5  # for a new version to start; for the proxy to see it, which looks each second
# The limits of the analysis in deploy/kubernetes/components/canary
MORE_ERRORS, MORE_REFUSED, SLOWER, ALIKE_SECONDS = 0.01, 0.05, 2.0, 0.05


class Traffic(NamedTuple):
    """What a service has counted of its predictions: requests by status, and by the upper ends of their durations."""

    statuses: dict[str, float]
    durations: dict[float, float]

    def since(self, before: Traffic) -> Traffic:
        """What came after another count."""
        return Traffic(
            {key: value - before.statuses.get(key, 0) for key, value in self.statuses.items()},
            {key: value - before.durations.get(key, 0) for key, value in self.durations.items()},
        )

    @property
    def requests(self) -> float:
        return sum(self.statuses.values())

    def share(self, digit: str) -> float:
        """Requests whose status begins with a digit."""
        return sum(value for key, value in self.statuses.items() if key.startswith(digit)) / max(1, self.requests)

    @property
    def slowest(self) -> float:
        """The upper end of the interval that holds the 99th percentile, in seconds."""
        enough = 0.99 * max(self.durations.values(), default=0)
        return min((end for end, count in self.durations.items() if count >= enough), default=0.0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mlops.release.rollout", description=__doc__)
    parser.add_argument("script", type=Path, help="is run with start, replace and stop")
    parser.add_argument("--log", type=Path, help="folder of the prediction log; without it, health alone is judged")
    parser.add_argument("--model", default=MODEL, help="the address of the model")
    parser.add_argument("--canary", default=CANARY, help="the address of the canary")
    parser.add_argument("--minutes", type=float, default=10, help="how long health is judged, at least")
    parser.add_argument("--hours", type=float, default=24, help="how long the outcome is awaited, at most")
    parser.add_argument("--margin", type=float, default=0.05, help="as of make canary")
    parser.add_argument("--metrics", nargs="*", default=[], help="as of make canary")
    parser.add_argument("--every", type=float, default=60, help="seconds between two looks")
    given = parser.parse_args()
    if not given.script.is_file():
        raise UserError(f"there is no file {given.script}", "make rollout ON=compose, or ON=quadlet")
    if given.log is not None and settings_module.load().monitor.labels is None:
        raise UserError("params.yaml: monitor.labels is missing", "leave LOG out to judge technical health alone")
    champion, before = counted(given.model)
    if not answers(given.canary):
        run(given.script, "start")
    code, why = judged(given, champion, before)
    if code == canary.CODES["promote"]:
        run(given.script, "replace")
        wait_for_proxy(given.model)
    if code != canary.CODES["not yet"]:
        run(given.script, "stop")
    print(why, flush=True)
    return code


def judged(given: argparse.Namespace, champion: str, before: Traffic) -> tuple[int, str]:
    """Watch the canary until there is a decision, or time is up."""
    began, breaches = time.monotonic(), 0
    while True:
        time.sleep(given.every)
        passed = time.monotonic() - began
        problems, version = health(given, before)
        breaches = breaches + 1 if problems else 0
        if breaches == BREACHES:
            return canary.CODES["abort"], f"abort: {'; '.join(problems)}"
        if problems or version is None or passed < 60 * given.minutes:
            if version is None and not problems and passed >= 3600 * given.hours:
                return canary.CODES["not yet"], f"not yet: the canary has had less than {LEAST_REQUESTS} requests"
            continue
        if given.log is None:
            return canary.CODES["promote"], "promote: only technical health was judged"
        report = canary.ask(given.log, champion, version, given.margin, given.metrics)
        if report["answer"] != "not yet":
            return canary.CODES[report["answer"]], f"{report['answer']}, by outcome and technical health"
        print(canary.ending(report)[-1], flush=True)
        if passed >= 3600 * given.hours:
            return late(report)


def late(report: dict[str, Any]) -> tuple[int, str]:
    """The decision where the outcome has not decided in time: without labels, technical health does."""
    if report["outcome_known"]:
        return canary.CODES["not yet"], f"{canary.ending(report)[-1]}; both versions keep serving"
    return canary.CODES["promote"], "promote: few labels have arrived, so only technical health was judged"


def health(given: argparse.Namespace, before: Traffic) -> tuple[list[str], str | None]:
    """What is wrong with the canary, and its version once it has had enough requests to say so."""
    try:
        version, new = counted(given.canary)
    except UserError:
        return ["the canary does not answer"], None
    old = counted(given.model)[1].since(before)
    if new.requests < LEAST_REQUESTS:
        return [], None
    return compared(old, new), version


def compared(old: Traffic, new: Traffic) -> list[str]:
    """In what the canary's health is worse than the model's."""
    found = []
    for digit, what, limit in (("5", "fails", MORE_ERRORS), ("4", "refuses", MORE_REFUSED)):
        if new.share(digit) - old.share(digit) > limit:
            found.append(f"the canary {what} {new.share(digit):.1%} of the requests, the model {old.share(digit):.1%}")
    if max(new.slowest, ALIKE_SECONDS) > SLOWER * max(old.slowest, ALIKE_SECONDS) and old.requests:
        found.append(f"1 % of the canary's requests take up to {new.slowest:.3g} s, of the model's {old.slowest:.3g} s")
    return found


def counted(address: str) -> tuple[str, Traffic]:
    """The version of a service, and its traffic so far."""
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310  the caller's own
            text = answer.read().decode()
    except (OSError, ValueError) as error:
        raise UserError(f"{address}/metrics cannot be read: {error}") from None
    version, found = "", Traffic({}, {})
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name == "model_info":
                version = labels["version"]
            elif labels.get("endpoint") != "/predict":
                continue
            elif name == "bentoml_service_request_total":
                status = labels["http_response_code"]
                found.statuses[status] = found.statuses.get(status, 0) + value
            elif name == "bentoml_service_request_duration_seconds_bucket":
                end = float(labels["le"])
                found.durations[end] = found.durations.get(end, 0) + value
    if not version:
        raise UserError(f"{address} does not say which version it serves")
    return version, found


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=10):  # noqa: S310  as above
            return True
    except OSError:
        return False


def wait_for_proxy(address: str) -> None:
    """Wait until the replaced model takes requests again: the canary must serve for as long as the proxy avoids it."""
    end = time.monotonic() + READY_SECONDS
    while not answers(address):
        if time.monotonic() > end:
            raise UserError(
                f"{address} does not answer {READY_SECONDS} s after it was replaced, so the canary keeps serving",
                "see the log of the model; then run the script with stop",
            )
        time.sleep(1)
    time.sleep(PROXY_SECONDS)


def run(script: Path, step: str) -> None:
    print(f"{script} {step}", flush=True)
    done = subprocess.run(["/bin/sh", str(script), step], check=False)
    if done.returncode:
        raise UserError(f"{script} {step} ended with exit code {done.returncode}", "see what it said above")


if __name__ == "__main__":
    with errors_in_words(FAILED):
        sys.exit(main())
