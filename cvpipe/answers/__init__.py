"""Conversion of answers to JSON, one file per task. Needs only NumPy and Pillow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from cvpipe.data.annotated import Annotations

UNREADABLE = (
    "can't be decoded: the file is damaged, too large, or not a JPEG, PNG, BMP or WebP image"
)
"""Error message returned for an image that can't be decoded."""


def to_answer(task: str, predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch as plain JSON values.

    Args:
        task: the pipeline's `task`, the name of a module in this package.
        predictions: the task's answers by name, each [B, …].
        n: position in the batch.
    """
    answer: dict[str, Any] = _module(task).to_answer(predictions, n)
    return answer


def to_annotations(task: str, answer: Mapping[str, Any]) -> Annotations:
    """Convert an answer of `to_answer` to annotations of its image."""
    annotations: Annotations = _module(task).to_annotations(answer)
    return annotations


def answered_kinds(task: str) -> frozenset[str]:
    """Return the kinds of annotation in a task's answers, from `annotated.KINDS`.

    Empty if the task's answers can't be converted to annotations.
    """
    kinds: frozenset[str] = getattr(_module(task), "KINDS", frozenset())
    return kinds


def _module(task: str) -> ModuleType:
    return importlib.import_module(f"cvpipe.answers.{task}")
