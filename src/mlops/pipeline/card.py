"""Stage `card`: write `models/paths.CARD.md`, the model card, from what the other stages have found.

What a person has to say, such as the intended use, is copied from `docs/canvas.md`. The rest are numbers, inputs,
limits and hashes of the files here; no commit and no time, so that the same model has the same card.
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
    canvas, theirs = read_canvas(target)
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
        inputs=input_section(contract, evaluation),
        limits=limits(evaluation, settings, catalogue, contract, test),
        lineage=lineage_table(catalogue),
    )
    with atomic(paths.CARD) as partial:
        partial.write_text(card, encoding="utf-8")
    about = "" if theirs else f", without {CANVAS}, which is about another target"
    return f"{len(card.splitlines()):,} lines{about} → {paths.CARD}"


def render(**parts: Any) -> str:
    """Put the parts, which are Markdown, into the template."""
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - Markdown, escaped by mlops.core.markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(parts)


def read_canvas(target: str, path: Path = CANVAS) -> tuple[dict[str, str], bool]:
    """What a person wrote about this model under each heading; and whether it is about this target at all.

    Raises
    ------
    UserError
        Where the canvas or a heading is missing, or nothing stands under it.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: the model card copies sections from it", "git checkout")
    text = path.read_text(encoding="utf-8")
    written = sections(text)
    for heading in COPIED:
        if not written.get(heading):
            state = "nothing stands under" if heading in written else "there is no"
            raise UserError(f"{path}: {state} the heading '## {heading}', which the model card copies")
    if f"`{target}`" in written["Prediction"]:
        return {heading: written[heading] for heading in COPIED}, True
    nobody = f"*Nobody has written this yet: [{path}](../{path}) is not about {verbatim(target)}.*"
    return dict.fromkeys(COPIED, nobody), False


def sections(text: str) -> dict[str, str]:
    """The text under each heading of the second level; what looks like one inside a block of code is none."""
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
    """What the model is, in a few rows."""
    parameters = dict(settings.model.params)
    trials = json.loads(paths.TRIALS.read_text(encoding="utf-8"))
    if trials:
        parameters |= max(trials, key=lambda trial: trial["mean"])["params"]
    gives = f"a number in {verbatim(contract.unit)}" if contract.unit else "a number"
    if contract.classes is not None:
        names = listed([str(name) for name in contract.classes], MOST_CLASSES)
        gives = f"one of {names}, with{'' if contract.probabilities else 'out'} probabilities"
    told = listed([f"{name}: {value}" for name, value in parameters.items()], MOST_PARAMETERS)
    served = evaluation["served"]
    rows = [
        *([["steps", steps_of(settings)]] if settings.model.steps else []),
        ["estimator", verbatim(settings.model.estimator, 200)],
        ["parameters", told or "the defaults"],
        ["gives", gives],
        ["served by", served_by(served, contract)],
        ["size", f"{evaluation['model']['bytes'] / 1000:,.1f} kB; {served['bytes'] / 1000:,.1f} kB as served"],
    ]
    return table(["", ""], rows)


def steps_of(settings: Settings) -> str:
    """The steps that learn, with their parameters and columns; tuned ones stand among the parameters."""
    found = []
    for step in settings.model.steps:
        inside = [f"{name}: {value}" for name, value in step.params.items()]
        inside += [f"columns: {', '.join(step.columns)}"] if step.columns else []
        found.append(f"{step.key}, {step.transformer}" + (f" ({', '.join(inside)})" if inside else ""))
    return "; ".join(verbatim(each, 300) for each in found)


def served_by(served: dict[str, Any], contract: Contract) -> str:
    """Which form runs in the service, and how near its predictions are."""
    if served["runtime"] != "onnx":
        return f"scikit-learn, because {verbatim(served['why'], 200)}"
    unit = " standard deviations" if contract.task == "regression" else ""
    equal = f"equal within {served['difference_below']:g}{unit} on {served['rows']:,} rows"
    return f"ONNX Runtime in {served['precision']} precision; its predictions are scikit-learn's, {equal}"


def data_section(
    settings: Settings, catalogue: Catalogue, contract: Contract, train: pa.ChunkedArray, test: pa.ChunkedArray
) -> str:
    """Where the rows come from, how they were dealt, and the target on both sides."""
    kinds = Counter(each.kind for each in contract.inputs)
    split = settings.split
    dealt = {
        "random": "by a hash of each row's key",
        "stratified": "by a hash of each row's key, with each class's share on both sides",
        "time": f"by {verbatim(split.time)}: test rows are those from {verbatim(split.cutoff)} on",
        "group": f"by a hash of {verbatim(split.group)}: rows that share it stay together",
    }[split.method]
    lines = [
        f"- **Source**: {verbatim(catalogue.source, 200)}, {catalogue.rows:,} rows",
        f"- **Features**: {', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}",
        f"- **Split**: {len(train):,} training and {len(test):,} test rows, dealt {dealt}",
    ]
    actions = Counter(settings.data.private.values())
    personal = [f"{actions['drop']:,} removed"] if actions["drop"] else []
    personal += [f"{actions['pseudonymise']:,} pseudonymised"] if actions["pseudonymise"] else []
    lines += [f"- **Personal columns**: {', '.join(personal)}"] if personal else []
    target = target_table(train, test) if contract.task == "regression" else class_table(train, test)
    return "\n".join(lines) + f"\n\n{target}"


def class_table(train: pa.ChunkedArray, test: pa.ChunkedArray) -> str:
    """Rows of each class, the most frequent first."""
    learned, asked = class_counts(train), class_counts(test)
    order = sorted({*learned, *asked}, key=lambda name: (-learned[name] - asked[name], name))
    rows = [
        [verbatim(name), *(f"{seen[name]:,} ({seen[name] / max(seen.total(), 1):.1%})" for seen in (learned, asked))]
        for name in order
    ]
    return cut(["class", "training rows", "test rows"], rows, MOST_CLASSES, "rarer")


def target_table(train: pa.ChunkedArray, test: pa.ChunkedArray) -> str:
    """Where the target lies on both sides."""
    rows = []
    for name, values in (("training rows", train), ("test rows", test)):
        found = pc.quantile(values.cast(pa.float64()), [0, 0.25, 0.5, 0.75, 1]).to_pylist()
        rows.append([name, *map(number, found)])
    return table(["target", "least", "lower quartile", "median", "upper quartile", "most"], rows)


def lineage_table(catalogue: Catalogue) -> str:
    """Hashes of what went in and came out, as `dvc.lock` and `models/release.json` have them."""
    served = {path.name: files.md5(path) for path in paths.SERVICE.iterdir()}
    rows = [
        ["table", "its content", f"SHA-256 `{catalogue.sha256}`"],
        *(
            [name, f"`{path}`", f"MD5 `{files.md5(path)}`"]
            for name, path in (("training rows", paths.TRAIN), ("test rows", paths.TEST), ("model", paths.MODEL))
        ),
        ["what is served", f"`{paths.SERVICE}`", f"MD5 `{files.folder_md5(served)}`"],
    ]
    return table(["what", "where", "hash"], rows)


if __name__ == "__main__":
    run("card", main)
