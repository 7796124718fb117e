"""Tasks: a file or folder for each, with a function `make_task` that returns a `task.Task`."""

from __future__ import annotations

import importlib

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.tasks.task import Task


def load_task(config: Config, facts: Facts) -> Task:
    """Create the task of a pipeline from its configuration and the facts of its data."""
    # The pipeline's `task` is the name of a module in this package.
    module = importlib.import_module(f"cvpipe.tasks.{config.task}")
    task: Task = module.make_task(config, facts)
    return task
