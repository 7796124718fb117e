"""Tasks: one file or folder each, with a function `make_task`; see `task.Task`."""

from __future__ import annotations

import importlib

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.tasks.task import Task


def load_task(config: Config, facts: Facts) -> Task:
    """Return the pipeline's task, bound to its data's facts."""
    # A pipeline's `task` is the name of a module here.
    module = importlib.import_module(f"cvpipe.tasks.{config.task}")
    task: Task = module.make_task(config, facts)
    return task
