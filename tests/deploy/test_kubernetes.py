"""The manifests: whole, valid for the oldest and the newest Kubernetes we name, and as careful as they claim to be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from manifests import DEPLOY, Object, load, problems, render, run, with_components

from mlops.core.logoptions import LogOptions

KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.30", "1.37")
MONITORING, CANARY, BLUE_GREEN = "../../../monitoring", "../../components/canary", "../../components/blue-green"
LOG, SCHEDULE, PRECOMPUTE = "../../../log", "../../../schedule", "../../../precompute"
COMBINATIONS = {
    "alone": (),
    "monitored": (MONITORING,),
    "canary": (MONITORING, CANARY),
    "blue-green": (MONITORING, BLUE_GREEN),
    "logged": (LOG, SCHEDULE),
    "precomputed": (PRECOMPUTE,),
    "all": (MONITORING, CANARY, LOG, SCHEDULE, PRECOMPUTE),
}
CASES = [(overlay, which) for overlay in ("staging", "production") for which in COMBINATIONS] + [("shadow", "alone")]
BY_DIGEST = re.compile(r"ghcr\.io/\S+@sha256:[0-9a-f]{64}")
BY_VERSION = re.compile(r"(docker\.io/)?[a-z/]+:\d+\.\d+\.\d+(-[a-z]+)?(@sha256:[0-9a-f]{64})?")
HARDENED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture(scope="module", params=CASES, ids=map(" ".join, CASES))
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """An overlay, alone and with its components."""
    overlay, combination = request.param
    if not COMBINATIONS[combination]:
        return render(KUBERNETES / "overlays" / overlay)
    folder = tmp_path_factory.mktemp("deploy")
    return render(with_components(folder, overlay, *COMBINATIONS[combination]))


def only(objects: list[Object], kind: str) -> Object:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def named(objects: list[Object], kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def test_knative_s_service_is_as_its_definition_asks_and_as_careful_as_the_deployment() -> None:
    objects = render(DEPLOY / "knative")
    assert problems(objects, VERSIONS[-1]) == []
    template = only(objects, "Service")["spec"]["template"]
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "0"
    (container,) = template["spec"]["containers"]
    assert BY_DIGEST.fullmatch(container["image"])
    deployment = only(render(KUBERNETES / "overlays/production"), "Deployment")["spec"]["template"]["spec"]
    (usual,) = deployment["containers"]
    assert container["securityContext"] == deployment["securityContext"] | usual["securityContext"]
    assert {key: container[key] for key in ("env", "resources", "volumeMounts")} == {
        key: usual[key] for key in ("env", "resources", "volumeMounts")
    }
    container["prots"] = container.pop("ports")
    (problem,) = problems(objects, VERSIONS[-1])
    assert "'prots' was unexpected" in problem


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_as_its_schema_asks(rendered: list[Object], version: str) -> None:
    assert len(rendered) >= 7
    assert problems(rendered, version) == []


@pytest.mark.parametrize("path", ["base", "gitops/argocd.yaml", "gitops/flux.yaml"])
def test_base_and_examples_are_as_their_schemas_ask(path: str) -> None:
    place = KUBERNETES / path
    objects = render(place) if place.is_dir() else load(place.read_text(encoding="utf-8"))
    assert objects
    assert problems(objects, VERSIONS[-1]) == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "imagePolicy"), "Always"),
        ("Deployment", ("spec", "replicas"), "two"),
        ("Rollout", ("spec", "strategy", "canary", "stpes"), []),
        ("AnalysisTemplate", ("spec", "metrics", 0, "provider", "prometheus", "querry"), "up"),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "ports"), "http"),
    ],
)
def test_a_mistyped_field_is_noticed(kind: str, path: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    objects = render(with_components(tmp_path, "production", MONITORING, CANARY))
    place: Any = only(objects, kind)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (problem,) = problems(objects, VERSIONS[-1])
    assert problem.startswith(f"{kind} model: ")


def test_the_model_is_named_by_digest_and_nothing_else_runs(rendered: list[Object]) -> None:
    pods = [pod_of(each) for each in rendered]
    names = [c["name"] for pod in pods for c in [*pod.get("containers", []), *pod.get("initContainers", [])]]
    beside = {"model-monitor": ["monitor", "shipper"], "model-score": ["score"]}
    assert sorted(names) == sorted(["model", *(name for job in named(rendered, "CronJob") for name in beside[job])])
    (container,) = pod_of(only(rendered, "Deployment"))["containers"]
    assert BY_DIGEST.fullmatch(container["image"])


def pod_of(each: Object) -> dict[str, Any]:
    spec = each.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    found: dict[str, Any] = spec.get("template", {}).get("spec", {})
    return found


def test_the_pod_may_do_nothing_that_it_need_not(rendered: list[Object]) -> None:
    pod = pod_of(only(rendered, "Deployment"))
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == HARDENED
    mounts = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert all(set(volume) == {"name", "emptyDir"} for volume in pod["volumes"] if volume["name"] in mounts)
    assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert pod["automountServiceAccountToken"] is False
    assert only(rendered, "ServiceAccount")["automountServiceAccountToken"] is False
    assert not any(each["kind"].endswith(("Role", "RoleBinding", "Secret")) for each in rendered)


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_the_namespace_lets_no_careless_pod_in(overlay: str) -> None:
    labels = only(render(KUBERNETES / "overlays" / overlay), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    return render(with_components(tmp_path_factory.mktemp("logged"), "production", LOG, SCHEDULE, PRECOMPUTE))


def test_the_shipper_reads_what_the_service_logs_and_may_do_nothing_else(logged: list[Object]) -> None:
    pod = pod_of(only(logged, "Deployment"))
    (service,), (shipper,) = pod["containers"], pod["initContainers"]
    (folder,) = (each["value"] for each in service["env"] if each["name"] == "PREDICTION_LOG")
    assert {"name": "log", "mountPath": folder} in service["volumeMounts"]
    assert {"name": "log", "mountPath": folder, "readOnly": True} in shipper["volumeMounts"]
    assert all(mount["readOnly"] for mount in shipper["volumeMounts"])
    assert shipper["securityContext"] == HARDENED
    assert BY_VERSION.fullmatch(shipper["image"])
    # a sidecar: it outlives the service, which seals its last file when it stops
    assert shipper["restartPolicy"] == "Always"
    assert pod["terminationGracePeriodSeconds"] > 75
    # more than the log may take by default, and one file more
    assert volume_of(pod, "log")["emptyDir"]["sizeLimit"] == "6Gi"
    assert 1e9 * LogOptions().keep_gb + 1e6 * LogOptions().segment_mb < 6 * 2**30


@pytest.mark.parametrize("name", ["model-monitor", "model-score"])
def test_a_job_runs_daily_and_may_do_nothing_that_it_need_not(name: str, logged: list[Object]) -> None:
    job = named(logged, "CronJob")[name]
    pod = pod_of(job)
    (container,) = pod["containers"]
    assert job["spec"]["schedule"].endswith(" * * *")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert BY_VERSION.fullmatch(container["image"])
    assert container["securityContext"] == HARDENED
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    # no label of the model's pods: none of its traffic, and none of its network policy
    labels = job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    selector = only(logged, "Service")["spec"]["selector"]
    assert labels
    assert not selector.items() <= labels.items()
    address = {each["name"]: each.get("value", "") for each in container["env"]}
    assert address["SERVICE"] == f"http://{only(logged, 'Service')['metadata']['name']}"
    if name == "model-monitor":
        assert address["PUSH_URL"].endswith("/metrics/job/model-monitor/namespace/$(NAMESPACE)")
        return
    served = pod_of(only(logged, "Deployment"))
    (model,) = served["containers"]
    assert {"name": "PREDICTIONS", "value": address["PREDICTIONS"]} in model["env"]
    (reads,) = (mount for mount in model["volumeMounts"] if mount["name"] == "predictions")
    assert reads["readOnly"] is True
    assert address["PREDICTIONS"].startswith(f"{reads['mountPath']}/")
    claim = volume_of(pod, "predictions")["persistentVolumeClaim"]
    assert volume_of(served, "predictions")["persistentVolumeClaim"] == {**claim, "readOnly": True}


@pytest.mark.parametrize(
    ("owner", "script"),
    [("model", "log/ship.sh"), ("model-monitor", "schedule/monitor.sh"), ("model-score", "precompute/score.sh")],
    ids=["shipper", "monitor", "score"],
)
def test_scripts_are_mounted_and_credentials_come_from_a_secret(owner: str, script: str, logged: list[Object]) -> None:
    pod = pod_of({**named(logged, "Deployment"), **named(logged, "CronJob")}[owner])
    container = pod.get("initContainers", pod["containers"])[0]
    mounts = {mount["mountPath"]: volume_of(pod, mount["name"]) for mount in container["volumeMounts"]}
    folder, _, name = container["command"][-1].rpartition("/")
    content = named(logged, "ConfigMap")[mounts[folder]["configMap"]["name"]]["data"][name]
    assert content == (DEPLOY / script).read_text(encoding="utf-8")
    assert [list(each) for each in container["envFrom"]] == [["secretRef"]]
    assert not any(word in each["name"] for each in container["env"] for word in ("KEY", "SECRET", "TOKEN"))


def volume_of(pod: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(volume for volume in pod["volumes"] if volume["name"] == name)
    return found


def test_a_token_is_needed_and_is_not_in_git(rendered: list[Object]) -> None:
    (container,) = pod_of(only(rendered, "Deployment"))["containers"]
    (token,) = (each for each in container["env"] if each["name"] == "SERVICE_TOKEN")
    assert token["valueFrom"] == {"secretKeyRef": {"name": "model-token", "key": "SERVICE_TOKEN"}}


def test_no_request_is_cut_off_when_pods_change(rendered: list[Object]) -> None:
    deployment = only(rendered, "Deployment")
    pod = pod_of(deployment)
    (container,) = pod["containers"]
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # the service gives a request 60 seconds
    assert pod["terminationGracePeriodSeconds"] >= waits + 60
    assert only(rendered, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_whatever_selects_pods_finds_these(rendered: list[Object]) -> None:
    labels = only(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [service["spec"]["selector"] for service in named(rendered, "Service").values()]
    selectors += [
        only(rendered, kind)["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")
    ]
    selectors += [only(rendered, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in named(rendered, "Rollout").values()]
    assert all(selector and selector.items() <= labels for selector in selectors)
    ports = {
        port["name"]: port["containerPort"] for port in pod_of(only(rendered, "Deployment"))["containers"][0]["ports"]
    }
    assert ports == {"http": 3000}


def test_the_autoscaler_scales_what_runs(rendered: list[Object]) -> None:
    kind = "Rollout" if named(rendered, "Rollout") else "Deployment"
    target = only(rendered, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    scaled = only(rendered, kind)
    assert target == {"apiVersion": scaled["apiVersion"], "kind": kind, "name": scaled["metadata"]["name"]}
    assert "replicas" not in only(rendered, "Deployment")["spec"]


def test_nothing_leaves_the_pod_and_only_the_port_is_open(rendered: list[Object]) -> None:
    policy = only(rendered, "NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    logged = "initContainers" in pod_of(only(rendered, "Deployment"))
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    assert ports == ([53, 53, 443] if logged else [])
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": "http"}]]
    assert all(rule["from"] for rule in policy["ingress"])


def test_the_canary_is_analysed_and_its_template_gets_what_it_asks_for(tmp_path: Path) -> None:
    objects = render(with_components(tmp_path, "production", MONITORING, CANARY))
    canary = only(objects, "Rollout")["spec"]["strategy"]["canary"]
    template = only(objects, "AnalysisTemplate")
    assert canary["analysis"]["templates"] == [{"templateName": template["metadata"]["name"]}]
    given = {each["name"] for each in canary["analysis"]["args"]}
    assert {each["name"] for each in template["spec"]["args"] if "value" not in each} == given
    weights = [step["setWeight"] for step in canary["steps"] if "setWeight" in step]
    assert weights[0] == 10
    assert weights == sorted(weights)
    label = only(objects, "PodMonitor")["spec"]["podTargetLabels"][0]
    assert all(
        label.replace("-", "_") in each["provider"]["prometheus"]["query"] for each in template["spec"]["metrics"]
    )


def test_a_shadow_answers_nobody() -> None:
    shadow = render(KUBERNETES / "overlays/shadow")
    production = render(KUBERNETES / "overlays/production")
    labels = only(shadow, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert not only(production, "Service")["spec"]["selector"].items() <= labels
    names = {(each["kind"], each["metadata"]["name"], each["metadata"]["namespace"]) for each in shadow}
    assert not names & {
        (each["kind"], each["metadata"]["name"], each["metadata"].get("namespace")) for each in production
    }
    rule = only(shadow, "HTTPRoute")["spec"]["rules"][0]
    assert [each["name"] for each in rule["backendRefs"]] == list(named(production, "Service"))
    assert [each["requestMirror"]["backendRef"]["name"] for each in rule["filters"]] == list(named(shadow, "Service"))


def test_the_examples_point_at_overlays_that_are_there() -> None:
    paths = [each["spec"]["source"]["path"] for each in load((KUBERNETES / "gitops/argocd.yaml").read_text("utf-8"))]
    flux = load((KUBERNETES / "gitops/flux.yaml").read_text("utf-8"))
    paths += [each["spec"]["path"] for each in flux if each["kind"] == "Kustomization"]
    assert len(paths) == 4
    for path in paths:
        run("kustomize", "build", DEPLOY.parent / path)


def test_no_manifest_names_a_moving_tag() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file())
    assert ":latest" not in text
