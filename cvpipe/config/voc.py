"""Pascal VOC's layout."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cvpipe.config.classes import ClassList
from cvpipe.config.section import Section
from cvpipe.config.source import Source, given_splits


class VocSplit(Section):
    """A split of a voc source: a folder of images, and a folder of XML files with the same names.
    They may be the same folder.
    """

    images: str
    """The folder of the images, relative to the source's root."""
    annotations: str
    """The folder of the XML files, relative to the source's root."""


class Voc(Source):
    """Pascal VOC's layout: an XML file per image. Splits come from lists, from folders named train,
    val and test, or from the keys `train`, `validation` and `test`.
    """

    kind: Literal["voc"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    root: str = ""
    """Folder that contains all other folders, relative to `path`, such as VOCdevkit/VOC2007."""
    images: str = "JPEGImages"
    """The folder of the images; "." is the root itself. If `images` and `annotations` are omitted
    and neither folder exists, both are the root.
    """
    annotations: str = "Annotations"
    """The folder of the XML files, which may be the folder of the images."""
    lists: str = "ImageSets/Main"
    """The folder of the lists train.txt (or trainval.txt), val.txt and test.txt, with the name or
    path of an image in each line. Without lists, folders named train, val and test in the folder of
    the XML files are the splits; without such folders, images are held out by `data.test` and
    `data.validation`.
    """
    train: VocSplit | None = None
    """Folders of the training split, instead of `images`, `annotations` and `lists`."""
    validation: VocSplit | None = None
    """Folders of the validation split; omit to hold out some training images."""
    test: VocSplit | None = None
    """Folders of the test split; omit to hold out some images."""
    classes: ClassList = ()
    """Class names in the order of their labels; empty: the classes found in the annotations, in
    alphabetical order.
    """
    one_based: bool = True
    """true: pixels are counted from 1, and xmax and ymax are the last pixels of the object, as in
    Pascal VOC. false: coordinates are counted from 0, and a box is xmax - xmin wide.
    """
    upright: bool | None = None
    """true: boxes refer to the photo rotated upright by its Exif orientation; false: to the stored
    photo. Used only if the image size in the XML file is missing or fits both orientations, as for
    square photos and rotations by 180°. null: the stored photo if the size fits both, the upright
    photo if the size is missing.
    """

    @property
    def splits(self) -> dict[str, VocSplit]:
        """Return splits with their own folders, by name."""
        return given_splits(self)

    @property
    def inside(self) -> list[str]:
        """Return paths of folders, relative to `path`."""
        paths = [self.images, self.annotations, self.lists]
        paths += [
            path for split in self.splits.values() for path in (split.images, split.annotations)
        ]
        return [f"{self.root}/{path}" if self.root else path for path in paths]

    @model_validator(mode="after")
    def _splits_are_given_once(self) -> Voc:
        others = self.model_fields_set & {"images", "annotations", "lists"}
        if self.splits and others:
            raise ValueError(
                f"{' and '.join(sorted(others))} can't be combined with"
                f" {' and '.join(self.splits)}, because both say where the files are; leave out one"
                " of the two"
            )
        if self.splits and not self.train:
            raise ValueError(
                f"{' and '.join(self.splits)} can't be given without train; add the training"
                " split's folders"
            )
        return self
