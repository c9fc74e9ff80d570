"""A Kubernetes of two nodes: its control plane, containerd and a kubelet for each node, and CoreDNS."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from k8s.cluster import ADMINISTRATOR, DATA, NODES, PROGRAMS, SERVER, Cluster, is_ready, namespaces, wait_for

PODS, SERVICES, NAMES = "10.244.0.0/16", "10.96.0.0/16", "10.96.0.10"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster whose nodes are ready, in whose network this thread and what it starts are meanwhile."""
    assert (PROGRAMS / "kubelet").exists(), "the cluster's programs are missing; run .ci/cluster"
    with namespaces(folder) as cluster:
        control_plane(cluster)
        for name in NODES:
            node(cluster, name)
        names(cluster)
        wait_for("the nodes are ready", lambda: sum(map(is_ready, cluster.get("nodes"))) == len(NODES))
        yield cluster


def certificates(folder: Path) -> None:
    """An authority, the API server as a client and as the server that pods ask, and a key for service accounts."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    reached = f"subjectAltName=IP:{SERVER},IP:{SERVICES.replace('.0/16', '.1')},DNS:kubernetes.default.svc"
    for name, subject in (("client", "/O=system:masters/CN=kube-apiserver"), ("server", "/CN=kube-apiserver")):
        openssl("req", *key, "-subj", subject, "-addext", reached, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
    openssl("genrsa", "-out", "accounts.key", "2048")


def user(folder: Path, name: str, token: str) -> Path:
    """A file by which a client reaches the API server."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": f"https://{SERVER}:6443", "insecure-skip-tls-verify": True}}
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        "current-context": "test",
    }
    path = folder / f"{name}.kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def control_plane(cluster: Cluster) -> None:
    """etcd, the API server, the controllers, the scheduler, and the rules by which services reach pods."""
    folder = cluster.folder
    certificates(folder)
    users = {ADMINISTRATOR: "system:masters"} | {f"system:node:{name}": "system:nodes" for name in NODES}
    tokens = {name: os.urandom(16).hex() for name in users}
    (folder / "tokens.csv").write_text(
        "".join(f'{tokens[name]},{name},{name},"{group}"\n' for name, group in users.items()), encoding="utf-8"
    )
    for name, token in tokens.items():
        user(folder, name, token)
    administrator = folder / f"{ADMINISTRATOR}.kubeconfig"

    etcd = "http://127.0.0.1:2379"
    cluster.start(
        "etcd",
        "etcd",
        f"--data-dir={DATA}/etcd",
        f"--listen-client-urls={etcd}",
        f"--advertise-client-urls={etcd}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
    )
    cluster.start(
        "kube-apiserver",
        "kube-apiserver",
        f"--etcd-servers={etcd}",
        f"--bind-address={SERVER}",
        f"--advertise-address={SERVER}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--tls-cert-file={folder}/server.crt",
        f"--tls-private-key-file={folder}/server.key",
        f"--client-ca-file={folder}/ca.crt",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged",  # a namespace says for itself what it refuses
        "--enable-admission-plugins=NodeRestriction",
        "--watch-cache=false",  # the cache ends some watches where etcd is as old as Debian's
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/accounts.key",
        f"--service-account-signing-key-file={folder}/accounts.key",
        f"--kubelet-client-certificate={folder}/client.crt",
        f"--kubelet-client-key={folder}/client.key",
        "--kubelet-preferred-address-types=InternalIP",
        # it asks servers of further APIs in the name of its own clients
        f"--requestheader-client-ca-file={folder}/ca.crt",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={folder}/client.crt",
        f"--proxy-client-key-file={folder}/client.key",
    )
    cluster.wait_until_ready(
        "kube-apiserver", lambda: cluster.kubectl("get", "--raw=/readyz", check=False).strip() == "ok"
    )
    cluster.start(
        "kube-controller-manager",
        "kube-controller-manager",
        f"--kubeconfig={administrator}",
        "--leader-elect=false",
        f"--service-account-private-key-file={folder}/accounts.key",
        f"--root-ca-file={folder}/ca.crt",
        f"--cluster-cidr={PODS}",
        # decisions within seconds, which take minutes by default
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
        "--horizontal-pod-autoscaler-downscale-stabilization=5s",
    )
    cluster.start("kube-scheduler", "kube-scheduler", f"--kubeconfig={administrator}", "--leader-elect=false")
    write(
        folder / "kube-proxy.json",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": PODS,
            "hostnameOverride": next(iter(NODES)),
            "clientConnection": {"kubeconfig": str(administrator)},
            # limits of the whole machine, which are not the cluster's to set
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        },
    )
    cluster.start("kube-proxy", "kube-proxy", f"--config={folder}/kube-proxy.json")


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def node(cluster: Cluster, name: str) -> None:
    """containerd and a kubelet; both nodes' pods are on one bridge."""
    folder, data = cluster.folder, DATA / name
    socket = data / "containerd.sock"
    cni = folder / "cni"
    cni.mkdir(exist_ok=True)
    ranges = [[{"subnet": PODS.replace("/16", "/24")}]]
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{DATA}/addresses",
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    write(cni / "pods.conflist", {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})
    (folder / f"containerd-{name}.toml").write_text(
        f"""version = 2
root = "{data}/containerd"
state = "{data}/state"
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{data}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true  # where the machine does not let the score be lowered, no pod would start
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{cni}"
""",
        encoding="utf-8",
    )
    containerd = f"containerd-{name}"
    cluster.start(containerd, "containerd", f"--config={folder}/containerd-{name}.toml")
    cluster.wait_until_ready(containerd, lambda: "Server" in ctr(cluster, name, "version", check=False))
    ctr(cluster, name, "images", "import", PROGRAMS / "pause.tar")

    group = f"model-cluster-{name}"
    for hierarchy in hierarchies():
        (hierarchy / group).mkdir(exist_ok=True)
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "address": NODES[name],
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{folder}/ca.crt"}},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "featureGates": {"KubeletInUserNamespace": True},  # goes on where the machine's settings may not be changed
        "resolvConf": "",
        "clusterDNS": [NAMES],
        "clusterDomain": "cluster.local",
        "podLogsDir": f"{data}/logs",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "maxPods": 30,
    }
    cluster.start(
        f"kubelet-{name}",
        "kubelet",
        f"--config={write(folder / f'kubelet-{name}.json', settings)}",
        f"--kubeconfig={folder}/system:node:{name}.kubeconfig",
        f"--root-dir={data}/kubelet",
        f"--cert-dir={data}/certificates",
        f"--hostname-override={name}",
        f"--node-ip={NODES[name]}",
    )


