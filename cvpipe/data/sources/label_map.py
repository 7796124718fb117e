"""Label maps: numbers and names of classes in .pbtxt, .csv and text files."""

from __future__ import annotations

import csv
import functools
import io
import re
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from cvpipe.data.sources.files import Files
from cvpipe.errors import DataError
from cvpipe.text_files import decode_text

_NUMBERED = re.compile(r"(\d+)\s*:\s*(.+)")


class LabelMap(NamedTuple):
    """Names of classes."""

    names: dict[int, str]
    """Names by number, in the order of the numbers."""
    numbers: dict[str, int]
    """Numbers by all names that mean the class, such as /m/01g317 of Open Images."""


def read_label_map(files: Files, path: str, first: int) -> LabelMap:
    """Read a label map.

    Args:
        files: the folder or archive.
        path: path of the label map in it: a .pbtxt file of items with id, name and display_name, a
            .csv file of rows "id,name", or text with a name, or "id:name", in each line.
        first: number of the first line of a text file.

    Raises:
        DataError: the label map is missing or damaged, or two classes have the same number or name.
    """
    name = files.find(path)
    if name is None:
        raise files.no_such_file(path)
    place = files.locate(name)
    text = decode_text(files.read(name), place)
    kind = name.lower().rpartition(".")[2]
    read = {"pbtxt": _items, "csv": _rows}.get(kind)
    items = read(text, place) if read else _lines(text, first)
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for number, name_of_class, *others in sorted(items):
        if number in names:
            raise DataError(f"{place}: two classes have the number {number}; correct the file")
        if name_of_class in names.values():
            raise DataError(
                f"{place}: two classes are named '{name_of_class}'; name them differently"
            )
        names[number] = name_of_class
        for known in (name_of_class, *others):
            numbers.setdefault(known, number)
    if not names:
        raise DataError(f"{place}: names no class; add classes, or name another file")
    return LabelMap(names, numbers)


def _items(text: str, place: str) -> list[tuple[Any, ...]]:
    message = _label_map()()
    try:
        text_format.Parse(text, message, allow_unknown_field=True)
    except text_format.ParseError as error:
        raise DataError(f"{place}: not a label map ({error}); correct it") from None
    items: list[tuple[Any, ...]] = []
    for item in message.item:
        shown = item.display_name or item.name
        if not item.HasField("id") or not shown:
            raise DataError(f"{place}: item {len(items) + 1} has no id or no name; correct it")
        items.append((item.id, shown, item.name or shown))
    return items


def _rows(text: str, place: str) -> list[tuple[Any, ...]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text))]
    rows = [row for row in rows if any(row)]
    for line, row in enumerate(rows, 1):
        if len(row) != 2 or not row[0].isdecimal():
            raise DataError(f"{place}: row {line} isn't a number and a name; correct it")
    return [(int(row[0]), row[1]) for row in rows]


def _lines(text: str, first: int) -> list[tuple[Any, ...]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        return [(int(found[1]), found[2]) for found in numbered if found]
    return list(enumerate(lines, first))


@functools.cache
def _label_map() -> Any:
    """Make the message StringIntLabelMap of the Object Detection API, with the fields that are
    read.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="cvpipe_label_map.proto", package="cvpipe_label_map"
    )
    item = file.message_type.add(name="Item")
    for number, (name, kind) in enumerate(
        (("name", field.TYPE_STRING), ("id", field.TYPE_INT32), ("display_name", field.TYPE_STRING))
    ):
        item.field.add(name=name, number=number + 1, type=kind, label=field.LABEL_OPTIONAL)
    whole = file.message_type.add(name="LabelMap")
    whole.field.add(
        name="item",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".cvpipe_label_map.Item",
        label=field.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cvpipe_label_map.LabelMap"))
