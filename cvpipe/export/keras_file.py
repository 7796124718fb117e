"""A run's network as a `.keras` file, for programs that build on Keras.

`keras.saving.load_model` reads it once `cvpipe.models.layers` has been imported. It takes prepared
images and returns raw outputs; the exported SavedModel takes encoded images and returns answers.
"""

from __future__ import annotations

import os
from pathlib import Path

import keras

from cvpipe.errors import ConfigError, UserError
from cvpipe.training.build import load_model
from cvpipe.training.ensemble import Member


def check_keras_file(file: Path) -> None:
    """Refuse a path that can't become a `.keras` file.

    Raises:
        ConfigError: its name ends otherwise, or a folder lies there.
    """
    if file.suffix != ".keras":
        raise ConfigError(
            f"--keras {file}: Keras reads such files by their ending; end it in .keras"
        )
    if file.is_dir():
        raise ConfigError(f"--keras {file}: a folder; give the path of a file")


def export_keras(member: Member, file: Path) -> dict[str, str]:
    """Write the network of a run at a checkpoint, with averaged weights where the run keeps them.

    Returns:
        "file" and "checkpoint", paths.

    Raises:
        ConfigError: `file` can't become a `.keras` file.
        DataError: the checkpoint can't be loaded.
        UserError: the file can't be written; one that lay there before stays as it was.
    """
    check_keras_file(file)
    model = load_model(*member)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(model, file)
    except OSError as error:
        raise UserError(f"--keras {file}: can't be written ({error}); give another path") from None
    return {"file": str(file), "checkpoint": str(member.checkpoint)}


def _write(model: keras.Model, file: Path) -> None:
    """Write the file, whole or not at all."""
    # Keras insists on the ending.
    partial = file.with_name(f".{file.stem}-{os.getpid()}.keras")
    try:
        model.save(partial)
        _flush(partial)
        partial.replace(file)
        _flush(file.parent)
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