def ctr(cluster: Cluster, node: str, *arguments: str | Path, check: bool = True) -> str:
    """Ask a node's containerd."""
    command = ("ctr", f"--address={DATA / node}/containerd.sock", "--namespace=k8s.io")
    return cluster.run(*command, *arguments, check=check)


def names(cluster: Cluster) -> None:
    """CoreDNS, which knows the names of services; it runs beside the nodes, and pods ask a service for it."""
    corefile = cluster.folder / "Corefile"
    corefile.write_text(
        f""". {{
    bind {SERVER}
    ready {SERVER}:8181
    errors
    cache 5
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {cluster.folder / ADMINISTRATOR}.kubeconfig
    }}
}}
""",
        encoding="utf-8",
    )
    cluster.start("coredns", "coredns", f"-conf={corefile}")
    ports = [{"name": protocol.lower(), "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    publish(cluster, {"name": "kube-dns", "namespace": "kube-system"}, ports, clusterIP=NAMES)

    def ready() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{SERVER}:8181/ready", timeout=5):
            return True
        return False

    cluster.wait_until_ready("coredns", ready)


def publish(cluster: Cluster, metadata: dict[str, str], ports: list[dict[str, Any]], **spec: Any) -> None:
    """A service whose server runs beside the nodes."""
    subsets = [{"addresses": [{"ip": SERVER}], "ports": ports}]
    items = [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **spec}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets},
    ]
    cluster.kubectl("apply", "--filename=-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def hierarchies() -> list[Path]:
    """Where a control group is made: one place, or one for each resource where the machine has version 1."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return [path for path in root.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]
