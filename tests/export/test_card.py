"""Guards the model card."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvpipe.data.facts import Facts
from cvpipe.export.card import CARD, _head


@pytest.mark.parametrize(
    "names, line",
    [
        (("cell",), "1 class: cell."),
        (("a\n\n## b", "<img src=x>"), "2 classes: a ## b, &lt;img src=x&gt;."),
    ],
)
def test_class_names_are_one_line_of_plain_text(names: tuple[str, ...], line: str) -> None:
    facts = Facts(class_names=names).to_json()
    about = {"config": {"name": "n", "task": "t"}, "trained_on": {"facts": facts}, "signatures": {}}
    assert _head("model", about) == ["# n", "", "Task: t.", "", line, ""]


def test_the_card_says_how_to_prepare_images(artifact: Path) -> None:
    card = (artifact / CARD).read_text(encoding="utf-8")
    _, signature = card.split("### Signature `tensor`")
    row = next(line for line in signature.splitlines() if "`image`" in line)
    assert "float32 [B, " in row and "gray, (pixels / 255 - " in row
