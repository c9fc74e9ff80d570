"""Central differential privacy about a whole holder: Flower clips each update and adds noise to their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.serverapp import NeighboringRelation, PrivacyConfig, RdpAccountant, SamplingMethod
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, Strategy

DELTA = 1e-5


def protected(strategy: Strategy, config: Any) -> DifferentialPrivacyServerSideFixedClipping:
    """The strategy, with clipping and noise, and an account of epsilon if there is noise."""
    hospitals, noise = int(config["hospitals"]), float(config["noise"])
    accountant = None
    if noise > 0:
        accountant = RdpAccountant(
            PrivacyConfig(
                target_delta=DELTA,
                population_size=hospitals,
                neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
                sampling_method=SamplingMethod.NO_AMPLIFICATION,
            )
        )
    if int(config["seed"]) >= 0:  # public noise hides nothing: for tests and comparisons
        np.random.seed(int(config["seed"]))
    return DifferentialPrivacyServerSideFixedClipping(
        strategy, noise, float(config["clip"]), hospitals, accountant=accountant
    )


def spent(strategy: Strategy) -> dict[str, Any]:
    """What protects the updates, and the epsilon of all rounds together."""
    if not isinstance(strategy, DifferentialPrivacyServerSideFixedClipping):
        return {}
    found = {"noise": strategy.noise_multiplier, "clip": strategy.clipping_norm}
    account = strategy.privacy_spent()
    return found if account is None else {**found, "epsilon": round(account.epsilon, 4), "delta": account.delta}
