"""Error messages for pipeline files, made from pydantic's validation errors.

Each message names the key, the mistake and the remedy. A location is a tuple of keys and list
positions, from the top of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cvpipe import config as pipelines
from cvpipe.errors import nearest

# Keys whose value selects the class of a mapping.
TAGS = ("kind", "op", "task")
Location = tuple[Any, ...]
# A period ends the sentence only before a capital, a backtick or a quotation mark, because a
# description may list options, such as "stretch: …. crop: …", or cite "et al. 2015".
_END_OF_SENTENCE = re.compile(r"\.(?= [A-Z`\"])|\.$")


class Mistake(NamedTuple):
    """A mistake in a pipeline file."""

    place: Location
    """Location of the key to correct."""
    sentence: str
    """The fault and its remedy."""


def mistakes(failure: ValidationError, values: dict[str, Any]) -> list[Mistake]:
    """Return a message for each of pydantic's errors about the values of a pipeline file.

    Unknown keys come first, because a missing key is often a misspelled one.
    """
    errors = sorted(failure.errors(), key=lambda error: error["type"] != "extra_forbidden")
    return [_mistake(dict(error), values) for error in errors]


def _mistake(error: dict[str, Any], values: dict[str, Any]) -> Mistake:
    at, context = _location(error["loc"], values), error.get("ctx", {})
    if error["type"] == "misfit":
        parts = context["key"].split(".")
        place = tuple(int(part) if part.isdecimal() else part for part in parts)
        return Mistake(place, context["sentence"])
    if not at and error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _mistaken_task(values)
    return Mistake(at, _explain(error, at, values))


def _mistaken_task(values: dict[str, Any]) -> Mistake:
    known = _either([f"'{name}'" for name in _tasks()])
    near = nearest(values.get("task"), _tasks())
    if "task" not in values:
        return Mistake((), f"'task' is missing; add it ({known})")
    given = json.dumps(values["task"], default=str, ensure_ascii=False)
    hint = f"; did you mean '{near}'?" if near else ""
    return Mistake(("task",), f"'task' should be {known}, not {given}{hint}")


def _location(loc: Location, values: Any) -> Location:
    """Convert pydantic's location to one in the file.

    pydantic inserts the tag of a tagged mapping after the mapping's key. The tag isn't a key of the
    file.
    """
    at: list[Any] = []
    entered = isinstance(values, dict)
    for part in loc:
        if entered and part in [values.get(tag) for tag in TAGS]:
            entered = False
            continue
        at.append(part)
        values = _child(values, part)
        entered = isinstance(values, dict)
    return tuple(at)


def _explain(error: dict[str, Any], at: Location, values: dict[str, Any]) -> str:
    key, kind, context = ".".join(map(str, at)), error["type"], error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return _explain_unknown_key(key, at, values)
        case "missing":
            return f"'{key}' is missing; add it ({_meaning(at, values)})"
        case "union_tag_invalid" | "union_tag_not_found":
            return _explain_tag(key, at, values, context)
        case "unknown":
            known, given = context["known"], str(error["input"])
            return f"'{key}': {error['msg']}; {_nearest(given, known)}known: {', '.join(known)}"
        case "value_error":
            return f"'{key}': {context['error']}" if key else str(context["error"])
        case "too_short" | "too_long":
            bound, limit = (
                ("at least", context["min_length"])
                if kind == "too_short"
                else ("at most", context["max_length"])
            )
            given = json.dumps(error["input"], ensure_ascii=False)
            items = "item" if limit == 1 else "items"
            return (
                f"'{key}' should have {bound} {limit} {items}, not {given} ({_meaning(at, values)})"
            )
        case _:
            return _explain_value(error, key, at, values)


def _explain_unknown_key(key: str, at: Location, values: dict[str, Any]) -> str:
    *around, name = at
    parent = tuple(around)
    mapping, here = _value(values, parent), values["task"]
    owners = [
        str(_tag_of(section))
        for section in _alternatives(parent, values, here)
        if name in section.model_fields
    ]
    tag = next((tag for tag in ("kind", "op") if tag in mapping), None)
    if tag and owners:
        chosen = mapping[tag]
        return f"'{key}' is for {tag}: {_either(owners)}, not for {tag}: {chosen}; leave it out"
    others = [
        task
        for task in _tasks()
        if any(name in section.model_fields for section in _sections(parent, values, task))
    ]
    if others:
        return f"'{key}' is for {_not_this(others, values)}; leave it out"
    known = [
        field for section in _sections(parent, values, here)[:1] for field in section.model_fields
    ]
    near = nearest(str(name), known)
    return f"unknown key '{key}'; " + (
        f"did you mean '{near}'?" if near else f"known here: {', '.join(known)}"
    )


def _explain_tag(key: str, at: Location, values: dict[str, Any], context: dict[str, Any]) -> str:
    tag = context["discriminator"].strip("'")
    tags = _tags(at, values, values["task"])
    known = "known: " + ", ".join(f"'{name}'" for name in tags)
    if "tag" not in context:
        return f"'{key}': no '{tag}' is given; {known}"
    given = context["tag"]
    others = [task for task in _tasks() if given in _tags(at, values, task)]
    if others:
        return f"'{key}': {tag}: {given} is for {_not_this(others, values)}; {known}"
    return f"'{key}': '{given}' is not a known {tag}; {_nearest(given, tags)}{known}"


def _explain_value(error: dict[str, Any], key: str, at: Location, values: dict[str, Any]) -> str:
    message = error["msg"].removeprefix("Input ").removeprefix("String ").replace("valid ", "")
    for term, plain in {
        "an object": "a mapping",
        "an array": "a list",
        "a array": "a list",
        "a integer": "an integer",
    }.items():
        message = message.replace(term, plain)
    message = re.sub(r"10{20,}", lambda digits: f"{int(digits[0]):.0e}", message)
    hint = ""
    if error["type"] == "string_type" and isinstance(error["input"], (int, float)):
        hint = f'; write it as "{error["input"]}"'
    if error["type"] == "literal_error":
        choosing = [
            task
            for task in _tasks()
            if any(
                error["input"] in _choices(field.annotation) for field in _fields(at, values, task)
            )
        ]
        hint = f", which is for task: {_either(choosing)}" if choosing else ""
        near = nearest(error["input"], _words(at, values)) if not choosing else None
        hint = f"; did you mean '{near}'?" if near else hint
    given = json.dumps(error["input"], ensure_ascii=False)
    return f"'{key}' {message}, not {given}{hint} ({_meaning(at, values)})"


def _meaning(at: Location, values: dict[str, Any]) -> str:
    """Return the first sentence of a key's description."""
    at = at[:-1] if at and isinstance(at[-1], int) else at
    fields = _fields(at, values, values["task"])
    if not fields:
        return "see cvpipe schema"
    text = fields[0].description
    if get_origin(fields[0].annotation) is not tuple and (
        tags := _tags(at, values, values["task"])
    ):
        text = f"its kind is one of {', '.join(tags)}"
    paragraph = " ".join((text or "see cvpipe schema").split("\n\n")[0].split())
    return _END_OF_SENTENCE.split(paragraph)[0]


