"""The section of the comment about recorded rows: what changes, for whom, and at what cost."""

from __future__ import annotations

from mlops.core.markdown import code, details, escaped, number, one_line, table
from mlops.core.replayed import Group, Moved, Price, Replayed, Skew

MOST_LETTERS = 60
BASES = {
    "labels": "known: the labels of {rows} rows",
    "main": "expected, if main's probabilities are right",
    "change": "expected, if this change's probabilities are right",
}


def replayed(found: Replayed | None) -> str:
    """Render what a change of the model does to recorded rows; nothing where no log is configured."""
    if found is None:
        return ""
    problem = "" if found.problem is None else f"⚠️ Recorded rows were not replayed: {escaped(found.problem)}"
    parts = blocks(found)
    return "\n\n".join(filter(None, [problem, details(summary(found), "\n\n".join(parts)) if parts else ""]))


def summary(found: Replayed) -> str:
    """The result in a line."""
    if not found.compared:
        return f"Recorded rows: none of {found.rows:,} can be replayed"
    what = "decisions" if found.task == "classification" else "predictions move to another quarter of the target"
    verb = "change" if found.task == "classification" else ""
    text = f"Recorded rows: {found.changed:,} of {found.compared:,} {what} {verb}".rstrip()
    text += f" ({share(found.changed, found.compared)})"
    known = next((each for each in found.prices if each.basis == "labels"), None)
    if known is not None:
        text += f", cost of a row {number(known.before)} → {number(known.after)}"
    return text


def blocks(found: Replayed) -> list[str]:
    """All that is known of it."""
    parts = [moves(found), truth(found), prices(found), slices(found.slices), largest(found)]
    parts += [skew(found.skew), obstacles(found)]
    return [part for part in parts if part]


def moves(found: Replayed) -> str:
    if not (found.compared or found.moves):
        return ""
    rows = [[code(short(each.before)), code(short(each.after)), f"{each.rows:,}"] for each in found.moves]
    if found.moves_left_out:
        rows.append(["other", "other", f"{found.moves_left_out:,}"])
    text = table(["main", "this change", "rows"], rows) if rows else "No decision changes."
    if found.mean_change is not None:
        text += f"\n\nOn average, a prediction changes by {signed(found.mean_change)}."
    return text


def truth(found: Replayed) -> str:
    """What labels say of the decisions that change."""
    if not found.labelled or found.task == "regression":
        return ""
    return (
        f"{found.labelled:,} rows have a label. This change gets {found.repaired:,} of them right that main gets "
        f"wrong, and {found.broken:,} wrong that main gets right."
    )


def prices(found: Replayed) -> str:
    rows = [
        [price_name(each), number(each.before), number(each.after), signed(each.after - each.before)]
        for each in found.prices
    ]
    if not rows:
        return f"No cost: {escaped(found.priceless)}" if found.priceless and found.task == "classification" else ""
    text = table(["mean cost of a row", "main's decisions", "this change's", "difference"], rows)
    if all(each.basis != "labels" for each in found.prices):
        text += "\n\n<sub>No recorded row has a label, so the cost is not known. "
        text += "An expected cost is as good as the model's probabilities.</sub>"
    return text


def price_name(each: Price) -> str:
    return BASES[each.basis].format(rows=f"{each.rows:,}")


def slices(found: list[Group]) -> str:
    rows = [
        [
            f"{code(short(each.column))} {code(short(each.name))}",
            f"{each.rows:,}",
            f"{each.changed:,}",
            share(each.changed, each.rows),
        ]
        for each in found
    ]
    return table(["slice", "rows", "changed", "share"], rows) if rows else ""


def largest(replayed: Replayed) -> str:
    found = replayed.largest
    if not found:
        return ""
    about = {each.about for each in found}
    one = about.pop() if len(about) == 1 else None
    title = "probability" if replayed.task == "classification" else ""
    if one:
        title = f"{title} of {code(short(one))}" if title else code(short(one))
    rows = [[code(short(each.request_id)), f"{each.row:,}", decision(each), value(each, one)] for each in found]
    return "The largest changes:\n\n" + table(["request", "row", "decision", title], rows)


def decision(each: Moved) -> str:
    before, after = code(short(each.before)), code(short(each.after))
    return before if before == after else f"{before} → {after}"


def value(each: Moved, title: str | None) -> str:
    """The probability or number of both models, with its name where the column's title does not say it."""
    if each.value_before is None or each.value_after is None:
        return "–"
    name = "" if each.about == title else f"{code(short(each.about))} "
    return f"{name}{number(each.value_before)} → {number(each.value_after)}"


def skew(found: Skew | None) -> str:
    """Whether main's model gives what it gave in production."""
    if found is None:
        return ""
    if not found.rows:
        return "No recorded row is of main's model, so it could not be checked against its own log."
    if not found.differ:
        return f"Main's model gives the recorded prediction for each of its {found.rows:,} rows."
    named = ", ".join(code(short(each)) for each in found.named)
    return (
        f"⚠️ Main's model gives **another prediction** for {found.differ:,} of its {found.rows:,} recorded rows "
        f"({share(found.differ, found.rows)}), by up to {number(found.largest)}, such as {named}."
    )


def obstacles(found: Replayed) -> str:
    """Rows that were left out, or that the service would refuse."""
    model = {"main": "main's model", "change": "this change's model"}
    lines = [
        f"- {each.rows:,} rows do not fit {model[each.model]}: {escaped(each.why)}"
        for each in found.obstacles
        if each.refused
    ]
    lines += [
        f"- {each.rows:,} rows hold a column that {model[each.model]} does not take, so its service would refuse them "
        f"(they were replayed without it): {escaped(each.why)}"
        for each in found.obstacles
        if not each.refused
    ]
    if found.unreadable:
        lines.append(f"- {found.unreadable:,} lines are not what the service writes")
    if found.damaged:
        lines.append(f"- {found.damaged:,} files end early")
    return "\n".join(lines)


def share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "–"


def signed(value: float) -> str:
    return f"{value:+.4g}".replace("-", "−") if value else "0"


def short(text: str) -> str:
    return one_line(text, MOST_LETTERS)
