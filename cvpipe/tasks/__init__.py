"""What can be learned: one module per task, plain functions and two constants (see
CONTRIBUTING.md).
"""

from __future__ import annotations

import importlib
from types import ModuleType


def task_module(name: str) -> ModuleType:
    """The module of a task, such as "classification"."""
    return importlib.import_module(f"cvpipe.tasks.{name}")
