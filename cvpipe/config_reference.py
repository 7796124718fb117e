"""The configuration reference: every key of a pipeline file as Markdown, from its JSON schema."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from cvpipe.config.section import LARGEST, MOST
from cvpipe.markdown import table

Schema = dict[str, Any]
NO_EXAMPLES: Mapping[str, str] = {}
DEFINITIONS = "#/$defs/"
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
GENERAL = (-LARGEST, LARGEST, MOST)
"""Bounds of all numbers, which the tables leave out."""
HEAD = """\
# Configuration reference

`make docs` generates this page from the classes in cvpipe/config. Tests check its examples.
[pipelines.md](pipelines.md) is the introduction.

Unless a smaller bound is given, integers are at most 2,147,483,647, and other numbers from −10³⁰ to
10³⁰.
"""


def reference(schema: Schema, examples: Mapping[str, str] = NO_EXAMPLES) -> str:
    """Return the reference as Markdown.

    Args:
        schema: JSON schema of pipeline files, with a definition of each task, which refers to
            definitions of sections.
        examples: YAML examples by the names of definitions.
    """
    definitions = schema["$defs"]
    tasks = f"The key `task` selects the kind of pipeline: {_type(schema)}."
    parts = [HEAD, textwrap.fill(tasks, 100, break_on_hyphens=False) + "\n"]
    for name in _in_order(schema["oneOf"], definitions):
        parts.append(_section(name, definitions[name], examples.get(name)))
    return "\n".join(parts)


def _in_order(part: Any, definitions: Schema, found: dict[str, None] | None = None) -> list[str]:
    """Return the names of all definitions that `part` refers to, directly or not, in depth-first
    order.
    """
    found = {} if found is None else found
    if isinstance(part, dict):
        name = _referred(part)
        if name and name not in found:
            found[name] = None
            _in_order(definitions[name], definitions, found)
        for value in part.values():
            _in_order(value, definitions, found)
    elif isinstance(part, list):
        for value in part:
            _in_order(value, definitions, found)
    return list(found)


def _referred(part: Schema) -> str:
    return str(part.get("$ref", "")).removeprefix(DEFINITIONS)


def _anchor(name: str) -> str:
    return f"#{name.removeprefix(DEFINITIONS).lower()}"


def _section(name: str, definition: Schema, example: str | None) -> str:
    required = definition.get("required", ())
    rows = [
        (
            f"`{key}`",
            _type(value),
            "required" if key in required else _default(value),
            " ".join(value.get("description", "").split()),
        )
        for key, value in definition.get("properties", {}).items()
    ]
    lines = [f"## {name}", "", definition.get("description", "").strip(), ""]
    if rows:
        lines += [f"| {line} |" for line in table(("Key", "Type", "Default", "Meaning"), rows)]
    elif "enum" in definition:
        lines.append(_type(definition))
    if example:
        lines += ["", "```yaml", example, "```"]
    return "\n".join(lines) + "\n"


def _default(value: Schema) -> str:
    if "default" not in value:
        return ""
    return f"`{json.dumps(value['default'], ensure_ascii=False)}`"


def _type(value: Schema) -> str:
    """Return a type in words, with links to the definitions that it names."""
    if name := _referred(value):
        return f"[{name}]({_anchor(name)})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "discriminator" in value:
        choices = value["discriminator"]["mapping"].items()
        return ", ".join(f"[`{tag}`]({_anchor(to)})" for tag, to in choices)
    for several in ("oneOf", "anyOf"):
        if several in value:
            return " or ".join(dict.fromkeys(map(_type, value[several])))
    kind = str(value.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(value.get('items', {}))}" if "items" in value else "list"
    bounds = [
        f"{sign} {value[key]}"
        for key, sign in BOUNDS.items()
        if key in value and value[key] not in GENERAL
    ]
    return " ".join([kind, ", ".join(bounds)]).strip()
