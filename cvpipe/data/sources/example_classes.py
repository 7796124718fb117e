"""Classes of tf.train.Examples, which have numbers, names, or both."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cvpipe.config.record_files import TfRecord, TfRecordFiles
from cvpipe.data.sources.files import Files
from cvpipe.data.sources.label_map import LabelMap, read_label_map
from cvpipe.data.sources.tf_examples import Features, as_text
from cvpipe.errors import DataError, suggest

_ADVICE = "set data.source.names, classes or first_label so that they fit the examples"


class ExampleClass(NamedTuple):
    """A class as stored in an example."""

    number: int | None
    text: str
    """The class's name; "" if the example has only a number."""
    record: int
    place: Callable[[int], str]
    """Maps the record to its name in errors."""


class Classes(NamedTuple):
    """Class names, and the position in them of each number and name."""

    names: tuple[str, ...]
    positions: Mapping[int | str, int]

    def position(self, wanted: ExampleClass) -> int:
        """Return the position of a class; raises DataError for an unknown class."""
        key = wanted.text if wanted.number is None else wanted.number
        if key not in self.positions:
            what = f"number {key}" if isinstance(key, int) else f"name '{key}'"
            known = [
                f"{number} ({self.names[at]})"
                for number, at in self.positions.items()
                if isinstance(number, int)
            ]
            raise DataError(
                f"{wanted.place(wanted.record)}: no class has the {what};"
                f" {suggest(str(key), known or self.names)}; {_ADVICE}"
            )
        return self.positions[key]


def classes_of_example(
    features: Features, label: str, record: int, place: Callable[[int], str]
) -> list[ExampleClass]:
    """Return the classes in the feature `label` and the feature `text` beside it, in order.

    Raises:
        DataError: a number isn't an integer.
    """
    folder = posixpath.dirname(label)
    texts = [as_text(value) for value in features.values(f"{folder}/text")] if folder else []
    found = []
    for at, value in enumerate(features.values(label)):
        if value == b"":
            continue
        if isinstance(value, bytes):
            found.append(ExampleClass(None, as_text(value), record, place))
        elif int(value) != value:
            raise DataError(
                f"{place(record)}: '{label}' is {value}, neither a class's number nor its name; set"
                " data.source.label to another feature"
            )
        else:
            text = texts[at] if at < len(texts) else ""
            found.append(ExampleClass(int(value), text, record, place))
    return found or [ExampleClass(None, text, record, place) for text in texts if text]


def known_classes(files: Files, config: TfRecordFiles, first: int) -> LabelMap | None:
    """Return the classes that the section gives: `classes`, numbered from `first`, or the label map
    `names`. None if it gives neither.
    """
    if config.names is not None:
        return read_label_map(files, config.names, first)
    names = dict(enumerate(config.classes, first))
    return LabelMap(names, {name: number for number, name in names.items()}) if names else None


def find_classes(files: Files, config: TfRecord, occurring: Iterable[ExampleClass]) -> Classes:
    """Return the classes that the section gives, or else the classes that occur in the examples.

    Raises:
        DataError: the label map is damaged, a number has two names, or a name has two numbers.
    """
    known = known_classes(files, config, config.first_label)
    if known:
        at: dict[int | str, int] = {number: n for n, number in enumerate(known.names)}
        by_name: dict[int | str, int] = {name: at[number] for name, number in known.numbers.items()}
        return Classes(tuple(known.names.values()), {**by_name, **at})
    first: dict[int, ExampleClass] = {}
    texts: set[str] = set()
    for each in occurring:
        if each.number is None:
            texts.add(each.text)
            continue
        before = first.setdefault(each.number, each)
        if each.text and not before.text:
            first[each.number] = each
        elif each.text and each.text != before.text:
            raise DataError(
                f"{each.place(each.record)}: the class {each.number} is called '{each.text}' here,"
                f" but '{before.text}' in {before.place(before.record)}; give data.source.names"
            )
    names = {number: first[number].text or str(number) for number in sorted(first)}
    positions: dict[int | str, int] = {}
    for position, (number, name) in enumerate(names.items()):
        if name in positions:
            raise DataError(
                f"{config.path}: two classes are named '{name}' in the examples, {number} and"
                f" {list(names)[positions[name]]}; give data.source.names"
            )
        positions[name] = positions[number] = position
    # Names without a number follow.
    for name in sorted(texts):
        positions.setdefault(name, len({*positions.values()}))
    every = {position: name for name, position in positions.items() if isinstance(name, str)}
    return Classes(tuple(every[position] for position in sorted(every)), positions)
