"""Guards which versions of models are loaded and unloaded when their folders change."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import time
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cvpipe.errors import ConfigError, DataError, UserError
from cvpipe.grpc_messages import tf_serving
from cvpipe.serving.errors import RequestError
from cvpipe.serving.policy import ALL, LATEST, Latest, Policy, parse_policy
from cvpipe.serving.reload import check_loaded, reloaded
from cvpipe.serving.shelf import Shelf
from cvpipe.serving.versions import State


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


def test_the_previous_version_is_loaded_again_when_its_successor_is_removed(folder: Path) -> None:
    own = shelf(folder)
    write(folder / "m", 3)
    own.scan()
    assert states(own) == {3: "AVAILABLE", 2: "END"}
    shutil.rmtree(folder / "m" / "3")
    own.scan()
    assert own.numbers("m") == [2]
    with own.lease("m") as version:
        assert version.number == 2 and version.runner


def test_a_policy_can_return_to_a_version_that_was_unloaded(folder: Path) -> None:
    own = shelf(folder, Policy(frozenset({1})))
    for number in (2, 1, 2):
        own.policy = Policy(frozenset({number}))
        own.scan()
        assert own.numbers("m") == [number]


def test_a_version_wanted_again_before_its_last_request_ends_stays_loaded(folder: Path) -> None:
    own = shelf(folder)
    with own.lease("m") as version:
        write(folder / "m", 3)
        own.scan()
        assert states(own)[2] == "UNLOADING"
        shutil.rmtree(folder / "m" / "3")
        own.scan()
        assert own.numbers("m") == [2]
        runner: Any = version.runner
    own.scan()
    assert own.numbers("m") == [2] and not runner.closed


def unreadable(number: int | None) -> DataError:
    """Return an error as from `check_operations`, which hides the OSError from tracebacks."""
    try:
        try:
            raise OSError(number, "can't be read") if number else OSError("no SavedModel")
        except OSError as error:
            raise DataError(f"the graph can't be read ({error})") from None
    except DataError as hidden:
        return hidden


@pytest.mark.parametrize(
    "fault", [OSError(errno.EIO, "Input/output error"), unreadable(errno.ESTALE)]
)
def test_files_that_cannot_be_read_for_now_are_tried_again_after_growing_pauses(
    folder: Path, fault: Exception
) -> None:
    now, tried = 0.0, list[float]()

    def away(path: Path, model: str, number: int) -> Loaded:
        if number != 3:
            return Loaded(number)
        tried.append(now)
        if now < 1000:
            raise fault
        return Loaded(number)

    write(folder / "m", 3)
    own = Shelf(folder / "m", parse_policy(["2,3"], []), away, clock=lambda: now)
    while now < 1500:
        own.scan()
        now += 0.5
    assert tried == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111]
    assert own.numbers("m") == [2, 3]


@pytest.mark.parametrize("number", [None, errno.ENOENT])
def test_damaged_or_missing_files_are_not_tried_again(folder: Path, number: int | None) -> None:
    tried = []

    def damaged(path: Path, model: str, version: int) -> Loaded:
        tried.append(version)
        raise unreadable(number)

    now = 0.0
    own = Shelf(folder / "m", Policy(LATEST), damaged, clock=lambda: now)
    for now in (0.0, 1.0, 1e9):  # noqa: B007
        own.scan()
    assert tried == [2]


def test_the_newest_versions_are_chosen_anew_when_versions_come_and_go(folder: Path) -> None:
    own = shelf(folder, Policy(Latest(2)))
    assert own.numbers("m") == [1, 2] and own.numbers("other") == [7]
    asked = tf_serving().ReloadConfigRequest()
    config = asked.config.model_config_list.config.add()
    config.name = "m"
    config.model_version_policy.latest.num_versions = 2
    own.policy = reloaded(asked, own)
    own.scan()
    assert own.numbers("m") == [1, 2] and own.names() == ["m"]
    write(folder / "m", 3)
    own.scan()
    assert own.numbers("m") == [2, 3]
    shutil.rmtree(folder / "m" / "3")
    own.scan()
    assert own.numbers("m") == [1, 2]


def test_a_reload_to_a_version_that_does_not_load_fails_and_the_others_stay(folder: Path) -> None:
    own = shelf(folder)
    write(folder / "m", 3, "damaged")
    asked = tf_serving().ReloadConfigRequest()
    config = asked.config.model_config_list.config.add(name="m")
    for numbers, served, fails in (([3], [2], True), ([1, 3], [1], True), ([1], [1], False)):
        del config.model_version_policy.specific.versions[:]
        config.model_version_policy.specific.versions.extend(numbers)
        own.policy = reloaded(asked, own)
        own.scan()
        with pytest.raises(RequestError) if fails else nullcontext() as refused:
            check_loaded(own)
        if refused:
            expected = f'version 3 of model "m" can\'t be loaded: {folder / "m" / "3"}: damaged'
            assert str(refused.value) == expected
        assert own.numbers("m") == served


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
