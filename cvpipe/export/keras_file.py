"""A run's network as a `.keras` file, for programs that build on Keras.

`keras.saving.load_model` reads it once `cvpipe.models.layers` has been imported. It takes prepared
images and returns raw outputs; the exported SavedModel takes encoded images and returns answers.
"""

from __future__ import annotations

from pathlib import Path

from cvpipe.atomic_write import atomic_path
from cvpipe.errors import ConfigError, UserError
from cvpipe.training.build import load_networks
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
        ConfigError: `file` can't become a `.keras` file, or the run has several networks.
        DataError: the checkpoint can't be loaded.
        UserError: the file can't be written; one that lay there before stays as it was.
    """
    check_keras_file(file)
    networks = load_networks(*member)
    if len(networks) > 1:
        raise ConfigError(
            f"--keras {file}: {member.run.folder} has several networks, {', '.join(networks)};"
            " export a run of one"
        )
    [network] = networks.values()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as partial:
            network.save(partial)
    except OSError as error:
        raise UserError(f"--keras {file}: can't be written ({error}); give another path") from None
    return {"file": str(file), "checkpoint": str(member.checkpoint)}
