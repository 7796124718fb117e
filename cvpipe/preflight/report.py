"""Findings of a preflight as JSON and as text."""

from __future__ import annotations

from typing import Any

from cvpipe.preflight.estimate import Cost
from cvpipe.preflight.preflight import SERVE, TRAIN, Part, Preflight
from cvpipe.preflight.roofline import SUBLANES

GIGA, TERA = 1e9, 1e12
# Padding above this share of all arithmetic is reported.
MUCH_PADDING = 0.1
NAMES = {TRAIN: "training step", SERVE: "signature tensor"}


def to_json(found: Preflight) -> dict[str, Any]:
    """Return all findings as plain JSON values."""
    target = found.target
    return {
        "target": target.name,
        "chip": target.chip._asdict(),
        "chips": target.chips,
        "precision": found.precision,
        "global_batch": found.global_batch,
        "ok": found.ok,
        "parts": {name: _part_to_json(part) for name, part in found.parts.items()},
        "feed": found.feed
        and {
            **found.feed._asdict(),
            "reached": found.feed.reached,
            "suffices": found.feed.suffices,
            "cores_needed": found.feed.cores_needed,
        },
        "advice": advice(found),
    }


def _part_to_json(part: Part) -> dict[str, Any]:
    limits, compiled = part.roofline, part.compiled
    return {
        "batch": part.batch,
        "compiles": part.compiles,
        "fits": part.fits,
        "culprits": [culprit._asdict() for culprit in part.culprits],
        "cost": part.cost and _cost_to_json(part.cost),
        "cost_is_estimated": compiled is None or compiled.cost is None,
        "estimate": part.estimated and _cost_to_json(part.estimated),
        "compiler": compiled
        and {
            "versions": compiled.versions,
            "seconds": compiled.seconds,
            "error": compiled.error,
            "needed": compiled.needed,
        },
        "lowering_seconds": part.lowering_seconds,
        "roofline": limits
        and {
            **limits._asdict(),
            "seconds": limits.seconds,
            "bound": limits.bound,
            "images_per_second": limits.images_per_second,
        },
        "padding": part.padding
        and {
            "lanes": part.padding.lanes,
            "share": part.padding.share,
            "layers": [layer._asdict() for layer in part.padding.layers],
        },
        "largest_batch": part.largest
        and {
            "batch": part.largest.batch,
            "tries": [tried._asdict() for tried in part.largest.tries],
        },
        "left_out": list(part.left_out),
    }


def _cost_to_json(cost: Cost) -> dict[str, Any]:
    return {**cost._asdict(), "total": cost.total, "intensity": cost.flops / cost.traffic}


def to_rows(found: Preflight) -> list[list[str]]:
    """Return a table with a row for each finding, and a column for each part."""
    parts = found.parts.values()
    rows = [[found.target.name, *(NAMES[name] for name in found.parts)]]

    def row(name: str, cells: list[str]) -> None:
        if any(cell != "" for cell in cells):
            rows.append([name, *cells])

    def cost(name: str, form: str, scale: float) -> list[str]:
        return [
            form.format(getattr(part.cost, name) / scale) if part.cost else "" for part in parts
        ]

    def limit(form: str, name: str) -> list[str]:
        return [
            form.format(getattr(part.roofline, name)) if part.roofline else "" for part in parts
        ]

    row("images per chip", [str(part.batch) for part in parts])
    row("compiles", [_compiles(part) for part in parts])
    row(f"fits {found.target.chip.memory / GIGA:.1f} GB", [_fits(part) for part in parts])
    row("arguments, GB", cost("arguments", "{:.3f}", GIGA))
    row("temporaries, GB", cost("temporaries", "{:.3f}", GIGA))
    row("total, GB", cost("total", "{:.3f}", GIGA))
    row("TFLOP", cost("flops", "{:.3f}", TERA))
    row("GB moved", cost("traffic", "{:.1f}", GIGA))
    row(
        "FLOP per byte",
        [f"{part.cost.flops / part.cost.traffic:.0f}" if part.cost else "" for part in parts],
    )
    row("roofline, s", limit("{:.4f}", "seconds"))
    row("limited by", limit("{}", "bound"))
    row("images/s at most", limit("{:,.0f}", "images_per_second"))
    row(
        "padding, % of FLOP",
        [f"{100 * part.padding.share:.0f}" if part.padding else "" for part in parts],
    )
    row(
        "largest batch per chip",
        [str(part.largest.batch) if part.largest else "" for part in parts],
    )
    row(
        "compiled in, s",
        [f"{part.compiled.seconds:.0f}" if part.compiled else "" for part in parts],
    )
    return rows


