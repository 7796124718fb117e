"""Hyperparameter search, cross-validation, and comparison of runs."""

from __future__ import annotations

from typing import Literal, get_args

SamplerName = Literal["random", "evolution", "controller"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
"""Ways of drawing trials."""
