"""Collect examples of a pipeline's sections from the shipped pipelines and examples.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from cvpipe import config_file
from cvpipe.config.section import Section
from gallery import SETTINGS, section_of

ROOT = Path(__file__).parents[2]
WIDTH = 78


def examples() -> dict[str, str]:
    """Return an example of each section as YAML, by the name of the section's class."""
    found: dict[str, dict[str, Any]] = {}
    for section in _sections():
        name, values = type(section).__name__, section.model_dump(mode="json", exclude_unset=True)
        # Prefer the example that sets the most keys.
        if len(values) > len(found.get(name, {})):
            found[name] = values
    return {name: _yaml(values) for name, values in found.items()}


def _sections() -> Iterator[BaseModel]:
    for path in sorted((ROOT / "pipelines").rglob("*.yaml")):
        yield from _within(config_file.load(path))
    for op, settings in SETTINGS.items():
        yield section_of(op)(op=op, **settings)
    kinds = {kind.__name__: kind for kind in _below(Section)}
    text = (ROOT / "docs/generate/examples.yaml").read_text(encoding="utf-8")
    for name, values in yaml.safe_load(text).items():
        yield kinds[name].model_validate(values)


def _within(value: Any) -> Iterator[BaseModel]:
    """Yield a section and all sections in it."""
    if isinstance(value, BaseModel):
        yield value
        for key in type(value).model_fields:
            yield from _within(getattr(value, key))
    elif isinstance(value, tuple):
        for item in value:
            yield from _within(item)


def _below(kind: type[Section]) -> Iterator[type[Section]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, default_flow_style=None, width=WIDTH, sort_keys=False).strip()
