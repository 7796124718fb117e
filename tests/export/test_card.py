"""Guards the head of the model card."""

from __future__ import annotations

import pytest

from cvpipe.data.facts import Facts
from cvpipe.export.card import _head


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
