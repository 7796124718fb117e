"""Files of `cvpipe data check`: report.md, contact_sheet.png, and JSON Lines files.

The JSON Lines files list broken records, objects left out, duplicates, near-duplicates and odd
images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.annotations.faults import Faults
from cvpipe.data.check import CONTRADICTIONS, LEAKS, REPEATED
from cvpipe.data.example import Batch, Encode
from cvpipe.data.odd_images import MEANINGS as ODD_MEANINGS
from cvpipe.data.prepare import restore_pixels
from cvpipe.data.samples import read_examples
from cvpipe.data.sources.source import Source
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import counted
from cvpipe.pictures.drawing.grids import image_table
from cvpipe.pictures.drawing.render import to_png, try_to_draw

# The summary lists only the first few problems; the files have all of them.
SHOWN = 5
SHEET_EXAMPLES, SHEET_EPOCHS, CANDIDATES = 8, 4, 3
# Draws prepared images, uint8 [N, H, W, C], with their targets.
DrawTargets = Callable[[np.ndarray, Mapping[str, np.ndarray]], Figure]
# With a larger imbalance, the rarest class is seldom in a batch, and networks may ignore it.
LARGE_IMBALANCE = 10
MEANINGS = {
    LEAKS: (
        "leaks: the same image in several splits, so that scores look better than they are; keep it"
        " in one split"
    ),
    CONTRADICTIONS: "contradictions: the same image under several classes; keep the right one",
    REPEATED: (
        "repeated: the same image several times in one split, where it weighs more than other"
        " images"
    ),
}


def summary(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of the summary; `result` is from `check`."""
    lines: list[str] = []
    for name, split in result["splits"].items():
        counts = ", ".join(
            f"{label} {count}" for label, count in list(split["classes"].items())[:20]
        )
        more = f" and {len(split['classes']) - 20} more" if len(split["classes"]) > 20 else ""
        sizes = [f"{which} {height}×{width}" for which, (height, width) in split["sizes"].items()]
        files = [f"{count} {kind}" for kind, count in split["kinds"].items()]
        lines += [
            f"{name}: {counted(split['examples'], 'image')}, {split['broken']} broken",
            *([f"  classes  {counts}{more}"] if split["classes"] else []),
            f"  sizes    {', '.join(sizes) or 'none'}",
            f"  files    {', '.join(files) or 'none'}",
        ]
        if split["imbalance"] > LARGE_IMBALANCE:
            lines.append(
                f"  the largest class has {split['imbalance']:.0f} times the {split['counted']} of"
                " the smallest: look at the scores per class"
            )
        lines += [
            f"  class '{label}' has no image here"
            for label, count in split["classes"].items()
            if not count
        ]
        lines += [f"  {note}" for note in split["notes"]]
    lines += _titled(
        f"broken: {len(result['broken'])}",
        [f"{row['record']} ({row['split']}): {row['reason']}" for row in result["broken"]],
    )
    lines += _titled(
        f"left out: {counted(_number(result['left_out']), 'object')} (training doesn't see them;"
        " correct the annotations, or raise data.max_objects if it is named)",
        [
            f"{file}: {', '.join(f'{count} {fault}' for fault, count in faults.items())}"
            for file, faults in sorted(result["left_out"].items())
        ],
    )
    for kind, meaning in MEANINGS.items():
        title, _, explanation = meaning.partition(": ")
        groups = [" = ".join(map(_named, group)) for group in result[kind]]
        lines += _titled(f"{title}: {len(groups)} ({explanation})", groups)
    crossing = [
        f"{name}: {', '.join(f'{count} in {split}' for split, count in counts.items())}"
        for name, counts in result["crossing_groups"].items()
    ]
    lines += _titled(
        f"groups of data.group in several splits: {len(crossing)} (scores look better than they"
        " are; keep each group in one split)",
        crossing,
    )
    pairs = result["near_duplicates"]
    across = sum(pair["across_splits"] for pair in pairs)
    explanation = f"{across} across splits; look at the sheet, and keep such images in one split"
    lines += _titled(
        f"near-duplicates: {len(pairs)} ({explanation})",
        [" ~ ".join(map(_named, pair["records"])) for pair in pairs],
    )
    for kind, meaning in ODD_MEANINGS.items():
        if found := result["odd"][kind]:
            title, _, explanation = meaning.partition(": ")
            lines += _titled(f"{title}: {len(found)} ({explanation})", list(map(_named, found)))
    lines.append("clean" if result["clean"] else "not clean")
    # Escape bytes of file names that aren't UTF-8, because they can't be printed.
    return [line.encode("utf-8", "backslashreplace").decode() for line in lines]


