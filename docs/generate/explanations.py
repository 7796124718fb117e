"""Generate the tables of explanations from benchmark results."""

from __future__ import annotations

from lines import table
from results import caption, result

SCORES = ("deletion", "insertion", "mu_fidelity", "pointing", "randomized")


def explanation_quality() -> str:
    """Return the table of methods of explanation on a detector of digits."""
    values = result("explanation_quality")["values"]
    methods = [name.partition(": ")[0] for name in values if name.endswith(": deletion")]
    rows = [
        (f"`{method}`", *(f"{values[f'{method}: {score}']:.3f}" for score in SCORES))
        for method in methods
    ]
    head = ("`--method`", *(f"`{score}`" for score in SCORES))
    return table(head, rows) + f"\n{caption('explanation_quality')}\n"


def pointing() -> str:
    """Return the table of the pointing game on two detectors."""
    values = result("pointing")["values"]
    names = ("digit scenes", "BCCD")
    methods = ("guided_backprop", "deconvnet", "saliency", "gradient_input")
    rows = [
        ("maps", *(f"{values[f'{name}: maps']:.0f}" for name in names)),
        ("a random point", *(f"{values[f'{name}: chance']:.1%}" for name in names)),
        *(
            (f"`{method}`", *(f"{values[f'{name}: {method}']:.1%}" for name in names))
            for method in methods
        ),
    ]
    head = ("`pointing`", "Digit scenes", "Blood cells (BCCD)")
    return table(head, rows) + f"\n{caption('pointing')}\n"
