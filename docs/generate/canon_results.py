"""Generate the tables of the experiments with networks of the canon, from benchmark results."""

from __future__ import annotations

from collections.abc import Callable

from lines import table
from results import caption, result, values_after

DEPTHS = ("plain20", "plain56", "resnet20", "resnet56")


def canon_scores() -> str:
    """Return the table of the networks trained with equal settings on Fashion-MNIST."""
    values = result("canon")["values"]
    titles = [name.partition(":")[0] for name in values if name.endswith(": multiply-adds")]
    rows = [
        (
            title,
            f"{values[f'{title}: parameters']:,.0f}",
            f"{values[f'{title}: multiply-adds'] / 1e6:,.1f}",
            f"{values[f'{title}: test accuracy']:.1%}",
            f"{values[f'{title}: cvpipe train, CPU time']:,.0f} s",
        )
        for title in titles
    ]
    head = ("Network", "Parameters", "M mult-adds", "Test accuracy", "CPU time")
    return table(head, rows) + f"\n{caption('canon')}\n"


def canon_depth() -> str:
    """Return the table of plain and residual networks of two depths."""
    values = result("canon")["values"]
    rows = [
        (
            name,
            f"{list(losses(name).values())[-1]:.3f}",
            f"{values[f'{name} at 16×16: test accuracy']:.1%}",
            f"{values[f'{name} at 16×16: cvpipe train, CPU time']:,.0f} s",
        )
        for name in DEPTHS
    ]
    head = ("Network", "Last training loss", "Test accuracy", "CPU time")
    return table(head, rows)


def canon_dropped() -> str:
    """Return the table of networks that drop parts of themselves while they learn few images."""
    values, within = result("canon_dropped")["values"], " on 1000 images, drops "
    titles = [name.partition(":")[0] for name in values if name.endswith(": last training loss")]
    rows = [
        (
            *title.split(within),
            f"{values[f'{title}: last training loss']:.2f}",
            f"{values[f'{title}: test accuracy']:.1%}",
            f"{100 * values[f'{title}: range of test accuracies']:.1f} points",
            f"{values[f'{title}: cvpipe train, CPU time']:,.0f} s",
        )
        for title in titles
    ]
    head = ("Network", "Drops", "Last training loss", "Test accuracy", "Range", "CPU time")
    return table(head, rows) + f"\n{caption('canon_dropped')}\n"


def losses(name: str) -> dict[int, float]:
    """Return the training losses by step of a network in DEPTHS."""
    found = values_after("canon", f"{name} at 16×16: training loss, step ")
    return {int(step): loss for step, loss in found.items()}


CANON: dict[str, Callable[[], str]] = {
    "canon-scores": canon_scores,
    "canon-depth": canon_depth,
    "canon-dropped": canon_dropped,
}
