"""Generate the table of corruptions from benchmark results."""

from __future__ import annotations

from lines import table
from results import caption, result


def corruptions() -> str:
    """Return the table of a detector's scores on corrupted images."""
    values = result("corruptions")["values"]
    severities = (1, 3, 5)
    kinds = [
        name.removeprefix("BCCD: ").partition(",")[0]
        for name in values
        if name.endswith(f"severity {severities[0]}, AP50")
    ]
    rows = [
        (
            f"`{kind}`",
            *(
                f"{values[f'BCCD: {kind}, severity {severity}, AP50']:.1%}"
                for severity in severities
            ),
        )
        for kind in kinds
    ]
    rows.insert(0, ("uncorrupted", f"{values['BCCD: uncorrupted, AP50']:.1%}", "", ""))
    head = ("AP50", *(f"Severity {severity}" for severity in severities))
    return table(head, rows) + f"\n{caption('corruptions')}\n"
