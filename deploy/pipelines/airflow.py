"""Written by `make platform TO=airflow` from dvc.yaml and deploy/pipelines/settings.yaml. Do not edit.

Airflow 3, with apache-airflow-providers-cncf-kubernetes.
"""

from datetime import datetime, timedelta, timezone

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s

IMAGE = "ghcr.io/your-org/model-pipeline@sha256:0000000000000000000000000000000000000000000000000000000000000000"
ENVIRONMENT = {
    "DVC_REMOTE_URL": "s3://your-bucket/model",
}
CREDENTIALS = "model-pipeline"  # a Secret of Kubernetes
# task: what it runs, what it waits for, processors, GiB, seconds, retries
TASKS = {
    "ingest": (["ingest", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], [], 2, 4, 3600, 2),
    "validate": (["validate", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["ingest"], 2, 4, 3600, 2),
    "split": (["split", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["ingest", "validate"], 2, 4, 3600, 2),
    "profile": (["profile", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["ingest", "split"], 2, 4, 3600, 2),
    "tune": (["tune", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["ingest", "split"], 4, 8, 21600, 2),
    "train": (["train", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["ingest", "split", "tune"], 4, 8, 7200, 2),
    "export": (["export", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["ingest", "split", "train"], 2, 4, 3600, 2),
    "evaluate": (["evaluate", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["export", "ingest", "split", "train"], 2, 4, 3600, 2),
    "card": (["card", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["evaluate", "export", "ingest", "split", "train", "tune"], 2, 4, 3600, 2),
    "track": (["track", "--run", "{{ run_id }}", "--graph", "bf6ce72d8486"], ["evaluate", "export", "ingest", "split", "train", "tune"], 2, 4, 3600, 2),
}

with DAG(
    "model-pipeline",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
):
    started = {}
    for name, (arguments, needs, cpu, memory, seconds, retries) in TASKS.items():
        size = {"cpu": str(cpu), "memory": f"{memory}Gi"}
        started[name] = KubernetesPodOperator(
            task_id=name,
            name=f"model-pipeline-{name}",
            image=IMAGE,
            cmds=["sh", "/opt/pipeline/task"],
            arguments=arguments,
            env_vars=ENVIRONMENT,
            env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=CREDENTIALS))],
            container_resources=k8s.V1ResourceRequirements(requests=size, limits=size),
            container_security_context={
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            execution_timeout=timedelta(seconds=seconds),
            retries=retries,
            retry_delay=timedelta(seconds=30),
            retry_exponential_backoff=True,
        )
        started[name].set_upstream([started[need] for need in needs])
