"""`make check`: are `params.yaml`, `gate.yaml` and the DVC files valid? Nothing runs."""

from __future__ import annotations

from mlops.core import pointers, settings
from mlops.core.errors import errors_in_words
from mlops.model import custom
from mlops.model.estimators import check_estimator
from mlops.review import policy


def main() -> None:
    pointers.check()
    if policy.GATE.exists():
        policy.load()
    loaded = settings.load()
    check_estimator(loaded)
    custom.check(loaded)


if __name__ == "__main__":
    with errors_in_words():
        main()
