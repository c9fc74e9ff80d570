"""Asks the service as a user of KServe's client does; prints what came back as JSON. It runs where that client is."""

from __future__ import annotations

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def ask(url: str, given: dict[str, list[float]]) -> dict[str, object]:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        healthy = [await client.is_server_live(url), await client.is_server_ready(url)]
        found = {"healthy": [*healthy, await client.is_model_ready(url, "model")], "answers": []}
        found["other"] = await client.is_model_ready(url, "other")
        for binary in (True, False):
            inputs = []
            for name, values in given.items():
                tensor = InferInput(name, [len(values)], "FP64")
                tensor.set_data_from_numpy(np.array(values, dtype=np.float64), binary_data=binary)
                inputs.append(tensor)
            answer = await client.infer(url, InferRequest("model", inputs, request_id="order-7"), model_name="model")
            outputs = {each.name: each.data for each in answer.outputs}
            found["answers"].append([answer.id, outputs["prediction"], outputs["probability of benign"]])
        try:
            await client.infer(url, InferRequest("model", inputs[1:]), model_name="model")
        except httpx.HTTPStatusError as error:
            found["error"] = [str(error.response.status_code), str(error)]
    return found


print(json.dumps(asyncio.run(ask(f"http://{sys.argv[1]}", json.loads(sys.argv[2])))))
