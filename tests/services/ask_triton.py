"""Asks the service as a user of Triton's client does; prints what came back as JSON. It runs where that client is."""

from __future__ import annotations

import json
import sys

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

address, given = sys.argv[1], json.loads(sys.argv[2])
client = InferenceServerClient(address)
found = {
    "healthy": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("model")],
    "other": client.is_model_ready("other"),
    "inputs": [each["name"] for each in client.get_model_metadata("model")["inputs"]],
    "server": client.get_server_metadata()["name"],
    "answers": [],
}
for binary in (True, False):
    inputs = []
    for name, values in given.items():
        tensor = InferInput(name, [len(values)], "FP64")
        tensor.set_data_from_numpy(np.array(values, dtype=np.float64), binary_data=binary)
        inputs.append(tensor)
    for outputs in (None, [InferRequestedOutput(each) for each in ("prediction", "probability of benign")]):
        answer = client.infer("model", inputs, outputs=outputs, request_id="order-7")
        predicted = answer.as_numpy("prediction").tolist()
        found["answers"].append(
            [answer.get_response()["id"], predicted, answer.as_numpy("probability of benign").tolist()]
        )
try:
    client.infer("model", inputs[1:])
except InferenceServerException as error:
    found["error"] = [error.status(), error.message()]
print(json.dumps(found))
