"""The built-in rules of the gate, one class each: its settings, what it finds, and what its numbers allow.

A rule is registered by its class: a subclass of `Rule` in any module of this package is a row that `gate.yaml` may
have. Nothing here imports NumPy, because the job that derives the verdict has none; statistics are methods of the
evidence.
"""

from __future__ import annotations

import importlib
import pkgutil

from mlops.review.rules.base import Rule


def built_in() -> tuple[type[Rule], ...]:
    """Every built-in rule, in the order of the modules and of the classes in them."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        path = f"{__name__}.{module.name}"
        defined = vars(importlib.import_module(path)).values()
        classes = [each for each in defined if isinstance(each, type) and each.__module__ == path]
        found += [each for each in classes if issubclass(each, Rule) and each.built_in()]
    return tuple(found)
