"""The pods that Airflow would start, by the name of the task."""

import json
import runpy
import sys

from kubernetes.client import ApiClient

started = runpy.run_path(sys.argv[1])["started"]
pods = {name: ApiClient().sanitize_for_serialization(each.build_pod_request_obj()) for name, each in started.items()}
print(json.dumps(pods))