def _compiles(part: Part) -> str:
    if part.compiles is None:
        return "lowered, not compiled"
    return "yes" if part.compiles else "no"


def _fits(part: Part) -> str:
    if part.culprits:
        return ""
    by = "" if part.compiled else ", estimated"
    return ("yes" if part.fits else "no") + by


def advice(found: Preflight) -> list[str]:
    """Return a sentence for each problem, with advice."""
    said = []
    for name, part in found.parts.items():
        said += [f"{NAMES[name]}: {culprit.line()}" for culprit in part.culprits]
        said += _of_part(name, part, found)
    on_tpu = found.target.topology is not None
    if (
        on_tpu
        and found.precision == "float32"
        and not any(p.culprits for p in found.parts.values())
    ):
        said.append("train.precision: a TPU multiplies in bfloat16; mixed_bfloat16 halves traffic")
    feed = found.feed
    if feed and feed.suffices is False:
        said.append(
            f"input: {feed.host_cores} cores like these prepare {feed.reached:,.0f} images/s, but"
            f" the roofline needs {feed.needed:,.0f} and so {feed.cores_needed:,.0f} cores; store"
            " smaller images, or augment less"
        )
    return said


def _of_part(name: str, part: Part, found: Preflight) -> list[str]:
    said, target = [], found.target
    compiled = part.compiled
    if compiled and compiled.error:
        if compiled.too_large:
            needed = (compiled.needed or 0) / GIGA
            said.append(
                f"{NAMES[name]}: doesn't fit {target.chip.name}: needs {needed:.1f} GB of"
                f" {target.chip.memory / GIGA:.1f}; lower train.batch_size, or raise"
                " train.accumulate"
            )
        else:
            said.append(f"{NAMES[name]}: compilation failed: {compiled.error[:600]}")
    elif not part.fits and part.cost:
        said.append(
            f"{NAMES[name]}: won't fit {target.chip.name}: about {part.cost.total / GIGA:.1f} GB of"
            f" {target.chip.memory / GIGA:.1f}; lower train.batch_size, or raise train.accumulate"
        )
    if part.compiles is None and target.topology:
        said.append(
            f"{NAMES[name]}: only lowered; pip install 'cvpipe[preflight]' compiles it for"
            f" {target.name}"
        )
    if part.left_out:
        said.append(
            f"{NAMES[name]}: the host computes {', '.join(part.left_out)}, which are strings"
        )
    if name == TRAIN and part.batch % SUBLANES and target.topology:
        said.append(
            f"{NAMES[name]}: {part.batch} images per chip are not a multiple of {SUBLANES}, so a"
            " TPU's registers aren't full"
        )
    if part.padding and part.padding.share > MUCH_PADDING:
        worst = "; ".join(
            f"{layer.name} {layer.channels[0]}→{layer.channels[1]}: {100 * layer.share:.0f}%"
            for layer in part.padding.layers[:3]
        )
        said.append(
            f"{NAMES[name]}: up to {100 * part.padding.share:.0f}% of the arithmetic is padding of"
            f" channels to multiples of {part.padding.lanes}, most in {worst}"
        )
    return said
