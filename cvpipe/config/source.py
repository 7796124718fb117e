"""Base class of all sources of labeled images."""

from __future__ import annotations

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
