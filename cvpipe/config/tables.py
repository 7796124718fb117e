"""Tables that include the images."""

from __future__ import annotations

from typing import Literal

from cvpipe.config.classes import ClassList
from cvpipe.config.section import Section
from cvpipe.config.source import Source


class Parquet(Source):
    """Parquet files with an image and its class in each row, as on public hubs. Words in the files'
    paths, such as train, validation and test, determine the splits. Needs `pip install
    'cvpipe[parquet]'`.
    """

    kind: Literal["parquet"]
    """Kind of format."""
    path: str
    """A folder of Parquet files, or a zip archive. Relative to where the command runs."""
    image: str = "image"
    """The column of images: encoded files, or structures with such a file as `bytes`."""
    label: str = "label"
    """The column of classes, which are numbers or names. Rows without a class, or with -1, are left
    out.
    """
    classes: ClassList = ()
    """Class names in the order of their numbers; empty: the names in the files' metadata, or else
    the numbers or names that occur.
    """


class ObjectKeys(Section):
    """Names and meaning of the fields of an object."""

    label: str = "category"
    """The field of an object's class, a number or a name."""
    box: str = "bbox"
    """The field of an object's box, four numbers."""
    box_form: Literal["xywh", "xyxy"] = "xywh"
    """xywh: left, top, width, height, as in COCO; xyxy: left, top, right, bottom."""
    fractions: bool = False
    """true: coordinates are fractions of the image; false: pixels from 0."""
    upright: bool = True
    """true: boxes refer to the upright photo, after its Exif orientation is applied; false: to the
    stored photo.
    """


class ParquetBoxes(ObjectKeys, Parquet):
    """Parquet files with an image and its objects in each row, as on public hubs. Words in the
    files' paths, such as train, validation and test, determine the splits. Needs `pip install
    'cvpipe[parquet]'`.
    """

    objects: str = "objects"
    """The column of objects: a structure of lists, or a list of structures."""
