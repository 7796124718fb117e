"""Reader for checkpoints of TensorFlow Model Garden: `ckpt-N` in the folder of a training run,
`best_ckpt-N` in its subfolder `trainer.best_checkpoint_export_subdir`.

A checkpoint is a table of tensors by name. Reading it needs no code of Model Garden, and runs no
code from the file.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvpipe.errors import ConfigError, DataError

BACKBONE = "backbone"
"""Prefix of the names of a backbone's tensors."""
HEAD = "model.layer_with_weights-1"
"""Name of a classifier's last layer. The backbone is layer_with_weights-0."""
BEST = "best_ckpt"
"""Prefix of the names of checkpoints whose weights are averages."""
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_AVERAGE = "/.OPTIMIZER_SLOT/optimizer/average"
_BACKBONES = ("backbone/", "model/layer_with_weights-0/")
"""Prefixes of the backbone's tensors, if it is saved beside the model, or as part of the model."""


def find_checkpoint(path: Path) -> Path | None:
    """Return the path of a checkpoint without file extensions: `path` itself, or the newest one in
    the folder `path`; None if there is none.

    Raises:
        ConfigError: the folder has several checkpoints, and no file "checkpoint" that names the
            newest.
    """
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if Path(f"{prefix}.index").is_file():
        return prefix
    found = sorted(file.with_suffix("") for file in path.glob("*.index")) if path.is_dir() else []
    if len(found) < 2:
        return found[0] if found else None
    state = path / "checkpoint"
    text = state.read_text(errors="replace") if state.is_file() else ""
    match = re.search(r'^model_checkpoint_path: "(.*)"', text, re.MULTILINE)
    # Only the name is used, because the folder may have moved.
    last = path / Path(match[1]).name if match else None
    if last not in found:
        raise ConfigError(
            f"model.weights: {path}: has {len(found)} checkpoints and no file 'checkpoint' that"
            f" names the newest; give one, such as {found[-1]}"
        )
    return last


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """Return the tensors of the backbone, and of a classifier's last layer, by their names with
    dots: "backbone.layer_with_weights-0.kernel".

    If the training averaged its weights (`optimizer_config.ema`), the averages are returned, as
    Model Garden evaluates with them.

    Raises:
        DataError: the checkpoint is damaged, or has no backbone.
    """
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        # A damaged table could state sizes that exceed the memory.
        sizes = {key: prod(shapes[key]) * dtypes[key].size for key in shapes}
        if sum(sizes.values()) > sum(file.stat().st_size for file in files_of(prefix)):
            raise ValueError("its tensors have more values than its files")
        values = {
            name: reader.get_tensor(key)
            for name, key in _names(set(shapes), averaged=not prefix.name.startswith(BEST)).items()
            if dtypes[key].is_floating
        }
    # Damaged bytes can raise any error of TensorFlow or Python.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"model.weights: {prefix}: damaged, or not a TensorFlow checkpoint ({reason}); copy"
            f" {prefix.name}.index and all of {prefix.name}.data-… again"
        ) from None
    if not any(name.startswith(BACKBONE) for name in values):
        raise DataError(
            f"model.weights: {prefix}: has no backbone, so it isn't from an image model of Model"
            " Garden; give the folder of a training of official.vision, or one of its checkpoints"
        )
    head = values.get(f"{HEAD}.kernel")
    if head is None or head.ndim != 2:
        # The layer after the backbone is not a classifier's last layer.
        values = {name: value for name, value in values.items() if name.startswith(BACKBONE)}
    return values


def files_of(prefix: Path) -> list[Path]:
    """Return the files that hold a checkpoint's numbers, in order."""
    folder, name = prefix.parent, prefix.name
    return sorted(file for file in folder.iterdir() if file.name.startswith(f"{name}.data-"))


def _names(keys: set[str], averaged: bool) -> dict[str, str]:
    """Return {name of a tensor for `read_checkpoint`: its key in the checkpoint}."""
    prefix = next((start for start in _BACKBONES if any(k.startswith(start) for k in keys)), "\0")
    head = HEAD.replace(".", "/") + "/"
    found = {}
    for key in keys:
        path = key.removesuffix(_VALUE)
        if path == key or _AVERAGE in path or not path.startswith((prefix, head)):
            continue
        average = f"{path}{_AVERAGE}{_VALUE}"
        name = f"{BACKBONE}/{path.removeprefix(prefix)}" if path.startswith(prefix) else path
        found[name.replace("/", ".")] = average if averaged and average in keys else key
    return found
