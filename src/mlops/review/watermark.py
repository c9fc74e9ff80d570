"""How our comment is recognised, and posted by CML.

CML ends each comment with a watermark. It is matched from the end, where only we write, and together with the author,
because anybody can copy a watermark.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlops.core.errors import UserError
from mlops.core.report import shortened
from mlops.core.rest import AGAIN

CML = ".github/cml/node_modules/.bin/cml"
TITLE = "mlops-review"
# the form that CML gives it
WATERMARK = '![](https://cml.dev/watermark.png#{head} "CML watermark {title}")'
OURS = re.compile(re.escape(WATERMARK.format(head="HEAD", title=TITLE)).replace("HEAD", "[0-9a-f]+") + r"\s*\Z")


def marked(markdown: str, head: str) -> str:
    """A comment as CML posts it."""
    return f"{markdown}\n\n{WATERMARK.format(head=head, title=TITLE)}"


def is_marked(body: str | None) -> bool:
    return OURS.search(body or "") is not None


def create(
    markdown: str, number: int, page: str, driver: str, secret: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    """Post a new comment with CML, which gets only the environment variables that it needs.

    Parameters
    ----------
    page : str
        Address of the repository.
    driver : str
        `github` or `gitlab`.
    secret : mapping of str to str
        The environment variables of that driver: its token first, and the commit, which becomes part of the watermark.
    environment : mapping of str to str
        That of this process.
    """
    cml = Path(environment.get("CML") or CML).absolute()
    if not cml.is_file():
        raise UserError(f"CML is not installed at {cml}", "npm ci --ignore-scripts --prefix .github/cml")
    kept = ("PATH", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "comment.md"
        file.write_text(markdown, encoding="utf-8")
        command = [
            *(str(cml), "comment", "create", "--publish=false", f"--driver={driver}"),
            *(f"--target=pr/{number}", f"--repo={page}", f"--watermark-title={TITLE}", str(file)),
        ]
        settings = {
            "HOME": folder,  # CML edits the git configuration that it finds there
            **secret,  # not on the command line, which every process can read
            "ITERATIVE_DO_NOT_TRACK": "1",
        }
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**{name: environment[name] for name in kept if name in environment}, **settings},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=300,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                "CML did not finish within 300 s", f"{AGAIN}; an earlier attempt's comment is found and updated"
            ) from None
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip()).replace(next(iter(secret.values())), "***")
        raise UserError(f"CML exited with {done.returncode}: {shortened(output)}", AGAIN)
