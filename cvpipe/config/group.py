"""Groups of images that stay in one split."""

from __future__ import annotations

import re

from pydantic import model_validator

from cvpipe.config.section import Count, Section


class Group(Section):
    """The group of each image, such as its patient, scene or video. Exactly one of `column`,
    `folder` and `pattern` must be given. Held-out splits and folds take whole groups, so their
    sizes are approximate.
    """

    column: str | None = None
    """A column of the source's tables, a feature of its records, or a field of its JSON files. The
    group is the value of the image.
    """
    folder: Count | None = None
    """Level of a folder, counted from the image: 1 is the folder that contains the image, 2 is its
    parent. The group is the folder's name.
    """
    pattern: str | None = None
    """A regular expression with one pair of parentheses, searched for in the image's file name. The
    group is the text in the parentheses. With '^([^_]+)_', p7_3.jpg is in the group p7.
    """

    @model_validator(mode="after")
    def _has_one_key(self) -> Group:
        given = [key for key in Group.model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'none of the keys'} given; give one of column, folder and"
                " pattern"
            )
        if self.pattern is not None:
            try:
                parts = re.compile(self.pattern).groups
            except re.error as error:
                raise ValueError(
                    f"pattern: '{self.pattern}' is not a regular expression ({error}); correct it"
                ) from None
            if parts != 1:
                raise ValueError(
                    f"pattern: '{self.pattern}' has {parts} pairs of parentheses; put one pair"
                    " around the group's name, and write others as (?:…)"
                )
        return self
