"""What the manifests become: rendered by kustomize, and checked against the schemas that `.ci/deploy` installed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from conftest import ROOT
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from ruamel.yaml import YAML

DEPLOY = ROOT / "deploy"
TOOLS = ROOT / "build/tools/deploy"
KUBERNETES = TOOLS / "schemas/kubernetes_validate/kubernetes-json-schema"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
METADATA = "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

Object = dict[str, Any]


def tool(name: str) -> str:
    """A program that `.ci/deploy` has installed."""
    found = shutil.which(name, path=f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin")
    assert found, f"{name} is not installed; run .ci/deploy"
    return found


def run(*command: str | Path, **options: Any) -> str:
    """Run a tool that must succeed; what it says."""
    done = subprocess.run(
        [tool(str(command[0])), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def load(text: str) -> list[Object]:
    """The objects of a YAML stream."""
    return [each for each in YAML(typ="safe").load_all(text) if each]


def render(folder: Path) -> list[Object]:
    """What `kustomize build` makes of a folder."""
    return load(run("kustomize", "build", folder))


def with_components(folder: Path, overlay: str, *components: str) -> Path:
    """A copy of `deploy/` whose overlay takes components in, as deploy/kubernetes/README.md tells it."""
    shutil.copytree(DEPLOY, folder / "deploy")
    chosen = folder / "deploy/kubernetes/overlays" / overlay
    lines = "".join(f"  - {component}\n" for component in components)
    with (chosen / "kustomization.yaml").open("a", encoding="utf-8") as file:
        file.write(f"components:\n{lines}")
    return chosen


def problems(objects: list[Object], version: str) -> list[str]:
    """Where objects are not as the schemas of a Kubernetes version and of the controllers ask; unknown fields count."""
    definitions = schema_file(version, "_definitions")
    registry = Registry().with_resource(definitions["$id"], Resource.from_contents(definitions))
    found = []
    for each in objects:
        schema = {"$schema": DIALECT, **(custom().get((each["apiVersion"], each["kind"])) or builtin(each, version))}
        for error in Draft202012Validator(schema, registry=registry).iter_errors(each):
            found.append(f"{each['kind']} {each['metadata']['name']}: {error.json_path}: {error.message[:200]}")
    return found


@functools.cache
def schema_file(version: str, name: str) -> dict[str, Any]:
    path = KUBERNETES / f"v{version}.0-local-strict" / f"{name}.json"
    assert path.is_file(), f"Kubernetes {version} knows no {name}, and .ci/deploy has installed no definition of it"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def builtin(each: Object, version: str) -> dict[str, Any]:
    """The schema of what Kubernetes itself has: apps/v1 Deployment is in deployment-apps-v1.json."""
    group, _, short = each["apiVersion"].rpartition("/")
    return schema_file(version, "-".join(filter(None, [each["kind"].lower(), group.split(".")[0], short])))


@functools.cache
def custom() -> dict[tuple[str, str], dict[str, Any]]:
    """The schemas of what controllers bring, from their definitions."""
    found = {}
    for path in sorted((TOOLS / "definitions").iterdir()):
        for definition in load(path.read_text(encoding="utf-8")):
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")}
                schema["properties"]["metadata"] = {"$ref": METADATA}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def strict(schema: Any) -> Any:
    """The schema of a custom resource as JSON Schema that takes no fields but its own."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        found["additionalProperties"] = False
    return found
