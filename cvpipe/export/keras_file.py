"""Export of a run's network as a `.keras` file.

To read the file with `keras.saving.load_model`, import `cvpipe.models.layers` first. The network
maps prepared images to raw outputs, unlike the exported SavedModel, which maps encoded images to
answers.
"""

from __future__ import annotations

from pathlib import Path

from cvpipe.atomic_write import atomic_path
from cvpipe.errors import ConfigError, UserError
from cvpipe.training.build import load_networks
from cvpipe.training.ensemble import Member


def check_keras_file(file: Path) -> None:
    """Refuse an invalid path of a `.keras` file.

    Raises:
        ConfigError: the name does not end in .keras, or the path is a folder.
    """
    if file.suffix != ".keras":
        raise ConfigError(
            f"--keras {file}: Keras recognizes its files by their extension; choose a name that"
            " ends in .keras"
        )
    if file.is_dir():
        raise ConfigError(f"--keras {file}: a folder; give the path of a file")


def export_keras(member: Member, file: Path) -> dict[str, str]:
    """Write the network of a run at a checkpoint, with averaged weights if the run has them.

    Returns:
        The paths "file" and "checkpoint".

    Raises:
        ConfigError: `file` can't become a `.keras` file, or the run has several networks.
        DataError: the checkpoint can't be loaded.
        UserError: the file can't be written. An existing file is not changed.
    """
    check_keras_file(file)
    networks = load_networks(*member)
    if len(networks) > 1:
        raise ConfigError(
            f"--keras {file}: {member.run.folder} has several networks, {', '.join(networks)};"
            " export a run with one network"
        )
    [network] = networks.values()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as partial:
            network.save(partial)
    except OSError as error:
        raise UserError(f"--keras {file}: can't be written ({error}); give another path") from None
    return {"file": str(file), "checkpoint": str(member.checkpoint)}
