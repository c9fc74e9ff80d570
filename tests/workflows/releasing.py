"""A project on GitHub whose main has a model: its pull request, its check, and the API that a release asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests.certs
from release.hub import merged
from review.github import API, serve, write_certificate
from review.github import GitHub as Hub
from workflows.machine import GitHub, Run

REPOSITORY = "acme/model"
# how packages are fetched on this machine
WORLD = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "PIP_", "UV_")


class Asked:
    """GitHub's API as the workflows find it.

    Parameters
    ----------
    hub : review.github.GitHub
        The API.
    certificates : Path
        What its clients trust.
    """

    def __init__(self, hub: Hub, certificates: Path) -> None:
        self.hub = hub
        self.certificates = certificates

    def flags(self, **environment: str) -> list[str]:
        """What act needs, so that the workflows find the API."""
        given = {name: value for name, value in os.environ.items() if name.startswith(WORLD)}
        given |= {name: str(self.certificates) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
        given |= {
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": f"{self.hub.url}{API}",
            "GITHUB_SERVER_URL": self.hub.url,
            **environment,
        }
        flags = ["--secret", f"GITHUB_TOKEN={self.hub.token}", "--actor", "ada"]
        return flags + [part for name, value in given.items() for part in ("--env", f"{name}={value}")]


class Releasing(Asked):
    """What a person with a tag has before them.

    Parameters
    ----------
    github : machine.GitHub
        The repository, and what runs there.
    asked : Asked
        The API.
    """

    def __init__(self, github: GitHub, asked: Asked) -> None:
        super().__init__(asked.hub, asked.certificates)
        self.github = github
        self.work = github.work

    def tag(self, name: str, *flags: str, **environment: str) -> Run:
        """Push a tag of what is checked out."""
        self.hub.tags[name] = self.work.git("rev-parse", "HEAD")
        return self.github.tagged(name, *self.flags(**environment), *flags)

    def merge(self, message: str, conclusion: str | None = "success") -> None:
        """Put what is here on main, as a pull request whose gate ended so; None where it has no gate."""
        self.work.commit(message)
        self.work.git("push", "--quiet", "origin", "HEAD:main")
        commit = self.work.git("rev-parse", "HEAD")
        pull = merged(self.hub, self.work, commit)
        if conclusion:
            self.hub.add_check(pull["head"]["sha"], conclusion)


@contextmanager
def asked(folder: Path) -> Iterator[Asked]:
    """The API, served for as long as this lasts."""
    certificate, key = write_certificate(folder)
    with serve(Hub(certificate), key) as hub:
        hub.repository = REPOSITORY
        # beside those of the world, since what installs packages reads the same variable
        world = Path(os.environ.get("REQUESTS_CA_BUNDLE") or requests.certs.where())
        certificates = folder / "certificates.pem"
        certificates.write_bytes(world.read_bytes() + certificate.read_bytes())
        yield Asked(hub, certificates)


@contextmanager
def releasing(folder: Path) -> Iterator[Releasing]:
    """A main that has run, merged as a pull request that passed."""
    github = GitHub(folder / "github", lambda project: project.run("dvc", "repro") and None)
    with asked(folder) as api:
        found = Releasing(github, api)
        commit = github.work.git("rev-parse", "HEAD")
        found.hub.add_check(merged(found.hub, github.work, commit)["head"]["sha"])
        yield found
