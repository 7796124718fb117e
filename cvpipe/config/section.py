"""Base class of all mappings in a pipeline file: strict and frozen, with documented keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

# Values up to these limits fit into float32 and int32.
LARGEST = 1e30
MOST = 2**31 - 1

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
Seed = Whole
Length = Annotated[int, Field(ge=1, le=2**14)]
"""Height or width of images in pixels, or channels or units of a layer."""
Repeats = Annotated[int, Field(ge=1, le=1000)]
"""Number of equal blocks or operations in a row."""
Range = tuple[Positive, Positive]


class Section(BaseModel):
    """One mapping of a pipeline file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def misfit(key: str, sentence: str) -> PydanticCustomError:
    """Return an error about sections that don't fit together.

    Args:
        key: the key to change, dotted from the top of the pipeline file, such as `prepare.resize`.
        sentence: what is wrong and what to do.
    """
    return PydanticCustomError("misfit", "{sentence}", {"key": key, "sentence": sentence})
