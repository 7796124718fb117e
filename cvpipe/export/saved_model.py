"""Writing of SavedModels that load without cvpipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.evaluation import Predict
from cvpipe.export.signatures import image_signatures
from cvpipe.tasks.task import Networks, Task


def write_saved_model(
    folder: Path,
    members: Sequence[Networks],
    predict: Predict,
    task: Task,
    config: Config,
    aliases: Mapping[str, Any],
    explained: Predict | None = None,
) -> None:
    """Write the SavedModel with its signatures to `folder`, which must not exist.

    Args:
        members: the networks of all models that `predict` uses.
        predict: from `make_predict`.
        aliases: function aliases, by which converters find functions of the graph.
        explained: from `with_maps`; None for no signature `explain`.
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
        signatures = image_signatures(predict, task, config, explained)
        for name, (function, inputs) in signatures.items():
            archive.add_endpoint(name, function, input_signature=inputs)
    options = tf.saved_model.SaveOptions(function_aliases=aliases or None)
    archive.write_out(str(folder), options, verbose=False)
