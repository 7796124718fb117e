"""TF Serving's ReloadConfigRequest, which changes the served versions and labels.

Paths in requests are only compared. Models come from the server's own folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvpipe.serving.errors import RequestError
from cvpipe.serving.models import find_models
from cvpipe.serving.policy import ALL, LATEST, Choice, Latest, Policy
from cvpipe.serving.shelf import Shelf


def reloaded(request: Any, shelf: Shelf) -> Policy:
    """Convert a request to a policy. Models that the request doesn't name are no longer served.

    Raises:
        RequestError: 400 for a request without models, for a model without versions or one that is
            listed twice, 404 for an unknown model or version, 403 for another folder.
    """
    configs = list(request.config.model_config_list.config)
    if not configs:
        raise RequestError(400, "the request has no model_config_list with models")
    found = find_models(shelf.folder)
    of_model: dict[str, Choice] = {}
    labels: dict[str, dict[str, int]] = {}
    for config in configs:
        if config.name in of_model:
            raise RequestError(400, f'the request lists model "{config.name}" more than once')
        if config.name not in found:
            raise RequestError(404, f'no model "{config.name}" in the folder of this server')
        own = next(iter(found[config.name].values())).parent
        if config.base_path and not _is_same(config.base_path, own):
            raise RequestError(
                403,
                f'"{config.name}" can only be served from the server\'s own folder; give the'
                f" base_path {own}, or none",
            )
        of_model[config.name] = choice = _choice(config.model_version_policy)
        labels[config.name] = dict(config.version_labels)
        _check_versions(config.name, choice, labels[config.name], found[config.name])
    return Policy(frozenset(), of_model, labels)


def check_loaded(shelf: Shelf) -> None:
    """Raise RequestError if a version that the shelf's policy names couldn't be loaded. What was
    served before is still served then.
    """
    policy = shelf.policy
    for model in policy.of_model:
        versions = {version.number: version for version in shelf.status(model)}
        for number in sorted(policy.chosen(model, versions) | policy.labeled(model, versions)):
            if error := versions[number].error:
                raise RequestError(
                    500,
                    f'version {number} of model "{model}" can\'t be loaded: {error}',
                    code=tf.errors.UNKNOWN,
                )


def _is_same(base_path: str, folder: Path) -> bool:
    """Return True if a path of a request leads to a folder, through links or not."""
    try:
        return os.path.realpath(base_path) == os.path.realpath(folder)
    except ValueError:  # the path has a null character
        return False


def _check_versions(
    model: str, choice: Choice, labels: Mapping[str, int], found: Collection[int]
) -> None:
    """Refuse to serve versions that a model lacks, instead of unloading the ones it has."""
    if choice == frozenset():
        raise RequestError(
            400, f'the policy "specific" of model "{model}" has no versions; give at least one'
        )
    numbers = choice if isinstance(choice, frozenset) else ()
    if missing := {*numbers, *labels.values()} - set(found):
        raise RequestError(
            404,
            f'model "{model}" has no version {min(missing)} in the folder of this server; it has'
            f" {', '.join(map(str, found))}",
        )


def _choice(policy: Any) -> Choice:
    if policy.HasField("all"):
        return ALL
    if policy.HasField("specific"):
        return frozenset(policy.specific.versions)
    if policy.HasField("latest") and policy.latest.num_versions:
        return Latest(policy.latest.num_versions)
    return LATEST
