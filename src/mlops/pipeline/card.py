"""Stage `card`: write `models/CARD.md`, the model card, from the outputs of the other stages.

What only a person knows, such as the intended use, is copied from `docs/canvas.md`. The rest is computed: metrics,
inputs, limits and hashes. The card contains no commit and no time, so that the same model has the same card.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from markdown_it import MarkdownIt

from mlops.core import files, paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, run
from mlops.core.files import atomic
from mlops.core.markdown import number, table, verbatim
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.data.tables import Catalogue
from mlops.inference import contract as contracts
from mlops.inference.contract import Contract
from mlops.pipeline.card_explanation import explanation_section
from mlops.pipeline.card_sections import (
    Evaluation,
    calibration_section,
    class_counts,
    cut,
    importance_section,
    input_section,
    limits,
    listed,
    metric_table,
    slice_section,
)

CANVAS = Path("docs/canvas.md")
TEMPLATE = Path(__file__).with_name("card.md.jinja")
COPIED = (
    "Prediction",
    "Intended use",
    "Out of scope",
    "Ethical considerations",
    "Limits",
    "Who is responsible",
    "How to cite the data",
)

MOST_CLASSES, MOST_PARAMETERS = 20, 20


def main() -> str:
    settings = settings_module.load()
    evaluation = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
    catalogue = tables.read_catalogue()
    contract = contracts.read()
    target = settings.data.target
    train, test = (tables.read(path, [target])[target] for path in (paths.TRAIN, paths.TEST))
    canvas, applies = read_canvas(target)
    card = render(
        target=verbatim(target),
        canvas=canvas,
        model=model_table(settings, contract, evaluation),
        data=data_section(settings, catalogue, contract, train, test),
        test_rows=f"{evaluation['rows']['test']:,}",
        confidence=f"{evaluation['interval']['confidence']:.0%}",
        metrics=metric_table(evaluation),
        slices=slice_section(evaluation),
        calibration=calibration_section(evaluation, settings),
        importance=importance_section(evaluation),
        explanation=explanation_section(evaluation),
        inputs=input_section(contract, evaluation),
        limits=limits(evaluation, settings, catalogue, contract, test),
        lineage=lineage_table(catalogue),
    )
    with atomic(paths.CARD) as partial:
        partial.write_text(card, encoding="utf-8")
    note = "" if applies else f", without {CANVAS}, which describes another target"
    return f"{len(card.splitlines()):,} lines{note} → {paths.CARD}"


def render(**parts: Any) -> str:
    """Render the template with the parts, which are Markdown."""
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - Markdown, escaped by mlops.core.markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(parts)


def read_canvas(target: str, path: Path = CANVAS) -> tuple[dict[str, str], bool]:
    """The text of the canvas under each heading, and whether the canvas describes this target.

    Raises
    ------
    UserError
        If the canvas is missing, or a section of it is missing or empty.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: the model card copies sections from it", f"git checkout {path}")
    text = path.read_text(encoding="utf-8")
    written = sections(text)
    for heading in COPIED:
        if not written.get(heading):
            state = "empty" if heading in written else "missing"
            raise UserError(f"{path}: the section '## {heading}', which the model card copies, is {state}")
    if f"`{target}`" in written["Prediction"]:
        return {heading: written[heading] for heading in COPIED}, True
    placeholder = f"*Not written yet: [{path}](../{path}) does not describe {verbatim(target)}.*"
    return dict.fromkeys(COPIED, placeholder), False


def sections(text: str) -> dict[str, str]:
    """The text under each heading of the second level; lines in blocks of code do not count as headings."""
    lines = text.splitlines()
    tokens = MarkdownIt("commonmark").parse(text)
    found: dict[str, str] = {}
    headings = [
        (token.map, token.tag, tokens[place + 1].content)
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag in ("h1", "h2") and token.level == 0 and token.map
    ]
    ends = [*(place[0] for place, _, _ in headings[1:]), len(lines)]
    for (place, tag, title), end in zip(headings, ends, strict=True):
        if tag == "h2":
            found[title] = "\n".join(lines[place[1] : end]).strip()
    return found


def model_table(settings: Settings, contract: Contract, evaluation: Evaluation) -> str:
    """The model in a few rows: estimator, parameters, output, form in the service, size."""
    parameters = dict(settings.model.params)
    trials = json.loads(paths.TRIALS.read_text(encoding="utf-8"))
    if trials:
        parameters |= max(trials, key=lambda trial: trial["mean"])["params"]
    output = f"a number in {verbatim(contract.unit)}" if contract.unit else "a number"
    if contract.classes is not None:
        names = listed([str(name) for name in contract.classes], MOST_CLASSES)
        output = f"one of {names}, with{'' if contract.probabilities else 'out'} probabilities"
    shown = listed([f"{name}: {value}" for name, value in parameters.items()], MOST_PARAMETERS)
    served = evaluation["served"]
    rows = [
        *([["steps", steps_of(settings)]] if settings.model.steps else []),
        ["estimator", verbatim(settings.model.estimator, 200)],
        ["parameters", shown or "the defaults"],
        ["output", output],
        ["served by", served_by(served, contract)],
        ["size", f"{evaluation['model']['bytes'] / 1000:,.1f} kB; {served['bytes'] / 1000:,.1f} kB as served"],
    ]
    return table(["", ""], rows)


