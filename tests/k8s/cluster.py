"""Where a cluster runs: namespaces of its own on this machine, which go without a trace.

One process holds namespaces of processes, of mounts and of the network, and everything runs in these. When it ends, all
end, and whatever was mounted or connected goes with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conftest import ROOT

PATIENCE = 180  # seconds that anything may take on a busy machine
PROGRAMS = ROOT / "build/tools/cluster"
SERVER = "10.0.0.1"
NODES = {"one": "10.0.0.11", "two": "10.0.0.12"}
# where the nodes keep what they have: in memory, and only in the cluster's own mounts
DATA = Path("/run/model-cluster")
ADMINISTRATOR = "administrator"

# The first process of the namespace reaps what others leave behind, because it ignores SIGCHLD.
HOLD = f"""set -e
mount --make-rshared /
mkdir -p {DATA}
mount -t tmpfs -o mode=755 cluster {DATA}
ip link set lo up
ip link add node type veth peer name other
ip link set other up
ip link set node up
for address in {SERVER} {" ".join(NODES.values())}; do ip address add $address/24 dev node; done
ip route add default dev node
sysctl -qw net.ipv4.ip_forward=1
echo ready
trap '' CHLD
exec sleep infinity
"""


def wait_for(what: str, done: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Ask again and again until the answer is one."""
    end = time.monotonic() + patience
    while not (found := done()):
        assert time.monotonic() < end, f"{what}: not within {patience} seconds"
        time.sleep(0.2)
    return found


class Cluster:
    """A cluster that runs.

    Parameters
    ----------
    folder : Path
        Of its settings, certificates and logs.
    holder : int
        The process that holds its namespaces.
    """

    def __init__(self, folder: Path, holder: int) -> None:
        self.folder = folder
        self.inside = ["nsenter", f"--target={holder}", "--mount", "--net", "--pid"]
        self.outside = Path("/proc/self/ns/net")
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            "PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "KUBECONFIG": str(folder / f"{ADMINISTRATOR}.kubeconfig"),
        }

    def start(self, name: str, *command: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program; what it says goes to a file of that name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.started[name] = subprocess.Popen(
                [*self.inside, *command],
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.started[name]

    def stop(self, name: str) -> None:
        """Stop a program, which is a child of the one that entered the namespaces."""
        program = self.started[name]
        for child in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        program.wait()

    def run(self, *command: str | Path, check: bool = True, text: str | None = None) -> str:
        """What a command says that must succeed; of one that need not, errors too."""
        done = subprocess.run(
            [*self.inside, *command],
            env=self.environment,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if check else subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
        return done.stdout

    def kubectl(self, *arguments: str | Path, check: bool = True, text: str | None = None) -> str:
        return self.run("kubectl", *arguments, check=check, text=text)

    def get(self, *arguments: str) -> Any:
        """An object, or a list of them."""
        found = json.loads(self.kubectl("get", "--output=json", *arguments))
        return found["items"] if found["kind"] == "List" else found

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self, name: str, ready: Callable[[], Any]) -> None:
        """Wait for a program that was started; where it has ended, say what it said."""

        def asked() -> Any:
            assert self.started[name].poll() is None, f"{name} has ended:\n{self.log(name)[-3000:]}"
            return ready()

        wait_for(f"{name} is ready", asked)


@contextlib.contextmanager
def namespaces(folder: Path) -> Iterator[Cluster]:
    """An empty cluster, in whose network this thread and what it starts are meanwhile."""
    remove_control_groups()
    command = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    command += ["--mount-proc", "sh", "-c", HOLD]
    with (folder / "holder.log").open("wb") as log:
        holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    cluster = None
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"ready\n", (folder / "holder.log").read_text()
        (first,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        cluster = Cluster(folder, int(first))
        with network(Path(f"/proc/{first}/ns/net")) as cluster.outside:
            yield cluster
    finally:
        holder.kill()  # and with it the first process of the namespace, and with that all others
        holder.wait()
        for each in cluster.started.values() if cluster else ():
            each.wait()
        remove_control_groups()


def is_ready(each: Any) -> bool:
    """Whether a node or a pod can do its work."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in each["status"].get("conditions", []))


@contextlib.contextmanager
def network(inside: Path) -> Iterator[Path]:
    """Let this thread and what it starts use another network; the one that they leave."""
    enter = ctypes.CDLL(None, use_errno=True).setns
    with Path("/proc/self/ns/net").open() as own, inside.open() as other:
        assert enter(other.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        try:
            yield Path(f"/proc/self/fd/{own.fileno()}")
        finally:
            enter(own.fileno(), 0)


def remove_control_groups() -> None:
    """Remove the groups of pods that have ended."""
    for name in NODES:
        for root in Path("/sys/fs/cgroup").glob(f"**/model-cluster-{name}"):
            for path, _, _ in os.walk(root, topdown=False):
                wait_for(f"{path} is empty", lambda path=path: removed(Path(path)), 20)


def removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()
