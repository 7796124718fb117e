"""Sections and fields of pipeline files by their location.

A location is a tuple of keys and list positions, from the top of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cvpipe import config as pipelines

# Keys whose value selects the class of a mapping.
TAGS = ("kind", "op", "task")
Location = tuple[Any, ...]


def pipeline_classes() -> dict[str, type[BaseModel]]:
    """Return the pipeline class of each task."""
    return {str(tag_of(section)): section for section in _members(pipelines.Pipeline)}


def sections_at(at: Location, values: Any, task: str) -> list[type[BaseModel]]:
    """Return the possible classes of the mapping at a location, in a pipeline of `task`.

    If the mapping has a tag, only one class is possible. If the task has no such mapping, the list
    is empty.
    """
    sections = [pipeline_classes()[task]]
    for part in at:
        values = child_of(values, part)
        sections = _below(sections, part)
        tag = next((values[tag] for tag in TAGS if tag in values), None) if values else None
        if isinstance(values, dict) and tag is not None:
            sections = [section for section in sections if tag_of(section) in (tag, None)]
    return sections


def alternatives_at(at: Location, values: Any, task: str) -> list[type[BaseModel]]:
    """Return the possible classes of the mapping at a location, whatever its tag."""
    return _below(sections_at(at[:-1], values, task), at[-1]) if at else [pipeline_classes()[task]]


def _below(sections: Sequence[type[BaseModel]], part: str | int) -> list[type[BaseModel]]:
    """Return the possible classes of the value at a key or list position. A list has the classes of
    its items.
    """
    if isinstance(part, int):
        return list(sections)
    fields = [section.model_fields[part] for section in sections if part in section.model_fields]
    return [member for field in fields for member in _members(field.annotation)]


def fields_at(at: Location, values: Any, task: str) -> list[FieldInfo]:
    """Return the possible fields of the key at a location, in a pipeline of `task`."""
    return [
        section.model_fields[at[-1]]
        for section in sections_at(at[:-1], values, task)
        if at[-1] in section.model_fields
    ]


def tags_at(at: Location, values: Any, task: str) -> list[str]:
    """Return the possible tags of the mapping at a location."""
    sections = alternatives_at(at, values, task)
    return [tag for section in sections if (tag := tag_of(section)) is not None]


def tag_of(section: type[BaseModel]) -> str | None:
    """Return the tag that selects a class; None if it has no tag or several."""
    for tag in TAGS:
        if tag in section.model_fields and (
            named := get_args(section.model_fields[tag].annotation)
        ):
            return str(named[0]) if len(named) == 1 else None
    return None


def _members(annotation: Any) -> list[type[BaseModel]]:
    """Return the section classes in a type annotation, including those in unions, lists and
    Annotated.
    """
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [member for part in get_args(annotation) for member in _members(part)]


def choices_at(at: Location, values: Any, task: str) -> list[Any]:
    """Return the values that a key at a location can have in a pipeline of `task`, if it is a
    choice.
    """
    fields = fields_at(at, values, task)
    return [choice for field in fields for choice in _choices(field.annotation)]


def _choices(annotation: Any) -> list[Any]:
    """Return the values of the Literal types in a type annotation."""
    found = get_args(annotation)
    return [choice for part in found for choice in _choices(part)] if found else [annotation]


def value_at(values: Any, at: Location) -> Any:
    """Return the value at a location; None if there is none."""
    for part in at:
        values = child_of(values, part)
    return values


def child_of(values: Any, part: str | int) -> Any:
    """Return the value under a key or at a position; None if there is none."""
    if isinstance(values, dict):
        return values.get(part)
    there = isinstance(values, list) and isinstance(part, int) and part < len(values)
    return values[part] if there else None
