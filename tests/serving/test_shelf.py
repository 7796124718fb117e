"""Guards which versions of models are loaded and unloaded when their folders change."""

from __future__ import annotations

import gc
import os
import shutil
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from cvpipe.errors import ConfigError, DataError, UserError
from cvpipe.serving.errors import RequestError
from cvpipe.serving.shelf import Shelf, State
from cvpipe.serving.versions import ALL, LATEST, Policy, parse_policy


class Loaded:
    """A loaded version, in place of a real model."""

    servable: Any = None

    def __init__(self, number: int) -> None:
        self.number, self.closed = number, False

    def close(self) -> None:
        self.closed = True


def load(folder: Path, model: str, number: int) -> Loaded:
    content = (folder / "saved_model.pb").read_text()
    if content != "good":
        raise DataError(f"{folder}: {content}")
    return Loaded(number)


def write(folder: Path, number: int, content: str = "good") -> None:
    (folder / str(number)).mkdir(parents=True, exist_ok=True)
    (folder / str(number) / "saved_model.pb").write_text(content)


def shelf(folder: Path, policy: Policy | None = None) -> Shelf:
    own = Shelf(folder, policy or Policy(LATEST), load)
    own.scan()
    return own


def states(own: Shelf, model: str = "m") -> dict[int, str]:
    return {version.number: version.state.name for version in own.status(model)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        write(tmp_path / "m", number)
    write(tmp_path / "other", 7)
    return tmp_path


def test_the_latest_version_is_served_and_a_newer_one_replaces_it(folder: Path) -> None:
    own = shelf(folder)
    assert own.names() == ["m", "other"] and states(own) == {2: "AVAILABLE"}
    write(folder / "m", 10)
    own.scan()
    assert states(own) == {10: "AVAILABLE", 2: "END"}
    with own.lease("m") as version:
        assert version.number == 10


def test_a_version_that_does_not_load_leaves_the_previous_one_and_says_why(folder: Path) -> None:
    own = shelf(folder)
    write(folder / "m", 3, "damaged")
    own.scan()
    assert states(own) == {3: "END", 2: "AVAILABLE"}
    broken = own.status("m", 3)[0]
    assert broken.error_code == "DATA_LOSS" and "damaged" in broken.error
    with own.lease("m") as version:
        assert version.number == 2
    write(folder / "m", 3)
    own.scan()
    assert states(own) == {3: "AVAILABLE", 2: "END"}


def test_a_version_is_dropped_only_after_its_requests(folder: Path) -> None:
    own = shelf(folder)
    with own.lease("m") as version:
        runner: Any = version.runner
        write(folder / "m", 3)
        own.scan()
        assert states(own)[2] == "UNLOADING" and not runner.closed
        with own.lease("m") as newer:
            assert newer.number == 3
        with pytest.raises(RequestError) as refused, own.lease("m", 2):
            pass
        assert refused.value.status == 404
    own.scan()
    assert states(own)[2] == "END" and runner.closed


def test_all_or_some_versions_are_served(folder: Path) -> None:
    for policy in (Policy(), Policy(ALL)):
        assert states(shelf(folder, policy)) == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert states(shelf(folder, Policy(of_model={"m": frozenset({1})}))) == {1: "AVAILABLE"}


def test_a_labeled_version_is_served_only_to_requests_with_its_label(folder: Path) -> None:
    own = shelf(folder, parse_policy(["m:1"], ["m:canary=2"]))
    assert states(own) == {1: "AVAILABLE", 2: "AVAILABLE"}
    with own.lease("m") as version:
        assert version.number == 1
    with own.lease("m", label="canary") as version:
        assert version.number == 2
    with pytest.raises(RequestError, match='labeled "stable"; its labels: canary'):
        own.resolve("m", "stable")


def test_deleted_versions_are_unloaded_and_an_unreadable_folder_changes_nothing(
    folder: Path,
) -> None:
    own = shelf(folder)
    shutil.rmtree(folder / "other")
    own.scan()
    assert own.names() == ["m"]
    folder.rename(folder.with_name("moved"))
    own.scan()
    assert own.names() == ["m"]


def test_a_failed_version_is_tried_once_until_its_files_change(folder: Path) -> None:
    tried = []

    def counted(path: Path, model: str, number: int) -> Loaded:
        tried.append(number)
        return load(path, model, number)

    write(folder / "m", 3, "damaged")
    own = Shelf(folder / "m", Policy(LATEST), counted)
    for _ in range(3):
        own.scan()
    assert tried == [3]


def test_a_first_version_that_does_not_load_is_an_error_at_the_start(folder: Path) -> None:
    write(folder / "new", 1, "damaged")
    with pytest.raises(UserError, match="damaged"):
        Shelf(folder / "new", Policy(), load).start()
    with pytest.raises(UserError, match="no exported model under"):
        Shelf(_empty(folder), Policy(), load).start()
    with pytest.raises(UserError, match="--versions selects none"):
        Shelf(folder / "m", Policy(frozenset({9})), load).start()


def _empty(folder: Path) -> Path:
    empty = folder / "empty"
    empty.mkdir()
    return empty


@pytest.mark.parametrize("freeze", [False, True])
def test_an_unloaded_version_leaves_memory_though_it_refers_to_itself(
    folder: Path, freeze: bool
) -> None:
    freed = []

    def cyclic(path: Path, model: str, number: int) -> Loaded:
        runner: Any = load(path, model, number)
        runner.cycle = runner
        weakref.finalize(runner, freed.append, number)
        return runner

    older: list[int] = []
    own = Shelf(folder / "m", Policy(LATEST), cyclic, freeze=freeze)
    own.scan()
    assert any(each is older for each in gc.get_objects()) != freeze
    write(folder / "m", 3)
    own.scan()
    assert freed == [2] and own.numbers("m") == [3]
    own.stop()
    assert any(each is older for each in gc.get_objects())
    if "PYTEST_XDIST_WORKER" in os.environ:
        gc.freeze()  # as in conftest.py


def test_the_folder_is_watched(folder: Path) -> None:
    own = Shelf(folder / "m", Policy(LATEST), load, poll_seconds=0.01)
    own.start()
    try:
        write(folder / "m", 3)
        for _ in range(2000):
            if own.numbers("m") == [3]:
                break
            time.sleep(0.005)
        assert own.numbers("m") == [3]
    finally:
        own.stop()


def test_unknown_models_and_versions_are_not_found(folder: Path) -> None:
    own = shelf(folder)
    for asked in (("none",), ("m", 5)):
        with pytest.raises(RequestError) as refused, own.lease(*asked):
            pass
        assert refused.value.status == 404
    assert own.status("m")[0].state is State.AVAILABLE


@pytest.mark.parametrize(
    "versions, labels",
    [(["newest"], []), (["m:"], []), (["1,"], []), ([], ["m=3"]), ([], ["m:a-b=3"])],
)
def test_malformed_choices_are_clear_errors(versions: list[str], labels: list[str]) -> None:
    with pytest.raises(ConfigError, match="write it as"):
        parse_policy(versions, labels)
