"""The contract between the export and a runtime other than TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Unconvertible(Exception):
    """A runtime lacks an operation of the network's or its answers'; the message is its name."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A runtime that answers prepared images from a file of its own."""

    title: str
    """Its name for people."""
    modules: tuple[str, ...]
    """Modules that convert and run; the extra of the format's name installs them."""
    package: str
    """The distribution whose version stands in the artifact."""
    file: str
    """The name of the file; others that belong to it lie beside it."""
    batch: int | None
    """Images in a request; None for any number."""
    convert: Callable[[Any, Path], None]
    """(`plain.Plain`, file) writes the file; raises Unconvertible."""
