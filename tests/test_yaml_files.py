"""Guards the YAML of data sets: names stay text as written, and errors name the line."""

from __future__ import annotations

from typing import Any

import pytest

from cvpipe.errors import DataError
from cvpipe.yaml_files import read_yaml_as_text


@pytest.mark.parametrize(
    "word",
    [
        *("no", "yes", "on", "off", "true", "null", "~", "010", "12:30", "1_000", "1e3", "0x1F"),
        *("2024-01-05", ".inf", ".nan", "1.0", "+1", "0o7", "="),
    ],
)
def test_words_are_read_as_text(word: str) -> None:
    assert read_yaml_as_text(f"names: [{word}, b]\n", "d") == {"names": [word, "b"]}
    assert read_yaml_as_text(f"{word}: {word}\n", "d") == {word: word}


def test_a_mapping_can_be_merged_into_another() -> None:
    text = "a: &a {0: no}\nnames: {<<: *a, 1: yes}\n"
    assert read_yaml_as_text(text, "d")["names"] == {"0": "no", "1": "yes"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("names: [a\n\n", "d:3: not valid YAML: "),
        ("a: 1\na: 2\n", "d:2: the key 'a' is given twice; keep one of the two"),
        ("names:\n\t- a\n", "d:2: not valid YAML: found character '\\t'"),
        ("a: !!int x\n", "d: not valid YAML: a value doesn't fit its tag, such as !!int; correct"),
        ("a: !!python/name:os.system\n", "d:1: not valid YAML: could not determine"),
        ("a: b\x01\n", r"d:1: not valid YAML: the character '\x01' is not allowed"),
        ("a: &a [*a]\n", "d: a value contains itself (an anchor &x with *x inside), or is nested"),
        ("[" * 5000, "d: a value contains itself (an anchor &x with *x inside), or is nested too"),
    ],
)
def test_the_error_of_a_fault_names_its_line(text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_yaml_as_text(text, "d")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("empty", ["", "# nothing\n"])
def test_an_empty_file_has_no_values(empty: str) -> None:
    values: Any = read_yaml_as_text(empty, "d")
    assert values is None
