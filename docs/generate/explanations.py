"""Generate the table of explanations from benchmarks/results/explanation_quality.json."""

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
