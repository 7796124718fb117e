"""Error messages for pipeline files, made from pydantic's validation errors.

Each message names the key, the mistake and the remedy. A location is a tuple of keys and list
positions, from the top of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, get_origin

from pydantic import ValidationError

from cvpipe.config_sections import (
    TAGS,
    Location,
    alternatives_at,
    child_of,
    choices_at,
    fields_at,
    pipeline_classes,
    sections_at,
    tag_of,
    tags_at,
    value_at,
)
from cvpipe.errors import nearest

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
    known = _either([f"'{name}'" for name in pipeline_classes()])
    near = nearest(values.get("task"), pipeline_classes())
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
        values = child_of(values, part)
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
    mapping, here = value_at(values, parent), values["task"]
    owners = [
        str(tag_of(section))
        for section in alternatives_at(parent, values, here)
        if name in section.model_fields
    ]
    tag = next((tag for tag in ("kind", "op") if tag in mapping), None)
    if tag and owners:
        chosen = mapping[tag]
        return f"'{key}' is for {tag}: {_either(owners)}, not for {tag}: {chosen}; leave it out"
    others = [
        task
        for task in pipeline_classes()
        if any(name in section.model_fields for section in sections_at(parent, values, task))
    ]
    if others:
        return f"'{key}' is for {_not_this(others, values)}; leave it out"
    known = [
        field for section in sections_at(parent, values, here)[:1] for field in section.model_fields
    ]
    near = nearest(str(name), known)
    return f"unknown key '{key}'; " + (
        f"did you mean '{near}'?" if near else f"known here: {', '.join(known)}"
    )


def _explain_tag(key: str, at: Location, values: dict[str, Any], context: dict[str, Any]) -> str:
    tag = context["discriminator"].strip("'")
    tags = tags_at(at, values, values["task"])
    known = "known: " + ", ".join(f"'{name}'" for name in tags)
    if "tag" not in context:
        return f"'{key}': no '{tag}' is given; {known}"
    given = context["tag"]
    others = [task for task in pipeline_classes() if given in tags_at(at, values, task)]
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
            task for task in pipeline_classes() if error["input"] in choices_at(at, values, task)
        ]
        hint = f", which is for task: {_either(choosing)}" if choosing else ""
        known = [
            choice for choice in choices_at(at, values, values["task"]) if isinstance(choice, str)
        ]
        near = nearest(error["input"], known) if not choosing else None
        hint = f"; did you mean '{near}'?" if near else hint
    given = json.dumps(error["input"], ensure_ascii=False)
    return f"'{key}' {message}, not {given}{hint} ({_meaning(at, values)})"


def _meaning(at: Location, values: dict[str, Any]) -> str:
    """Return the first sentence of a key's description."""
    at = at[:-1] if at and isinstance(at[-1], int) else at
    fields = fields_at(at, values, values["task"])
    if not fields:
        return "see cvpipe schema"
    text = fields[0].description
    if get_origin(fields[0].annotation) is not tuple and (
        tags := tags_at(at, values, values["task"])
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
