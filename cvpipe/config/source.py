"""Base class of the sections that say where labeled images come from."""

from __future__ import annotations

from cvpipe.config.section import Section


class Source(Section):
    """A format, and where its files are.

    A format with several kinds of annotation has a class for each of them, of the same `kind`: a
    task's pipeline knows the one that it learns from.
    """

    kind: str
    """Kind of format."""

    @property
    def place(self) -> str:
        """Place of the data, for messages."""
        place: str = getattr(self, "path", self.kind)
        return place
