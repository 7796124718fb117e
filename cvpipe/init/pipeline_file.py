"""A drafted pipeline as text: YAML with a comment above each choice."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_WIDTH = 98


class _Dumper(yaml.SafeDumper):
    """Dumper that writes no aliases of earlier values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(values: Mapping[str, Any], reasons: Mapping[str, str], head: Sequence[str]) -> str:
    """Return a pipeline file's text.

    Args:
        values: the values of the pipeline.
        reasons: comments by key, such as "prepare.size".
        head: paragraphs of the head comment; indented paragraphs aren't wrapped.
    """
    lines = [line for paragraph in head for line in _comment(paragraph, "")]
    for key, value in values.items():
        lines += _entry(key, value, key, reasons, "")
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, path: str, reasons: Mapping[str, str], indent: str) -> list[str]:
    lines = _comment(reasons[path], indent) if path in reasons else []
    in_a_line = f"{indent}{_flow(key)}: {_flow(value)}"
    # Sections of a pipeline, and the sections source and cells in them, have one line per key.
    opened = isinstance(value, dict) and value and (not indent or key in ("source", "cells"))
    if opened:
        lines.append(f"{indent}{_flow(key)}:")
        for below, item in value.items():
            lines += _entry(below, item, f"{path}.{below}", reasons, f"{indent}  ")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        lines.append(f"{indent}{_flow(key)}:")
        lines += [f"{indent}  - {_flow(item)}" for item in value]
    else:
        lines.append(in_a_line)
    return lines


def _flow(value: Any) -> str:
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=True,
        width=float("inf"),
    )
    return text.removesuffix("\n...\n").strip()


def _comment(paragraph: str, indent: str) -> list[str]:
    begin = f"{indent}# "
    if paragraph.startswith(" "):
        return [f"{begin}{paragraph}"]
    return textwrap.wrap(
        " ".join(paragraph.split()),
        _WIDTH,
        initial_indent=begin,
        subsequent_indent=begin,
        break_long_words=False,
        break_on_hyphens=False,
    )
