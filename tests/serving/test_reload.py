"""Tests of the conversion of ReloadConfigRequest to a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvpipe.grpc_messages import tf_serving
from cvpipe.serving.errors import RequestError
from cvpipe.serving.policy import ALL, LATEST, Policy
from cvpipe.serving.reload import reloaded
from cvpipe.serving.shelf import Shelf


def folder_of_models(folder: Path) -> Path:
    for version in ("m/1", "m/2", "other/7"):
        (folder / version).mkdir(parents=True)
        (folder / version / "saved_model.pb").touch()
    return folder


def policy_for(folder: Path, versions: Any = None, **fields: Any) -> Policy:
    """Return the policy for a request that names the model "m"."""
    request = tf_serving().ReloadConfigRequest()
    config = request.config.model_config_list.config.add(name="m", **fields)
    if versions is not None:
        config.model_version_policy.specific.SetInParent()
        config.model_version_policy.specific.versions.extend(versions)
    return reloaded(request, Shelf(folder, Policy(ALL), nothing_is_loaded))


def nothing_is_loaded(folder: Path, model: str, number: int) -> Any:
    raise AssertionError("nothing is loaded before the policy is known")


def test_a_request_selects_versions_and_labels(tmp_path: Path) -> None:
    folder = folder_of_models(tmp_path)
    assert policy_for(folder).of_model == {"m": LATEST}
    policy = policy_for(folder, [1], version_labels={"stable": 1, "canary": 2})
    assert policy.of_model == {"m": frozenset({1})}
    assert policy.labels == {"m": {"stable": 1, "canary": 2}}
    assert not policy.chosen("other", [7])


@pytest.mark.parametrize(
    ("versions", "labels", "missing"),
    [([99], {}, 99), ([1, 9], {}, 9), ([1], {"stable": 1, "canary": 7}, 7), (None, {"a": 0}, 0)],
)
def test_a_request_for_versions_that_are_not_in_the_folder_is_refused(
    tmp_path: Path, versions: list[int] | None, labels: dict[str, int], missing: int
) -> None:
    with pytest.raises(RequestError) as refused:
        policy_for(folder_of_models(tmp_path), versions, version_labels=labels)
    assert refused.value.status == 404
    assert str(refused.value) == (
        f'model "m" has no version {missing} in the folder of this server; it has 1, 2'
    )


def test_a_request_for_no_version_of_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no versions; give at least one") as refused:
        policy_for(folder_of_models(tmp_path), [])
    assert refused.value.status == 400


def test_a_request_that_lists_a_model_twice_is_refused(tmp_path: Path) -> None:
    request = tf_serving().ReloadConfigRequest()
    for _ in range(2):
        request.config.model_config_list.config.add(name="m")
    own = Shelf(folder_of_models(tmp_path), Policy(ALL), nothing_is_loaded)
    with pytest.raises(RequestError, match='lists model "m" more than once') as refused:
        reloaded(request, own)
    assert refused.value.status == 400


def test_a_base_path_may_lead_to_the_folder_of_the_model_through_links(tmp_path: Path) -> None:
    folder, link = folder_of_models(tmp_path / "stored"), tmp_path / "link"
    link.symlink_to(folder)
    (folder / "other").rename(tmp_path / "elsewhere")
    (folder / "m").rename(tmp_path / "m")
    (folder / "m").symlink_to(tmp_path / "m")
    for served in (folder, link):
        for base_path in ("", folder / "m", f"{link}/m/", tmp_path / "m"):
            assert policy_for(served, base_path=str(base_path)).of_model == {"m": LATEST}


@pytest.mark.parametrize("base_path", ["/etc", "m", "other", "a\0b", "gs://bucket/m"])
def test_another_base_path_is_refused_and_the_expected_one_named(
    tmp_path: Path, base_path: str
) -> None:
    folder = folder_of_models(tmp_path)
    with pytest.raises(RequestError) as refused:
        policy_for(folder, base_path=base_path)
    assert refused.value.status == 403
    assert str(refused.value) == (
        '"m" can only be served from the server\'s own folder; give the base_path'
        f" {folder}/m, or none"
    )
