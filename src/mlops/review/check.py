"""`make check`: checks `params.yaml`, `gate.yaml`, the DVC files and `src/project/` without running anything."""

from __future__ import annotations

from mlops.core import pointers, room
from mlops.core import settings as settings_module
from mlops.core.errors import errors_in_words
from mlops.inference import computed
from mlops.model import declared
from mlops.model.estimators import check_estimator
from mlops.review import policy, rule_call


def main() -> None:
    pointers.check()
    room.check()
    if policy.GATE.exists():
        rule_call.check(policy.load().rules, policy.GATE)
    settings = settings_module.load()
    check_estimator(settings)
    computed.declared(settings.data.features)
    declared.check(settings)


if __name__ == "__main__":
    with errors_in_words():
        main()
