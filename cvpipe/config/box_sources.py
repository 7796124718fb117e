"""Sources of images with boxes, and the formats of labeling tools."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cvpipe.config.classes import ClassList
from cvpipe.config.coco import Coco
from cvpipe.config.digits import DigitScenes
from cvpipe.config.packed import PackedBoxes
from cvpipe.config.record_files import TfRecordBoxes, WebDatasetBoxes
from cvpipe.config.source import Auto, Merge, Source, given_splits
from cvpipe.config.tables import ParquetBoxes
from cvpipe.config.tfds import TfdsObjects
from cvpipe.config.voc import Voc
from cvpipe.config.yolo import Yolo


class ToolBoxes(Source):
    """Boxes exported by a labeling tool. Polygons, circles and ellipses are replaced by their
    bounding boxes.
    """

    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    classes: ClassList = ()
    """Class names in the order of their labels; empty: the classes found in the annotations, in
    alphabetical order.
    """
    upright: bool = True
    """true: boxes refer to the photo rotated upright by its Exif orientation; false: to the stored
    photo. Used only if the image size in the annotations is missing or fits both orientations.
    """


class ToolFiles(ToolBoxes):
    """Boxes in a file per split."""

    train: str
    """The file of the training split, relative to `path`. If `test` is omitted, test images are
    held out of this file.
    """
    validation: str | None = None
    """The file of the validation split; omit to hold out some training images."""
    test: str | None = None
    """The file of the test split; omit to hold out some images."""
    images: str = ""
    """Folder that image paths are relative to. The folder is relative to `path`. Leading parts of
    an image path that don't exist, such as those of a URL, are ignored.
    """

    @property
    def files(self) -> dict[str, str]:
        """Files by split."""
        return given_splits(self)


class LabelMe(ToolBoxes):
    """LabelMe's JSON files, one beside each image, or with the image's path in `imagePath`. Folders
    named train, val and test are the splits.
    """

    kind: Literal["labelme"]
    """Kind of format."""


class Kitti(ToolBoxes):
    """KITTI's text files, one per image, in a folder label_2 beside image_2. Objects of the type
    DontCare are left out and counted.
    """

    kind: Literal["kitti"]
    """Kind of format."""
    images: str = "image_2"
    """Name of the folders of images."""
    labels: str = "label_2"
    """Name of the folders of text files. Apart from this folder and the extension, a text file has
    the path of its image.
    """


class Cvat(ToolFiles):
    """CVAT's own XML, exported as "CVAT for images 1.1"."""

    kind: Literal["cvat"]
    """Kind of format."""


class LabelStudio(ToolFiles):
    """Label Studio's JSON or JSON-MIN, with rectangles, ellipses and polygons. Of a task with
    several annotations, the first that isn't cancelled is read.
    """

    kind: Literal["label_studio"]
    """Kind of format."""


class Via(ToolFiles):
    """JSON of the VGG Image Annotator 1 or 2: annotations or a whole project."""

    kind: Literal["via"]
    """Kind of format."""
    attribute: str | None = None
    """The region attribute that holds the class; omit if regions have only one attribute."""


class BoxCsv(ToolFiles):
    """Tables with a row per object, such as those of TensorFlow's tutorials, Roboflow and Open
    Images.
    """

    kind: Literal["box_csv"]
    """Kind of format."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Character that separates columns."""
    header: bool = True
    """True if the first row holds column headings."""
    path_column: str = "filename"
    """The column with the images' paths, or with image names without extension. Give the column's
    heading, or its position counted from 0.
    """
    label_column: str = "class"
    """The column with the class."""
    box_columns: tuple[str, str, str, str] = ("xmin", "ymin", "xmax", "ymax")
    """The columns with left, top, right and bottom."""
    crowd_column: str | None = None
    """A column with 1 for boxes around groups of objects, such as IsGroupOf. These boxes are
    neither learned nor scored.
    """
    fractions: bool = False
    """true: coordinates are fractions of the image, as in Open Images; false: pixels from 0."""
    names: str | None = None
    """A table without headings that maps labels to class names, relative to `path`, such as Open
    Images' class-descriptions-boxable.csv.
    """


class AutoBoxes(Auto):
    """A folder or zip archive of images with boxes, whose format is detected."""

    task = "detection"


class MergedBoxes(Merge):
    """Several sources of images with boxes. Classes are joined by name, and splits by purpose
    (training, validation, test).
    """

    sources: Annotated[tuple[BoxSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


BoxSource = Annotated[
    DigitScenes
    | Voc
    | Coco
    | Yolo
    | LabelMe
    | Kitti
    | Cvat
    | LabelStudio
    | Via
    | BoxCsv
    | ParquetBoxes
    | TfRecordBoxes
    | WebDatasetBoxes
    | TfdsObjects
    | AutoBoxes
    | PackedBoxes
    | MergedBoxes,
    Field(discriminator="kind"),
]
MergedBoxes.model_rebuild()
