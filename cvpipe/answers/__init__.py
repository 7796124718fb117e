"""Answers as JSON, for people and programs: one file per task. Needs NumPy and Pillow only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

UNREADABLE = "can't be decoded: the file is damaged, too large, or no JPEG, PNG, BMP or WebP image"
"""The error that is answered instead, where an image can't be decoded."""


def to_answer(task: str, predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return the nth of a batch of answers as plain JSON values.

    Args:
        task: a pipeline's `task`, which is the name of a module here.
        predictions: the task's answers, [B, …] each.
        n: position in the batch.
    """
    module = importlib.import_module(f"cvpipe.answers.{task}")
    answer: dict[str, Any] = module.to_answer(predictions, n)
    return answer
