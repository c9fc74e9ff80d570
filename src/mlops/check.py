"""`make check`: are `params.yaml`, `gate.yaml` and the DVC files valid? Nothing runs."""

from __future__ import annotations

from mlops import pointers, policy, settings
from mlops.estimators import check_estimator
from mlops.stage import errors_in_words


def main() -> None:
    pointers.check()
    if policy.GATE.exists():
        policy.load()
    check_estimator(settings.load())


if __name__ == "__main__":
    with errors_in_words():
        main()