def write_report(result: Mapping[str, Any], sheet: Figure | None, folder: Path) -> None:
    """Write the files, replacing those of an earlier check.

    `sheet` is from `contact_sheet`. If it can't be drawn, a warning is logged.
    """
    content = try_to_draw("contact sheet", partial(to_png, sheet)) if sheet else None
    groups = [{"kind": kind, "records": group} for kind in MEANINGS for group in result[kind]]
    left_out = [
        {"file": file, "fault": fault, "objects": count}
        for file, faults in sorted(result["left_out"].items())
        for fault, count in faults.items()
    ]
    odd = [{"kind": kind, **record} for kind, found in result["odd"].items() for record in found]
    for name, rows in (
        ("broken", result["broken"]),
        ("left_out", left_out),
        ("duplicates", groups),
        ("near_duplicates", result["near_duplicates"]),
        ("odd", odd),
    ):
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    picture = [
        "",
        "## Training images before and after augmentation",
        "",
        "![Contact sheet](contact_sheet.png)",
    ]
    # Indented, so that Markdown keeps the lines.
    lines = [
        "# Data check",
        "",
        *(f"    {line}" for line in summary(result)),
        *(picture if content is not None else []),
        "",
        (
            "All broken records are listed in broken.jsonl, objects left out in left_out.jsonl,"
            " duplicates in duplicates.jsonl, near-duplicates in near_duplicates.jsonl, and odd"
            " images in odd.jsonl. sheet.html shows near-duplicates and odd images."
        ),
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "contact_sheet.png").unlink(missing_ok=True)
    if content is not None:
        (folder / "contact_sheet.png").write_bytes(content)


def contact_sheet(
    source: Source, config: Config, encode: Encode, draw_targets: DrawTargets
) -> Figure | None:
    """Draw some examples without augmentation, and as training sees them in its first epochs.

    Return None if no example can be read or drawn.

    Boxes, masks and keypoints are drawn over the image. For labels, one example of each of several
    classes is drawn, or several examples if there is a single class. `encode` and `draw_targets`
    are functions of the task.
    """
    # Several views of an image are only for evaluation.
    config = config.with_one_view()
    plain = _some(source, config, encode)
    chosen = plain["index"]
    if not len(chosen):
        return None
    versions = [
        plain,
        *(read_examples(source, chosen, config, encode, epoch) for epoch in range(SHEET_EPOCHS)),
    ]
    if source.has_places:
        every = {
            key: tf.nest.map_structure(
                lambda *each: np.concatenate(each), *(version[key] for version in versions)
            )
            for key in ("image", "targets")
        }
        pixels = restore_pixels(tf.constant(every["image"]), config.prepare).numpy()
        return try_to_draw("contact sheet", partial(draw_targets, pixels, every["targets"]))
    pixels = np.stack(
        [
            restore_pixels(tf.constant(version["image"]), config.prepare).numpy()
            for version in versions
        ],
        axis=1,
    )
    columns = ["original", *(f"epoch {epoch + 1}" for epoch in range(SHEET_EPOCHS))]
    rows = [source.describe(index) for index in chosen]
    return try_to_draw("contact sheet", partial(image_table, list(pixels), rows, columns))


def _some(source: Source, config: Config, encode: Encode) -> Batch:
    """Read SHEET_EXAMPLES readable examples without augmentation.

    If there are several classes, each example has a different class. If annotations have
    positions, half as many examples are read, regardless of the class.
    """
    strata = source.strata()
    classes = np.unique(strata)
    if source.has_places or len(classes) == 1:
        readable = read_examples(
            source, evenly_spaced(len(source), CANDIDATES * SHEET_EXAMPLES), config, encode
        )
        rows = SHEET_EXAMPLES // 2 if source.has_places else SHEET_EXAMPLES
        chosen = evenly_spaced(len(readable["index"]), rows)
        return tf.nest.map_structure(lambda values: values[chosen], readable)
    # Read twice as many classes as needed and a few examples of each, because some may be broken.
    # One batch has all of them, because building the graph takes most of the time.
    candidates = [
        np.flatnonzero(strata == stratum)[:CANDIDATES]
        for stratum in classes[evenly_spaced(len(classes), 2 * SHEET_EXAMPLES)]
    ]
    readable = read_examples(source, np.concatenate(candidates), config, encode)
    _, first = np.unique(strata[readable["index"]], return_index=True)
    chosen = first[evenly_spaced(len(first), SHEET_EXAMPLES)]
    return tf.nest.map_structure(lambda values: values[chosen], readable)


def _number(faults: Faults) -> int:
    return sum(sum(counts.values()) for counts in faults.values())


def _titled(title: str, items: Sequence[str]) -> list[str]:
    """Return a title and the first few items; nothing if there are no items."""
    more = [f"  and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [title, *(f"  {item}" for item in items[:SHOWN]), *more] if items else []


def _named(record: Mapping[str, Any]) -> str:
    return f"{record['record']} ({record['split']}, {record['class']})"