def steps_of(settings: Settings) -> str:
    """The steps with their parameters and columns; tuned parameters are in the row `parameters`."""
    found = []
    for step in settings.model.steps:
        inside = [f"{name}: {value}" for name, value in step.params.items()]
        inside += [f"columns: {', '.join(step.columns)}"] if step.columns else []
        found.append(f"{step.key}, {step.transformer}" + (f" ({', '.join(inside)})" if inside else ""))
    return "; ".join(verbatim(step, 300) for step in found)


def served_by(served: dict[str, Any], contract: Contract) -> str:
    """The form of the model that the service runs, and how far its predictions are from scikit-learn's."""
    if served["runtime"] != "onnx":
        return f"scikit-learn, because {verbatim(served['why'], 200)}"
    unit = " standard deviations" if contract.task == "regression" else ""
    difference = f"at most {served['difference_below']:g}{unit} on {served['rows']:,} rows"
    return f"ONNX Runtime in {served['precision']} precision; difference from scikit-learn: {difference}"


def data_section(
    settings: Settings, catalogue: Catalogue, contract: Contract, train: pa.ChunkedArray, test: pa.ChunkedArray
) -> str:
    """The source, how its rows were split, and the target on both sides of the split."""
    kinds = Counter(column.kind for column in contract.inputs)
    split = settings.split
    hashed = f"by a hash of each row's {'key' if settings.data.key else 'content'}"
    method = {
        "random": hashed,
        "stratified": f"{hashed}; the share of each class on both sides was checked",
        "time": f"by {verbatim(split.time)}; the test rows start at {verbatim(split.cutoff)}",
        "group": f"by a hash of {verbatim(split.group)}; rows with the same value stay together",
    }[split.method]
    lines = [
        f"- **Source**: {verbatim(catalogue.source, 200)}, {catalogue.rows:,} rows",
        f"- **Features**: {', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}",
        f"- **Split**: {len(train):,} training and {len(test):,} test rows, {method}",
    ]
    actions = Counter(settings.data.private.values())
    personal = [f"{actions['drop']:,} removed"] if actions["drop"] else []
    personal += [f"{actions['pseudonymise']:,} pseudonymised"] if actions["pseudonymise"] else []
    lines += [f"- **Personal columns**: {', '.join(personal)}"] if personal else []
    target = target_table(train, test) if contract.task == "regression" else class_table(train, test)
    return "\n".join(lines) + f"\n\n{target}"


def class_table(train: pa.ChunkedArray, test: pa.ChunkedArray) -> str:
    """Rows of each class, the most frequent first."""
    in_train, in_test = class_counts(train), class_counts(test)
    order = sorted({*in_train, *in_test}, key=lambda name: (-in_train[name] - in_test[name], name))
    rows = [
        [verbatim(name), *(f"{side[name]:,} ({side[name] / max(side.total(), 1):.1%})" for side in (in_train, in_test))]
        for name in order
    ]
    return cut(["class", "training rows", "test rows"], rows, MOST_CLASSES, "rarer")


def target_table(train: pa.ChunkedArray, test: pa.ChunkedArray) -> str:
    """Quartiles of the target on both sides of the split."""
    rows = []
    for name, values in (("training rows", train), ("test rows", test)):
        found = pc.quantile(values.cast(pa.float64()), [0, 0.25, 0.5, 0.75, 1]).to_pylist()
        rows.append([name, *map(number, found)])
    return table(["target", "minimum", "lower quartile", "median", "upper quartile", "maximum"], rows)


def lineage_table(catalogue: Catalogue) -> str:
    """Hashes of inputs and outputs, as in `dvc.lock` and `models/release.json`."""
    served = {path.name: files.md5(path) for path in paths.SERVICE.iterdir()}
    rows = [
        ["table", "its content", f"SHA-256 `{catalogue.sha256}`"],
        *(
            [name, f"`{path}`", f"MD5 `{files.tree_md5(path)}`"]
            for name, path in (("training rows", paths.TRAIN), ("test rows", paths.TEST), ("model", paths.MODEL))
        ),
        ["served files", f"`{paths.SERVICE}`", f"MD5 `{files.folder_md5(served)}`"],
    ]
    return table(["artifact", "path", "hash"], rows)


if __name__ == "__main__":
    run("card", main)
