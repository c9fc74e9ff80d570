"""`make pictures`: record the three reviews of docs/rehearsals, and draw the pictures of docs/ from the real pages.

In a scratch copy of the project, the pipeline trains, three branches are reviewed, one of them is merged and released,
and the service starts. Each picture is what Chromium shows of a page that these commands wrote.
"""

from __future__ import annotations

import html
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from conftest import ROOT, Project
from PIL import Image
from services.browser import Page, chromium
from serving.served import serving

DOCS = ROOT / "docs"
SCRATCH = ROOT / "build/pictures"
START = date(2026, 1, 5)
COLOURS = 128  # of a picture: as clear as with all of them, in a third of the bytes
PREVIEW = "build/review/preview.html"
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #0d1117; color: #e6edf3; padding: 24px 28px;
  font: 15px/1.5 "DejaVu Sans Mono", monospace }}
pre {{ font: inherit; margin: 0 }} b {{ color: #79c0ff }} i {{ color: #9198a1; font-style: normal }}
</style><pre><i>$</i> make
{}</pre>"""


def main() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)
    folder = SCRATCH / "a project"
    folder.mkdir(parents=True)
    project = Project(folder)
    project.run("git", "commit", "--quiet", "--amend", "--message", "Start", **dated(project))
    terminal(project, train(project, "C", 1.0, "Train the default model"))
    project.run("git", "tag", "--annotate", "v1.0.0", "--message", "Release v1.0.0", **dated(project))
    review(project, "worse", "C", 0.02, "Regularise much more (#10)")
    shutil.copy(folder / PREVIEW, folder / "build/worse.html")
    review(project, "same", "max_iter", 2000, "Allow more iterations (#11)")
    train(project, "C", 0.05, "Regularise more (#12)")
    review(project, "better", "C", 1.0, "Regularise less (#13)")
    project.git("merge", "--quiet", "better")
    project.run("dvc", "checkout", "--quiet")
    project.run("python", "-m", "mlops.release.history")
    project.run("python", "-m", "mlops.release.identity")
    draw(project)


def draw(project: Project) -> None:
    """The pictures, from a project with all pages."""
    with browser() as page:
        show(page, project.folder / "build/make.html", 1120, 1.25)
        cut(page, "make", "pre")
        draw_comment(page, project.folder / "build/worse.html")
        show(page, project.folder / "build/history/index.html", 1100, 1.25)
        cut(page, "history", "table")
        show(page, project.folder / "reports/profile.html", 1100, 1.25)
        keep(page, "profile")
    with serving(project, SCRATCH / "bentoml") as served, browser() as page:
        page.size(1100, 900, 1.25)
        page.open(f"{served.url}/")
        page.wait("document.querySelector('button.execute') !== null")
        page.ask("document.querySelector('button.execute').click()")
        page.wait("document.querySelector('.live-responses-table .response-col_status') !== null")
        page.ask("document.querySelectorAll('.curl-command, .request-url').forEach((each) => each.remove())")
        cut(page, "service", ".live-responses-table .highlight-code", above=".opblock")


def draw_comment(page: Page, path: Path) -> None:
    """Its first screen, the decisions that change and the slices, and what a phone shows first."""
    show(page, path, 900, 1.5)
    page.ask("document.querySelector('main').style.margin = 0")
    cut(page, "comment", "table")
    decisions = "[...document.querySelectorAll('summary')].find((each) => /^Decisions/.test(each.innerText))"
    page.ask(f"{decisions}.click()")
    cut(page, "comment-slices", "details[open]", above="figure:has(rect)")
    show(page, path, 375, 2)
    keep(page, "comment-phone")


def train(project: Project, key: str, value: float, subject: str) -> str:
    """Change one number, run the pipeline and commit; returns what `make` prints."""
    project.edit_params(lambda params: params["model"]["params"].update({key: value}))
    ran = project.run("dvc", "repro").stdout + project.run("python", "-m", "mlops.pipeline.summary").stdout
    project.git("add", "--all")
    project.run("git", "commit", "--quiet", "--allow-empty", "--message", subject, **dated(project))
    return ran


def dated(project: Project) -> dict[str, str]:
    """The date of the next commit or tag, a week after the last one: a history of minutes would be one line."""
    weeks = int(project.git("rev-list", "--count", "HEAD"))
    when = f"{START + timedelta(weeks=weeks)} 12:00 +0000"
    return {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}


def review(project: Project, name: str, key: str, value: float, subject: str) -> None:
    """Review a branch that changes one number, and record its comment."""
    project.git("switch", "--quiet", "--create", name)
    train(project, key, value, subject)
    done = project.run("python", "-m", "mlops.review", "--base", "main", check=False)
    assert done.returncode in (0, 1), done.stdout
    print(f"{name}: exit code {done.returncode}", flush=True)
    (DOCS / f"rehearsals/{name}.md").write_text(project.read("build/review/comment.md"), encoding="utf-8")
    project.git("switch", "--quiet", "main")
    project.run("dvc", "checkout", "--quiet")


def terminal(project: Project, ran: str) -> None:
    """What `make` printed, without the lines of DVC, as a terminal shows it."""
    stages = "|".join(re.findall(r"^Running stage '([\w-]+)'", ran, re.MULTILINE))
    own = re.findall(rf"^(?:{stages}) .*$", ran, re.MULTILINE)
    summary = ran[ran.index("\nsklearn.") :]
    text = html.escape("\n".join(own) + "\n" + summary.rstrip())
    text = re.sub(rf"^({stages}|results|next|sklearn\S* predicts .*)", r"<b>\1</b>", text, flags=re.MULTILINE)
    path = project.folder / "build/make.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(TERMINAL.format(text), encoding="utf-8")


@contextmanager
def browser() -> Iterator[Page]:
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as page:
        yield page


def show(page: Page, path: Path, width: int, scale: float) -> None:
    page.size(width, 900, scale)
    page.open(path)


def cut(page: Page, name: str, to: str, above: str = "body") -> None:
    """A picture from the start of one element to the end of another."""
    width, scale = page.ask("innerWidth"), page.ask("devicePixelRatio")
    page.size(width, page.ask("document.documentElement.scrollHeight"), scale)
    top, end = (
        page.ask(f"document.querySelector({each!r}).getBoundingClientRect().{side}")
        for each, side in ((above, "top"), (to, "bottom"))
    )
    page.ask(f"document.body.style.marginTop = '{12 - top if above != 'body' else 0}px'")
    page.size(width, math.ceil(end - top) + (12 if above == "body" else 24), scale)
    keep(page, name)


def keep(page: Page, name: str) -> None:
    path = DOCS / f"{name}.png"
    page.picture(path)
    with Image.open(path) as taken:
        smaller = taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    smaller.save(path, optimize=True)
    print(f"docs/{name}.png: {smaller.width} x {smaller.height}, {path.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    main()
