"""Report of the sanity checks: report.md and its plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cvpipe.config import Config
from cvpipe.pictures.drawing.render import to_png, try_to_draw
from cvpipe.training.sanity.finding import Finding


def write_sanity_report(findings: Sequence[Finding], config: Config, folder: Path) -> None:
    """Write report.md and the plots of the findings. Overwrites an earlier report."""
    suspicious = sum(not finding.ok for finding in findings)
    lines = [
        f"# Sanity of {config.name}",
        "",
        f"{len(findings) - suspicious} of {len(findings)} checks are ok.",
        "",
    ]
    for finding in findings:
        title, said = finding.name.capitalize(), f"{finding.says[0].upper()}{finding.says[1:]}."
        lines += [f"## {title}: {'ok' if finding.ok else 'suspicious'}", "", said, ""]
        lines += [] if finding.ok else [f"{finding.advice}.", ""]
        content = try_to_draw(title, partial(to_png, finding.figure)) if finding.figure else None
        if content is not None:
            picture = f"{finding.name.replace(' ', '_')}.png"
            (folder / picture).write_bytes(content)
            lines += [f"![{title}]({picture})", ""]
        if finding.table:
            head, *rows = finding.table
            lines += [
                " | ".join(head),
                " | ".join("---" for _ in head),
                *(" | ".join(row) for row in rows),
                "",
            ]
    lines += ["## Made with", "", "```json", json.dumps(config.to_json(), indent=2), "```"]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
