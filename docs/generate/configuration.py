"""Generate the configuration reference, with an example of each section."""

from __future__ import annotations

import functools

from pydantic import TypeAdapter

from cvpipe.config import Pipeline
from cvpipe.config_reference import reference
from examples import examples


@functools.cache
def configuration() -> str:
    """Return the page."""
    return reference(TypeAdapter(Pipeline).json_schema(), examples()) + "\n"
