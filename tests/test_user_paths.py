"""Guards paths as users write them: separators, Unicode forms, ~, variables, misspellings."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from cvpipe.data.sources.files import open_files
from cvpipe.errors import DataError
from cvpipe.user_paths import find_path, nearly

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Übung/été") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("on_disk, requested", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_path_is_found_in_the_other_form_of_unicode(
    tmp_path: Path, on_disk: str, requested: str
) -> None:
    (tmp_path / on_disk).mkdir(parents=True)
    assert on_disk != requested
    assert find_path(tmp_path / requested) == tmp_path / on_disk


def test_backslashes_home_and_variables_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data/photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path / "data"))
    photos = tmp_path / "data/photos"
    for path in (f"{tmp_path}\\data\\photos", "~/data/photos", "$PLACE/photos", "${PLACE}\\photos"):
        assert find_path(path) == photos


def test_an_existing_name_with_special_characters_is_used_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~", "a\\b", "a/b", "$HOME"):
        Path(name).mkdir(parents=True)
    assert [find_path(name) for name in ("~", "a\\b", "$HOME")] == [
        Path("~"),
        Path("a\\b"),
        Path("$HOME"),
    ]


def test_a_missing_path_is_unchanged_and_the_error_suggests_a_similar_one(tmp_path: Path) -> None:
    (tmp_path / "Photos").mkdir()
    assert find_path(tmp_path / "photo") == tmp_path / "photo"
    assert nearly(tmp_path / "photo") == f"did you mean '{tmp_path / 'Photos'}'? "
    assert nearly(tmp_path / "photo/cats") == f"did you mean '{tmp_path / 'Photos'}'? "
    assert nearly(tmp_path / "xyz") == ""
    with pytest.raises(DataError, match=r"photo: no such folder or zip archive; did you mean '.*P"):
        open_files(str(tmp_path / "photo"))
