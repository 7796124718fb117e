"""Guards flags of annotations: 0, 1, true, false and null; all else is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

from cvpipe.data.sources.flags import flag_of_json, flag_of_text
from cvpipe.errors import DataError


@pytest.mark.parametrize(
    "value, flag", [(0, False), (1, True), (False, False), (True, True), (None, False), (1.0, True)]
)
def test_a_flag_of_json_is_a_number_a_boolean_or_null(value: Any, flag: bool) -> None:
    assert flag_of_json(value, "a.json", "iscrowd") is flag


@pytest.mark.parametrize("value", ["0", "false", "1", 2, -1, 0.5, float("nan"), [], {}])
def test_anything_else_in_json_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(
        DataError, match=r"^a.json: row 3: iscrowd is .*, but must be 0, 1, true, false or null;"
    ):
        flag_of_json(value, "a.json: row 3", "iscrowd")


@pytest.mark.parametrize(
    "text, flag",
    [("0", False), (" 1\n", True), ("true", True), ("False", False), ("", False), (None, False)]
    + [("0.0", False), ("1.0", True)],
)
def test_a_flag_of_xml_or_a_table_is_0_or_1_a_word_or_nothing(text: str | None, flag: bool) -> None:
    assert flag_of_text(text, "a.xml", "difficult") is flag


@pytest.mark.parametrize("text", ["yes", "2", "Unspecified", "0.5", "-1"])
def test_anything_else_in_xml_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(DataError) as raised:
        flag_of_text(text, "a.xml: object 2 (dog)", "difficult")
    assert str(raised.value) == (
        f"a.xml: object 2 (dog): difficult is '{text}', but must be 0, 1, true, false or empty;"
        " correct it"
    )
