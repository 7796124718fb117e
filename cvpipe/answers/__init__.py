"""Answers as JSON, for people and programs: one file per task. Needs NumPy and Pillow only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

UNREADABLE = "can't be decoded: the file is damaged, too large, or no JPEG, PNG, BMP or WebP image"
"""Error message returned for an image that can't be decoded."""


def to_answer(task: str, predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch as plain JSON values.

    Args:
        task: the pipeline's `task`, the name of a module in this package.
        predictions: the task's answers by name, each [B, …].
        n: position in the batch.
    """
    module = importlib.import_module(f"cvpipe.answers.{task}")
    answer: dict[str, Any] = module.to_answer(predictions, n)
    return answer
