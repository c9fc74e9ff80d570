"""`make review`: run the change, compare it with main, judge it, and write the report, the comment and a preview.

In GitHub Actions it also annotates the lines of `gate.yaml` that broke a rule, and fills the job's summary.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
from pathlib import Path

from ruamel.yaml import YAML

from mlops.core import git, pointers
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, errors_in_words
from mlops.core.replayed import Replayed
from mlops.core.report import Report, shortened
from mlops.core.settings import PARAMS
from mlops.data import project as projects
from mlops.review import baseline as main_branch
from mlops.review import behaviour, changes, evidence, gate, policy, project_rules, relock, replaying
from mlops.review.believed import run_number
from mlops.review.build_report import build_report
from mlops.review.files import CODEOWNERS, is_untouched, owned
from mlops.review.policy import GATE
from mlops.review.preview import page
from mlops.review.render import comment
from mlops.review.reproduce import reproduce

FOLDER = Path("build/review")
PAGES = (Path("reports/profile.html"), Path("reports/plots"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mlops.review", description=__doc__)
    parser.add_argument("--base", default="origin/main", help="branch or commit to compare with")
    base = git.resolve(parser.parse_args().base)
    head = os.environ.get("REVIEW_HEAD") or git.resolve("HEAD")
    files = git.changed_files(git.fork_point(base))
    if is_untouched(files):
        report = Report(head=head, base=base, dirty=git.dirty(), touched=False, verdict="pass", blocks=False)
    else:
        report = review(head, base)
    text = git.show(base, CODEOWNERS)
    needed = owned(files, None if text is None else text.decode(errors="replace"))
    report = report.model_copy(update={"changes": changes.changes(base, files), "owned": needed})
    publish(report)
    return 1 if report.blocks else 0


def review(head: str, base: str) -> Report:
    """Run the pipeline and judge what comes out.

    Parameters
    ----------
    head, base : str
        Commits: this change's, and main's.
    """
    # it fails until every rule was judged
    report = Report(head=head, base=base, dirty=git.dirty(), touched=True, verdict="fail", blocks=True)
    try:
        settings = settings_module.load()
        pointers.check()
        main_gate = main_branch.gate(base)
        edited = policy.load() if GATE.exists() else None
        applied = main_gate or edited
        if applied is None:
            raise UserError(f"neither main nor this change has a {GATE}")
        # main's gate alone: a change cannot spare itself the training
        recompute = main_gate is None or main_gate.recomputes(head, run_number())
        moved, again, believed = reproduce(base, recompute=recompute)
        if moved:
            relock.pack()
        baseline = main_branch.find(base, settings)
        findings = evidence.gather(projects.open(), baseline, moved, report.dirty, applied.resamples, applied)
        tested = behaviour.run(git.fork_point(base), behaviour.time_limit(applied))
        findings = findings._replace(
            evidence=findings.evidence._replace(behaviour=tested, rebuilt=again, believed=believed)
        )
        today = datetime.datetime.now(datetime.UTC).date()
        judged = gate.judge(applied, findings.evidence, rule_lines(), today, project_rules.code_of(base))
        report = build_report(report, settings, baseline, applied, findings, judged)
        report = report.model_copy(update={"replayed": replayed(baseline)})
        if edited is not None and (edited != applied or project_rules.edited(edited.rules, base)):
            proposed = gate.judge(edited, findings.evidence, rule_lines(), today)
            report = report.model_copy(update={"proposed": proposed})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        report = report.model_copy(update={"problem": shortened(str(error).splitlines()[0])})
    return report


def replayed(baseline: main_branch.Baseline) -> Replayed | None:
    """The recorded rows of `monitor.replay`, which main names, or this change; None where neither does."""
    project = projects.open()
    theirs = None if baseline.project is None else baseline.project.settings.monitor.replay
    folder = theirs or project.settings.monitor.replay
    if folder is None or baseline.first:
        return None
    try:
        return replaying.run(Path(folder), project, baseline)[0]
    except UserError as error:
        return Replayed(problem=shortened(str(error).splitlines()[0]))


def rule_lines() -> dict[tuple[str, str], int]:
    """Rule and subject → line of `gate.yaml`."""
    declared = YAML(typ="rt").load(GATE.read_text(encoding="utf-8")) if GATE.exists() else {}
    found = {}
    for number, rule in enumerate(declared.get("rules") or []):
        about = [str(rule[key]) for key in ("column", "metric") if key in rule]
        about += ["recent"] if rule.get("rows") == "recent" else []
        found[(str(rule.get("rule")), ", ".join(about))] = declared["rules"].lc.item(number)[0] + 1
    return found


def publish(report: Report) -> None:
    """Write report, comment and preview, annotate `gate.yaml`, and print the verdict."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = Report.model_validate(report.model_dump())
    # in one line: with its indentation, a report of many slices and metrics would be too large to be read
    (FOLDER / "report.json").write_text(report.model_dump_json() + "\n", encoding="utf-8")
    text = comment(report, run_url=run_url())
    (FOLDER / "comment.md").write_text(text, encoding="utf-8")
    (FOLDER / "preview.html").write_text(page(text), encoding="utf-8")
    for source in PAGES:
        if source.is_dir():
            shutil.copytree(source, FOLDER / source.name, dirs_exist_ok=True)
        elif source.exists():
            shutil.copyfile(source, FOLDER / source.name)
    if os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as summary:
            summary.write(text)
    if os.environ.get("GITHUB_ACTIONS"):
        print("\n".join(workflow_commands(report)))
    print("\n".join(ending(report)))


def run_url() -> str | None:
    """Address of this run of GitHub Actions."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (os.environ.get(name) for name in names)
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else None


def workflow_commands(report: Report) -> list[str]:
    """Workflow commands that annotate the lines of `gate.yaml` whose rule did not pass."""
    lines = []
    for result in report.policy.results if report.policy else []:
        if result.verdict != "pass" and result.waiver is None:
            level = "error" if result.blocks else "warning"
            place = f"file={GATE},line={result.line}" if result.line else f"file={GATE}"
            lines.append(f"::{level} {place},title={result.rule}::{_command_text(result.why)}")
    if report.problem:
        lines.append(f"::error file={PARAMS}::{_command_text(report.problem)}")
    return lines


def _command_text(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def ending(report: Report) -> list[str]:
    """Format the results and the verdict for a terminal."""
    marks = {"pass": "pass", "fail": "FAIL", "inconclusive": "inconclusive"}
    lines = [""]
    for result in report.policy.results if report.policy else []:
        mark = f"{marks[result.verdict]} (waived)" if result.waiver else marks[result.verdict]
        lines.append(f"  {mark:<12} {result.why}")
    if report.problem:
        lines.append(f"  FAIL         {report.problem}")
    if not report.touched:
        lines.append("  pass         only documentation or deployment files changed; the model is not affected")
    verdict = "may not be merged" if report.blocks else "may be merged"
    if report.verdict == "inconclusive" and not report.blocks:
        verdict += ", with care"
    return [
        *lines,
        "",
        f"this change {verdict}",
        f"  preview of the comment: {FOLDER}/preview.html",
        "",
    ]


if __name__ == "__main__":
    with errors_in_words():
        sys.exit(main())
