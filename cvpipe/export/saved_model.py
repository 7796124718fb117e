"""SavedModels that need none of our code, written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras

from cvpipe.config import Config
from cvpipe.evaluation import Predict
from cvpipe.export.signatures import image_signatures
from cvpipe.tasks.task import Networks, Task


def write_saved_model(
    folder: Path, members: Sequence[Networks], predict: Predict, task: Task, config: Config
) -> None:
    """Write the SavedModel with its signatures to `folder`, which must not exist.

    Args:
        members: the networks of all models that `predict` asks.
        predict: from `make_predict`.
    """
    archive = keras.export.ExportArchive()
    for networks in members:
        for name, network in networks.items():
            if name not in task.frozen:
                archive.track(network)
    if task.requests:
        for request in task.requests(members[0]):
            archive.add_endpoint(request.name, request.answer, input_signature=[*request.inputs])
    else:
        for name, (function, inputs) in image_signatures(predict, task, config).items():
            archive.add_endpoint(name, function, input_signature=inputs)
    archive.write_out(str(folder), verbose=False)
