"""`params.yaml` with a comment for each decision, a canvas that asks what only a person knows, and a README."""

from __future__ import annotations

import io
import re
import textwrap
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from mlops.core.errors import counted
from mlops.core.settings import Settings
from mlops.pipeline.start.recipe import Plan

HEAD = """# yaml-language-server: $schema=params.schema.json
# `make start` wrote this from a look at the table. Each comment is the reason for the key below it, for you to check.
# An edit is yours: `make start` does not write the file again once it is edited.
"""
WIDTH = 112
# decisions that need no reason of their own where none was found
ALWAYS = {
    "data.features": "functions of src/project/features.py by name; none, as its example is for the template's table",
    "validate.suite": "drafted from this table: edit limits and severities",
    "tuning": "or {method: bayesian, space: {…}}: search for better parameters",
}


def params(plan: Plan) -> str:
    """The text of `params.yaml`."""
    reasons = {**ALWAYS, **{key: why for key, why in plan.reasons.items() if why}}
    if "data.features" in plan.reasons:
        reasons["data.features"] = f"{plan.reasons['data.features']}\n{ALWAYS['data.features']}"
    yaml = YAML()
    yaml.width = 4096
    text = io.StringIO()
    yaml.dump(_commented(plan.params, reasons), text)
    # ruamel writes null as nothing
    sections = re.sub(r"(?m)^( *(suite|tuning)):$", r"\1: null", text.getvalue()).splitlines()
    spaced: list[str] = []
    for number, line in enumerate(sections):
        # a blank line before each section, or before the comment above it
        starts = line[:1].strip() and (not number or not sections[number - 1].startswith("#"))
        if starts and spaced:
            spaced.append("")
        spaced.append(line)
    return HEAD + "\n".join(spaced) + "\n"


def _commented(content: dict[str, Any], reasons: dict[str, str], prefix: str = "", indent: int = 0) -> CommentedMap:
    """A mapping with the reasons as comments before its keys."""
    made = CommentedMap()
    for key, value in content.items():
        path = f"{prefix}{key}"
        made[key] = _node(value, reasons, path, indent)
        if path in reasons:
            made.yaml_set_comment_before_after_key(key, before=_wrapped(reasons[path], indent), indent=indent)
    return made


def _node(value: Any, reasons: dict[str, str], path: str, indent: int) -> Any:
    if isinstance(value, dict):
        below = any(key.startswith(f"{path}.") for key in reasons)
        nested = _commented(value, reasons, f"{path}.", indent + 2)
        if not below and indent and path != "model.params":
            nested.fa.set_flow_style()
        return nested
    if isinstance(value, list):
        listed = CommentedSeq(value)
        listed.fa.set_flow_style()
        return listed
    return value


def _wrapped(text: str, indent: int) -> str:
    """A comment of several lines; whatever a column's name holds, it stays a comment."""
    lines = [line for part in text.split("\n") for line in textwrap.wrap(" ".join(part.split()), WIDTH - indent)]
    return "\n".join(lines)


def canvas(settings: Settings, source: str, rows: int, columns: int) -> str:
    """A canvas that describes the target and asks the rest."""
    target, task = settings.data.target, settings.data.task
    what = "a class" if task == "classification" else "a number"
    return f"""# Canvas: the purpose of the model

Answer these questions about the problem, each in place of the question. The [model card](../models/CARD.md) copies
Prediction, Intended use, Out of scope, Ethical considerations, Limits, Who is responsible and How to cite the data.

## Prediction

The target `{target}`: {what}. *What does it mean, for whom or what is it predicted, and when is it known?*

## Decision

*Who decides what with a prediction, and what happens without one?*

## Value

*What improves if the prediction is right, in which unit?*

## Cost of each error

*What does each kind of error cost, and whom? `evaluate.costs` in [`params.yaml`](../params.yaml) can hold the amounts.*

## Data

- **Source**: {counted(rows, "row")} of {counted(columns, "column")} from {source}. *Who collected them, when and how?*
- **Consent and rights**: *who may use them for what?*
- **In use**: *is each column known when a prediction is asked for?*

## Success

*Which numbers must be reached before release, and which in use? [`gate.yaml`](../gate.yaml) contains the limits.*

## Baseline

*How is it decided today?* The evaluation also reports a dummy model that uses no feature.

## Constraints

*How fast, where and how explainable must a prediction be?*

## Monitoring

*What is watched in production, how often, and who reacts?*

## Who is responsible

*Not written yet: a person who answers for decisions, a team that maintains the model, who may switch it off.*

## Intended use

*Not written yet: for what, and by whom.*

## Out of scope

*Not written yet: for what the model must not be used.*

## Ethical considerations

*Not written yet: who may be harmed by an error, and which groups need a look of their own.*

## Limits

*Not written yet: where, when and for whom the rows were collected, and what they lack.*

## How to cite the data

*Not written yet.*
"""


def readme(settings: Settings, source: str) -> str:
    """A README of the project in place of the template's."""
    target = settings.data.target
    what = "a class" if settings.data.task == "classification" else "a number"
    return f"""# Predict `{target}`

This model predicts `{target}`, {what}, from {source}. [The canvas](docs/canvas.md) says what for, and
[the model card](models/CARD.md) how good it is.

Every change of the model is a pull request. A comment compares it with main's model, [the gate](gate.yaml) decides
whether it may be merged, and a Git tag releases it.

## Five minutes

You need git, make and Python 3.11 with pip.

```sh
make    # install, run the pipeline, show the result
```

Then create a branch, change something, and see what its pull request will say:

```sh
git switch -c idea
# edit params.yaml or src/project/
make
git add --all && git commit -m "Try an idea"
make review BASE=main
```

| to change | edit |
|---|---|
| table, split, estimator, slices | [`params.yaml`](params.yaml), with the reason for each choice |
| features, cleaning, metrics, rules | [`src/project/`](src/project), tested in [`tests/project/`](tests/project) |
| what may be merged | [`gate.yaml`](gate.yaml) |
| what the data must fulfil | the suite in [`data/expectations/`](data/expectations) |
| what an expert expects of the model | tests in [`tests/behaviour/`](tests/behaviour) |

`make serve` starts the API on this machine, `make test` runs your tests, and `make help` lists everything.

## Pages

Each role has a page of five minutes: [data scientist](docs/roles/data-scientist.md),
[reviewer](docs/roles/reviewer.md), [ML engineer](docs/roles/ml-engineer.md),
[platform engineer](docs/roles/platform-engineer.md), [auditor](docs/roles/auditor.md).

| about | page |
|---|---|
| project | [your table](docs/your-own-table.md), [your code](docs/your-own-code.md), [all keys](docs/reference.md) |
| review | [the review and the gate](docs/review.md), [explanations](docs/explanations.md), [trust](docs/trust.md) |
| release | [the release](docs/release.md), [deploying](deploy/README.md), [GitLab and Jenkins](docs/gitlab.md) |
| production | [log, monitor, retraining](docs/production.md), [platforms](docs/serving.md), [scale](docs/scale.md) |
| the template | [updates](docs/updating.md); its examples, benchmarks and tests are in its own repository |
"""