def _not_this(others: Sequence[str], values: dict[str, Any]) -> str:
    return f"task: {_either(others)}, not for task: {values['task']}"


def _nearest(given: object, known: Sequence[str]) -> str:
    near = nearest(given, known)
    return f"did you mean '{near}'? " if near else ""


def _either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


# -- the classes of a location


def _tasks() -> dict[str, type[BaseModel]]:
    """Return the pipeline class of each task."""
    return {str(_tag_of(section)): section for section in _members(pipelines.Pipeline)}


def _sections(at: Location, values: Any, task: str) -> list[type[BaseModel]]:
    """Return the possible classes of the mapping at a location, in a pipeline of `task`.

    If the mapping has a tag, only one class is possible. If the task has no such mapping, the list
    is empty.
    """
    sections = [_tasks()[task]]
    for part in at:
        values = _child(values, part)
        sections = _below(sections, part)
        tag = next((values[tag] for tag in TAGS if tag in values), None) if values else None
        if isinstance(values, dict) and tag is not None:
            sections = [section for section in sections if _tag_of(section) in (tag, None)]
    return sections


def _alternatives(at: Location, values: Any, task: str) -> list[type[BaseModel]]:
    """Return the possible classes of the mapping at a location, whatever its tag."""
    return _below(_sections(at[:-1], values, task), at[-1]) if at else [_tasks()[task]]


def _below(sections: Sequence[type[BaseModel]], part: str | int) -> list[type[BaseModel]]:
    """Return the possible classes of the value at a key or list position. A list has the classes of
    its items.
    """
    if isinstance(part, int):
        return list(sections)
    fields = [section.model_fields[part] for section in sections if part in section.model_fields]
    return [member for field in fields for member in _members(field.annotation)]


def _fields(at: Location, values: Any, task: str) -> list[FieldInfo]:
    """Return the possible fields of the key at a location, in a pipeline of `task`."""
    return [
        section.model_fields[at[-1]]
        for section in _sections(at[:-1], values, task)
        if at[-1] in section.model_fields
    ]


def _tags(at: Location, values: Any, task: str) -> list[str]:
    """Return the possible tags of the mapping at a location."""
    sections = _alternatives(at, values, task)
    return [tag for section in sections if (tag := _tag_of(section)) is not None]


def _tag_of(section: type[BaseModel]) -> str | None:
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


def _words(at: Location, values: Any) -> list[str]:
    """Return the strings that are allowed as the value of the key at a location."""
    fields = _fields(at, values, values["task"])
    choices = [choice for field in fields for choice in _choices(field.annotation)]
    return [choice for choice in choices if isinstance(choice, str)]


def _choices(annotation: Any) -> list[Any]:
    """Return the values of the Literal types in a type annotation."""
    found = get_args(annotation)
    return [choice for part in found for choice in _choices(part)] if found else [annotation]


def _value(values: Any, at: Location) -> Any:
    for part in at:
        values = _child(values, part)
    return values


def _child(values: Any, part: str | int) -> Any:
    """Return the value under a key or at a position; None if there is none."""
    if isinstance(values, dict):
        return values.get(part)
    there = isinstance(values, list) and isinstance(part, int) and part < len(values)
    return values[part] if there else None
