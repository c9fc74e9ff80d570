"""`make release-check`: a rehearsal of the release of this commit, on this machine.

The same steps as after a tag, but for publishing: is the commit clean, its lock honest, its gate passed; then the image
is built, started as production would, asked for recorded test rows, and stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mlops.core import settings
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import write_json
from mlops.core.git import git
from mlops.release import builder as tools
from mlops.release import identity, image, smoke
from mlops.release.tag import parse

REPORT = Path("build/release/check.json")
T = TypeVar("T")


def main() -> None:
    # first, because the other steps take minutes
    builder = tools.find(runs=True)
    step("clean", clean, str)
    step("lock", lock, str)
    step("gate", gate, str)
    if os.environ.get("LOG") or settings.load().monitor.replay:
        step("replay", replay, str)
    made = step("image", lambda: image.make(builder=builder), lambda made: f"{made.reference}, by {made.builder}")
    with smoke.running(builder, made.id) as one:
        print(f"start     ready, on a read-only file system and without rights  ({one.cold_start:.1f} s)", flush=True)
        found = step("smoke", lambda: smoke.ask(one, made.release), answered)
        step("stop", lambda: smoke.stop(one), lambda _: "stopped on SIGTERM")
    known = tools.inspect(builder, made.id)
    size = int(tools.tool(builder, "image", "inspect", "--format", "{{.Size}}", made.id)) / 1e6
    facts = {
        "version": made.release.version,
        "commit": made.release.commit,
        "model_md5": made.release.model_md5,
        "image": {"id": made.id, "megabytes": round(size, 1), "layers": known.layers, "added": made.megabytes},
        "cold_start_s": round(one.cold_start, 2),
        **found,
    }
    write_json(facts, REPORT)
    added = ", ".join(f"{name} {megabytes:,.1f}" for name, megabytes in made.megabytes.items())
    print(
        f"\n{made.release.version} can be released: model {made.release.model_md5}, commit {made.release.commit[:10]}"
    )
    print(f"  image       {size:,.0f} MB in {len(known.layers)} layers; of it {added}")
    print(f"  cold start  {one.cold_start:.1f} s until it is ready")
    print(f"  latency     {found['median_ms']:.1f} ms a row, 99 % within {found['p99_ms']:.1f} ms, one after the other")
    print(f"  details in {REPORT}")


def step(name: str, work: Callable[[], T], say: Callable[[T], str]) -> T:
    """Do a step, and print a line with what came out and how long it took."""
    start = time.perf_counter()
    found = work()
    print(f"{name:<9} {say(found)}  ({time.perf_counter() - start:.1f} s)", flush=True)
    return found


def answered(found: dict[str, Any]) -> str:
    """Summarise the smoke test in a sentence."""
    return f"{found['rows']:,} test rows predict what evaluation has recorded, to within {found['difference']:.1g}"


def clean() -> str:
    """Check that the working tree is clean and that the tag is a version."""
    changed = [line.split(maxsplit=1)[1] for line in git("status", "--porcelain").splitlines()]
    if changed:
        names = ", ".join(changed[:5]) + (", …" if len(changed) > 5 else "")
        raise UserError(
            f"there are uncommitted files: {names}",
            "git commit, or git stash -u",
        )
    for tag in git("tag", "--list", "v[0-9]*", "--points-at", "HEAD").splitlines():
        parse(tag)
    return f"commit {git('rev-parse', 'HEAD')[:10]}, and nothing else"


def lock() -> str:
    """Check that `dvc.lock` is up to date and that the files match it."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"dvc status failed: {(done.stderr.strip() or 'nothing').splitlines()[-1]}")
    stale = json.loads(done.stdout)
    details = [each for found in stale.values() for each in found if isinstance(each, dict)]
    missing = [path for each in details for paths in each.values() for path, how in paths.items() if how == "deleted"]
    if missing:
        raise UserError(f"{missing[0]} is missing: the pipeline has not been run", "make")
    if stale:
        raise UserError(f"dvc.lock is out of date: {', '.join(stale)} would run", "make, and commit")
    release = identity.identify()
    return f"model {release.model_md5[:10]} and all that it comes from are as in dvc.lock"


def gate() -> str:
    """Whether this commit holds by the rules of its own gate: floors, validation, slices, …

    Whether it is worse than another model was decided when it was merged, by the gate of then.
    """
    command = [sys.executable, "-m", "mlops.review", "--base", "HEAD"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        output = "\n".join(line for line in done.stdout.splitlines() if line.strip())
        raise UserError(f"the gate blocks this commit:\n{output}")
    return "every rule holds that needs no other model"


def replay() -> str:
    """Predict recorded rows with this commit's model and with the last release's."""
    here = git("tag", "--list", "v[0-9]*", "--points-at", "HEAD")
    command = ["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^" if here else "HEAD"]
    base = git(*command, check=False)
    if not base:
        return "there is no release before this one to compare with"
    log = [os.environ["LOG"]] if os.environ.get("LOG") else []
    done = subprocess.run(
        [sys.executable, "-m", "mlops.review.replay", *log, "--base", base],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        reason = [line for line in said if line.startswith(("error:", "  try:"))] or said[-1:]
        raise UserError(f"the recorded rows cannot be replayed: {'; '.join(reason).removeprefix('error: ')}")
    return "\n".join([f"with {base}", *said])


if __name__ == "__main__":
    with errors_in_words():
        main()
