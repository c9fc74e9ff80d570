"""The job that Azure ML's package would send for each file: steps, what they read, time limits; or what is wrong."""

import json
import re
import sys

from azure.ai.ml import load_job
from marshmallow.exceptions import ValidationError


def described(path):
    try:
        job = load_job(path)
    except ValidationError as error:
        found = re.findall(r'"message": "(.*?)",\s*"path": "(.*?)"', str(error))
        return [f"{path}: {message}" for message, path in found]
    return {
        name: {"inputs": sorted(step.get("inputs") or {}), "timeout": step["limits"]["timeout"]}
        for name, step in job._to_rest_object().properties.jobs.items()
    }


for path in sys.argv[1:]:
    print(json.dumps(described(path)))
