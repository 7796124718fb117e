"""YOLO's text files."""

from __future__ import annotations

from typing import Literal

from cvpipe.config.classes import ClassList
from cvpipe.config.source import Source


class Yolo(Source):
    """YOLO's text files: a file per image, with "class cx cy width height" or "class x y x y …" in
    each line, in a folder labels/ beside images/, or beside the image.
    """

    kind: Literal["yolo"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive, with images such as images/train/1.jpg or train/images/1.jpg.

    Relative to where the command runs.
    """
    images: str = "images"
    """Name of the folders with images, if data.yaml has no splits."""
    labels: str = "labels"
    """Name of the folders with text files. Apart from this folder and the extension, a text file
    has the path of its image.
    """
    names: str = "data.yaml"
    """The YAML file, relative to `path`, with the class names under `names`, and each split's
    folder or list of images under `train`, `val` and `test`. Without it, folders named train, val
    and test are the splits, and classes.txt has the class names.
    """
    classes: ClassList = ()
    """Class names in the order of their numbers; empty: the names in the file `names`."""
    upright: bool = True
    """true: coordinates are fractions of the photo rotated upright by its Exif orientation, as in
    labelImg and Ultralytics; false: of the stored photo.
    """
