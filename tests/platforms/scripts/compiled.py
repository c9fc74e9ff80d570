"""Whether Kubeflow's compiler writes, for the same steps in its own language, what each file says."""

import json
import sys
import tempfile
from pathlib import Path

import yaml
from kfp import compiler, dsl, kubernetes


def step(name, container):
    def function():
        return dsl.ContainerSpec(image=container["image"], command=container["command"], args=container["args"])

    function.__name__ = name.replace("-", "_")
    return dsl.container_component(function)


def compiled(ours, platform):
    """The two documents that the compiler writes for the tasks of ours."""
    executors = ours["deploymentSpec"]["executors"]
    extras = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    @dsl.pipeline(name=ours["pipelineInfo"]["name"])
    def pipeline():
        made = {}
        for name, wanted in ours["root"]["dag"]["tasks"].items():
            container, extra = executors[f"exec-{name}"]["container"], extras[f"exec-{name}"]
            made[name] = task = step(name, container)()
            task.set_caching_options(False)
            task.set_cpu_limit(container["resources"]["resourceCpuLimit"])
            task.set_memory_limit(container["resources"]["resourceMemoryLimit"])
            policy = wanted["retryPolicy"]
            task.set_retry(
                num_retries=policy["maxRetryCount"],
                backoff_duration=policy["backoffDuration"],
                backoff_factor=policy["backoffFactor"],
                backoff_max_duration=policy["backoffMaxDuration"],
            )
            for variable in container["env"]:
                task.set_env_variable(**variable)
            for secret in extra["secretAsEnv"]:
                keys = {each["secretKey"]: each["envVar"] for each in secret["keyToEnv"]}
                kubernetes.use_secret_as_env(task, secret["secretName"], keys)
            kubernetes.set_timeout(task, int(extra["activeDeadlineSeconds"]))
            task.after(*(made[need] for need in wanted.get("dependentTasks", [])))

    with tempfile.TemporaryDirectory() as folder:
        compiler.Compiler().compile(pipeline, f"{folder}/compiled.yaml")
        theirs, extra = yaml.safe_load_all(Path(folder, "compiled.yaml").read_text())
    return {**theirs, "sdkVersion": ours["sdkVersion"]}, extra


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{path}/{key}")
    elif one != other:
        yield f"{path}: ours {one!r}, theirs {other!r}"


for file in sys.argv[1:]:
    ours, platform = yaml.safe_load_all(Path(file).read_text())
    theirs, extra = compiled(ours, platform)
    print(json.dumps([*differences(ours, theirs), *differences(platform, extra)]))
