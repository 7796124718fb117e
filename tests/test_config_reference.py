"""Guards the configuration reference: it is complete, and committed as generated."""

from __future__ import annotations

import re

from pydantic import TypeAdapter

from cvpipe.config import Pipeline
from cvpipe.config_reference import reference

SCHEMA = TypeAdapter(Pipeline).json_schema()


def test_every_key_of_every_definition_has_a_row() -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", reference(SCHEMA), re.S | re.M))
    assert sections.keys() == SCHEMA["$defs"].keys()
    for name, definition in SCHEMA["$defs"].items():
        for key in definition.get("properties", {}):
            assert f"\n| `{key}` | " in sections[name]


def test_every_link_leads_to_a_section() -> None:
    text = reference(SCHEMA)
    anchors = {heading.lower() for heading in re.findall(r"^## (\w+)$", text, re.M)}
    assert set(re.findall(r"\(#([\w-]+)\)", text)) <= anchors


def test_types_bounds_and_defaults_are_in_words() -> None:
    text = reference(SCHEMA)
    assert "| `limit` | integer ≥ 1 or null | `null` |" in text
    assert "| `l2` | number ≥ 0 | `0.0` |" in text
    assert "| `validation` | number ≥ 0, < 1 | `0.1` | Share of each class" in text
    assert '| `direction` | `horizontal`, `vertical` | `"horizontal"` | ' in text
    assert "| `path` | string | required | A folder, or a zip archive." in text
