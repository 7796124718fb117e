"""Base classes of all sources of labeled images."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cvpipe.config.section import Section


class Source(Section):
    """A format and the location of its files.

    A format with several kinds of annotation has a class for each kind of annotation. These classes
    have the same `kind`; each task accepts the class that it needs.
    """

    kind: str
    """Kind of format."""

    @property
    def place(self) -> str:
        """Location of the data, for messages."""
        place: str = getattr(self, "path", self.kind)
        return place


def given_splits(section: Source) -> dict[str, Any]:
    """Return the values of `train`, `validation` and `test`, without missing and empty ones."""
    values = {split: getattr(section, split) for split in ("train", "validation", "test")}
    return {split: value for split, value in values.items() if value}


class Auto(Source):
    """A folder or zip archive whose format is detected. The log names the format and the reason.
    `cvpipe init` writes the detected source into a pipeline file.
    """

    task: ClassVar[str]
    """Task that the annotations are for."""

    kind: Literal["auto"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    format: str | None = None
    """The kind of source, such as coco, if several formats fit; omit it if only one does."""


class Merge(Source):
    """Several sources as one. Classes are joined by name, and splits by purpose (training,
    validation, test).
    """

    kind: Literal["merge"]
    """Kind of format."""
    sources: Annotated[tuple[Source, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""

    @property
    def place(self) -> str:
        """Places of all sources, for messages."""
        return " with ".join(source.place for source in self.sources)
