"""Interface of runtimes other than TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Unconvertible(Exception):
    """The runtime lacks an operation. The message is the operation's name."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A runtime that runs models on prepared images from its own file format."""

    title: str
    """Display name."""
    modules: tuple[str, ...]
    """Python modules that it needs. The extra named after the format installs them."""
    package: str
    """Distribution whose version is recorded in the artifact."""
    file: str
    """Name of the main file; additional files are written beside it."""
    batch: int | None
    """Fixed batch size; None for any."""
    convert: Callable[[Any, Path], None]
    """Writes a `plain.Plain` to a file; raises Unconvertible."""
