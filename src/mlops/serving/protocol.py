"""The protocol of a platform that the service speaks beside its own, and its port: by `SERVING_PROTOCOL`.

It imports next to nothing where none is chosen, and for the image's health check, which asks for the port.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, cast

from mlops.core.errors import UserError

if TYPE_CHECKING:
    from mlops.inference.contract import Contract
    from mlops.serving.adapter import Dialect

VARIABLE = "SERVING_PROTOCOL"
PREDICT_ROUTE = "AIP_PREDICT_ROUTE"  # Vertex AI sets it in each of its containers
OWN_PORT = "3000"


class Protocol(NamedTuple):
    """Where a platform looks for the service.

    Attributes
    ----------
    port : str
        Where it looks unless it says otherwise.
    variable : str
        The variable in which it says otherwise.
    """

    port: str
    variable: str = "PORT"


PROTOCOLS = {
    "sagemaker": Protocol("8080", "SAGEMAKER_BIND_TO_PORT"),
    "vertex": Protocol("8080", "AIP_HTTP_PORT"),
    "azureml": Protocol("5001"),
    "mlflow": Protocol("8080"),
    "kserve": Protocol("8080"),
}


def chosen() -> str | None:
    """Name of the protocol; None if the service speaks its own only.

    Raises
    ------
    UserError
        Where there is no such protocol.
    """
    name = os.environ.get(VARIABLE, "").strip().lower()
    if not name:
        return "vertex" if PREDICT_ROUTE in os.environ else None
    if name not in PROTOCOLS:
        raise UserError(f"{VARIABLE} must be one of {', '.join(PROTOCOLS)}, got {name!r}", f"{VARIABLE}=kserve")
    return name


def port() -> str:
    """The port, as it was given: `BENTOML_PORT`, the platform's variable, `PORT`, or the platform's usual one."""
    name = chosen()
    platform = PROTOCOLS[name] if name else Protocol(OWN_PORT)
    given = (os.environ.get(each) for each in ("BENTOML_PORT", platform.variable, "PORT"))
    return next(filter(None, given), platform.port)


def dialect(contract: Contract, version: str) -> Dialect | None:
    """The protocol that was chosen, for this model; None if there is none.

    Raises
    ------
    UserError
        Where a variable of the platform is invalid.
    """
    name = chosen()
    if name is None:
        return None
    if name == "kserve":
        from mlops.serving import tensors

        return tensors.kserve(contract, version)
    from mlops.serving import envelopes

    return cast("Dialect", getattr(envelopes, name)(contract))
