"""Tables, page and picture of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cvpipe.atomic_write import atomic_write
from cvpipe.documents import Block, Heading, Picture, Table, Text, to_html
from cvpipe.json_files import write_json
from cvpipe.markdown import number
from cvpipe.pictures.benchmark import draw_benchmark
from cvpipe.pictures.drawing.render import to_png, try_to_draw

JSON, PAGE, PICTURE = "benchmark.json", "benchmark.html", "benchmark.png"
TITLE = "Artifacts side by side"
_MIB = 2**20


def artifact_table(result: Mapping[str, Any]) -> Table:
    """Return a row for each artifact."""
    head = ["artifact", "task", "score", "value", "size, MiB"]
    rows = [
        [
            artifact["artifact"],
            artifact["task"],
            artifact["score"],
            "–" if artifact["value"] is None else number(artifact["value"]),
            f"{artifact['size'] / _MIB:.1f}",
        ]
        for artifact in result["artifacts"]
    ]
    return Table(head, rows)


def row_table(result: Mapping[str, Any]) -> Table:
    """Return a row for each batch size, number of threads and signature."""
    head = ["artifact", "signature", "threads", "batch", "p50, ms", "p99, ms", "images/s"]
    rows = [
        [
            row["artifact"],
            row["signature"],
            str(row["threads"]),
            str(row["batch"]),
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['images_per_second']:,.1f}",
            f"{row['memory'] / _MIB:,.0f}",
        ]
        for row in result["rows"]
    ]
    return Table([*head, "memory, MiB"], rows)


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return the processor and the versions that the numbers depend on."""
    cpu, packages = machine["cpu"], machine["packages"]
    devices = "".join(f", {device['kind']} {device['name']}" for device in machine["devices"])
    return (
        f"{cpu['model']}, {cpu['usable_cores']} of {cpu['cores']} cores usable{devices};"
        f" cvpipe {machine['cvpipe']}, TensorFlow {packages['tensorflow']}, Python"
        f" {machine['python']}"
    )


def write_report(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the result of `benchmark`, with "machine", as JSON, as a page and as a picture.

    Returns:
        The page, and the picture unless it can't be drawn.
    """
    write_json(folder / JSON, dict(result))
    blocks: list[Block] = [
        Heading(1, TITLE),
        Text(f"{machine_line(result['machine'])}. Images: {result['images']}."),
        artifact_table(result),
        Text(
            "Each combination of a signature and a number of threads was measured in a separate"
            " process. The processes took turns. The first calls of a process aren't counted. The"
            " signature serving_default takes encoded images; tensor takes prepared images. Memory"
            " is the growth of the process from before the artifact was loaded to its peak with"
            " batches up to this size. The size is that of graph and weights."
        ),
        row_table(result),
    ]
    files = [folder / PAGE]
    draw = partial(draw_benchmark, result["artifacts"], result["rows"])
    figure = try_to_draw(PICTURE, draw)
    content = figure and try_to_draw(PICTURE, partial(to_png, figure))
    if content:
        blocks.append(Picture(TITLE, PICTURE, content))
        with atomic_write(folder / PICTURE) as stream:
            stream.write(content)
        files.append(folder / PICTURE)
    with atomic_write(folder / PAGE) as stream:
        stream.write(to_html(TITLE, blocks).encode("utf-8", "backslashreplace"))
    return files
