"""Discovery and loading of SavedModels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict

from cvpipe.errors import UserError
from cvpipe.export.about import ABOUT, VALID, find_versions, read_about, values_in_words
from cvpipe.export.manifest import check_manifest
from cvpipe.export.operations import check_operations
from cvpipe.export.replay import default_inputs
from cvpipe.serving.errors import RequestError

BYTES_SIGNATURE = "serving_default"
"""The signature of cvpipe's artifacts that takes encoded images."""


@dataclass(frozen=True)
class Servable:
    """One loaded version of a model."""

    signatures: Mapping[str, Callable[..., dict[str, tf.Tensor]]]
    signature_protos: Mapping[str, Any]
    """The SignatureDef protos by signature name."""
    default_inputs: Mapping[str, Mapping[str, tf.Tensor]]
    """Default values of optional inputs, by signature name and input name.

    TensorFlow Serving fills in missing inputs of gRPC requests by itself, but not those of REST;
    TensorFlow's loader doesn't.
    """
    valid: str | None
    """Name of the output that is True for decoded images; None if the model is not from cvpipe."""
    root: Any
    """The loaded model. Signatures hold only weak references to its variables, so keep it."""
    folder: Path = field(default_factory=Path)

    @cached_property
    def signature_def(self) -> dict[str, Any]:
        """The SignatureDef protos as JSON, by signature name."""
        return {
            name: MessageToDict(
                proto, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for name, proto in self.signature_protos.items()
        }

    @cached_property
    def task(self) -> str | None:
        """The task of an artifact; None if the model is not from cvpipe."""
        return read_about(self.folder)["config"]["task"] if self.valid else None

    @cached_property
    def images_input(self) -> str | None:
        """The input of `BYTES_SIGNATURE` for encoded images, string [B]; None if there is none."""
        if self.valid is None or BYTES_SIGNATURE not in self.signatures:
            return None
        specs, optional = self.input_specs(BYTES_SIGNATURE), self.defaults(BYTES_SIGNATURE)
        required = [spec for name, spec in specs.items() if name not in optional]
        if len(required) != 1 or required[0].dtype != tf.string or required[0].shape.rank != 1:
            return None
        return next(name for name in specs if name not in optional)

    def input_specs(self, signature_name: str) -> dict[str, tf.TensorSpec]:
        """Return the inputs of a signature by name."""
        return self.signatures[signature_name].structured_input_signature[1]  # type: ignore[attr-defined]

    def output_specs(self, signature_name: str) -> dict[str, tf.TensorSpec]:
        """Return the outputs of a signature by name."""
        return self.signatures[signature_name].structured_outputs  # type: ignore[attr-defined]

    def defaults(self, signature_name: str) -> Mapping[str, tf.Tensor]:
        """Return the optional inputs of a signature and their default values."""
        return self.default_inputs.get(signature_name, {})

    def check_options(self, signature_name: str, given: Mapping[str, Any]) -> None:
        """Refuse options with values that the artifact doesn't take. Options of other models aren't
        checked.

        Args:
            signature_name: name of the signature.
            given: inputs of a request by name, arrays.

        Raises:
            RequestError: 400.
        """
        for name in self.defaults(signature_name).keys() & given.keys():
            described = self._signatures.get(signature_name, {"inputs": {}})["inputs"].get(name)
            for value in np.ravel(given[name]).tolist() if described else ():
                if wanted := values_in_words(described, value):
                    raise RequestError(400, f'the option "{name}" takes {wanted}, not {value:g}')

    @cached_property
    def _signatures(self) -> dict[str, Any]:
        return read_about(self.folder)["signatures"] if self.valid else {}


def nothing_to_serve(folder: Path) -> UserError:
    """Return the error for a folder without exported models."""
    return UserError(f"no exported model under {folder}; export one with: cvpipe export RUN")


def find_models(folder: Path) -> dict[str, dict[int, Path]]:
    """Return the exported versions by model name and number, ascending.

    `folder` contains models (NAME/VERSION/saved_model.pb), or is one model (VERSION/saved_model.pb)
    or one version (saved_model.pb). A single version whose folder isn't named by a number becomes
    version 1 of a model with the folder's name. In the folder of a model, subfolders whose names
    aren't numbers are unfinished exports and are ignored.

    Raises:
        UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; give the folder that cvpipe export wrote to")
    folder = folder.resolve()
    if (folder / "saved_model.pb").is_file():
        if folder.name.isdecimal():
            return {folder.parent.name: {int(folder.name): folder}}
        return {folder.name: {1: folder}}
    if versions := find_versions(folder):
        return {folder.name: versions}
    models = sorted(path for path in folder.iterdir() if path.is_dir())
    return {path.name: versions for path in models if (versions := find_versions(path))}


def load_servable(path: Path) -> Servable:
    """Check the operations of a version and, if it is from cvpipe, its files; then load it.

    Raises:
        UserError: the version can't be loaded, its files were changed, or it has unsafe operations.
    """
    is_ours = (path / ABOUT).is_file()
    if is_ours:
        check_manifest(path)
    saved_model = check_operations(path)
    try:
        root = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UserError(
            f"can't load the exported model {path}: {error}; export it again with: cvpipe"
            " export RUN"
        ) from error
    protos = dict(saved_model.meta_graphs[0].signature_def)
    valid = VALID if is_ours else None
    return Servable(root.signatures, protos, default_inputs(str(path)), valid, root, path)
