"""COCO's JSON."""

from __future__ import annotations

from typing import Literal

from cvpipe.config.section import Section
from cvpipe.config.source import Source


class CocoSplit(Section):
    """A split of a coco source."""

    annotations: str
    """The JSON file, such as annotations/instances_train2017.json, relative to the source's path.
    """
    images: str = ""
    """Folder that file names in the JSON file are relative to, such as train2017. The folder is
    relative to the source's path.
    """


class Coco(Source):
    """COCO's instances in JSON, with their boxes; crowd regions are neither learned nor scored."""

    kind: Literal["coco"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    train: CocoSplit
    """The training split. If `test` is omitted, test images are held out of it."""
    validation: CocoSplit | None = None
    """The validation split; omit to hold out some training images."""
    test: CocoSplit | None = None
    """The test split; omit to hold out some images."""
    upright: bool = False
    """true: annotations refer to the photo rotated upright by its Exif orientation; false: to the
    stored photo. Used only if the image size in the JSON file is missing or fits both orientations,
    as for square photos and rotations by 180°.
    """


class CocoMasks(Coco):
    """COCO's instances in JSON, whose polygons and RLEs are painted into a mask with background as
    its first class; crowd regions are neither learned nor scored.
    """

    masks: Literal[True] = True
    """Always true in segmentation."""
