"""Data sources, splits and cross-validation folds."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from cvpipe.config.box_sources import ToolSource
from cvpipe.config.group import Group
from cvpipe.config.masks import Index, Masks, all_different, check_mask_classes
from cvpipe.config.packed import PackedBoxes, PackedLabels, PackedMasks
from cvpipe.config.record_files import (
    TfRecord,
    TfRecordBoxes,
    TfRecordMasks,
    WebDataset,
    WebDatasetBoxes,
    WebDatasetMasks,
)
from cvpipe.config.section import Count, Section, Share, misfit
from cvpipe.config.source import Source
from cvpipe.config.tables import Parquet, ParquetBoxes


class Digits(Source):
    """scikit-learn's 1,797 handwritten digits, 8×8 gray, 10 classes, part of the package."""

    kind: Literal["digits"]
    """Kind of format."""


class Idx(Source):
    """MNIST's format: gzip'd or plain IDX files named like train-images-idx3-ubyte.gz."""

    kind: Literal["idx"]
    """Kind of format."""
    path: str
    """A folder or zip archive with the four files.

    Relative to where the command runs.
    """
    classes: tuple[str, ...] = ()
    """Class names in the order of the label numbers; empty: the numbers themselves."""

    @field_validator("classes")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_different(names)


class Folder(Source):
    """A folder per class with its images, optionally below train/, validation/ and test/."""

    kind: Literal["folder"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    root: str = ""
    """Folder that contains the folders of classes or splits, relative to `path`."""


class ClassNames(Section):
    """A table with the names of labels."""

    file: str
    """The table, relative to the source's path; it has a header."""
    label: str
    """Heading of the column with the labels."""
    name: str
    """Heading of the column with their names."""


class Csv(Source):
    """Tables with a row per image: its path and its label."""

    kind: Literal["csv"]
    """Kind of format."""
    path: str
    """Folder or zip archive with tables and images.

    Relative to where the command runs.
    """
    train: str
    """The table of the training split, relative to `path`; without a test table, the table of all
    images.
    """
    validation: str | None = None
    """The table of the validation split; omit to hold out some training images."""
    test: str | None = None
    """The table of the test split; omit to hold out some images."""
    images: str = ""
    """Folder that paths in the tables are relative to; itself relative to `path`."""
    header: bool = True
    """True if the first row holds column headings."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Character that separates columns."""
    path_column: str = "0"
    """The column with the images' paths: its heading, or its position counted from 0."""
    label_column: str = "1"
    """The column with the labels: its heading, or its position counted from 0."""
    names: ClassNames | None = None
    """Table with the names of the labels; omit to use the labels as class names."""

    @model_validator(mode="after")
    def _two_columns(self) -> Csv:
        for key in ("path_column", "label_column"):
            column = getattr(self, key)
            if not self.header and not column.isdecimal():
                raise ValueError(
                    f"{key} is the heading '{column}', but header is false; give the column's"
                    " position, counted from 0"
                )
        if self.path_column == self.label_column:
            raise ValueError(
                f"path_column and label_column are both '{self.path_column}'; name two columns"
            )
        return self


class OneHot(Source):
    """Tables with a row per image, and a column per class that is 1 for the image's class, else 0,
    such as Roboflow's "multi-class" CSV. Images without a class or with several are left out.
    """

    kind: Literal["one_hot_csv"]
    """Kind of format."""
    path: str
    """Folder or zip archive with tables and images.

    Relative to where the command runs.
    """
    train: str
    """The table of the training split, relative to `path`; without a test table, the table of all
    images. Image paths are relative to the table's folder, or to `path`.
    """
    validation: str | None = None
    """The table of the validation split; omit to hold out some training images."""
    test: str | None = None
    """The table of the test split; omit to hold out some images."""
    path_column: str = "0"
    """The column with the images' paths: its heading, or its position counted from 0."""

    @property
    def files(self) -> dict[str, str]:
        """Tables by split."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: name for split, name in given.items() if name}


class Tfds(Source):
    """A data set of TensorFlow Datasets, by its name."""

    kind: Literal["tfds"]
    """Kind of format."""
    name: str
    """Such as cifar10, or imagenette/320px:1.0.0."""
    data_dir: str | None = None
    """Folder with the prepared data sets; omit for the default of TensorFlow Datasets,
    ~/tensorflow_datasets.
    """
    download: bool = False
    """Download and prepare the data set if it isn't there."""
    train: str = "train"
    """The training split, as an expression such as train[:80%]; without a test split, all images.
    """
    validation: str | None = None
    """The validation split; omit to hold out some training images."""
    test: str | None = "test"
    """The test split; null to hold out some images."""
    image: str = "image"
    """The feature with the image."""

    @property
    def place(self) -> str:
        """Name of the data set, for messages."""
        return self.name


class TfdsLabels(Tfds):
    """A data set of TensorFlow Datasets, by its name, with a class for each image."""

    label: str = "label"
    """The feature with the class."""


class TfdsObjects(Tfds):
    """A data set of TensorFlow Datasets, by its name, with boxes of objects."""

    objects: str = "objects"
    """The feature with the objects: a sequence whose items have a bbox and a label."""


class TfdsMasks(Tfds):
    """A data set of TensorFlow Datasets, by its name, with a mask for each image."""

    mask: str
    """The feature with the mask, such as segmentation_mask."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the mask's values; empty: those of the feature."""
    first_value: Annotated[int, Field(ge=0)] = 0
    """The mask's value of the first class; 1 for oxford_iiit_pet."""
    ignore_indices: tuple[Index, ...] = (255,)
    """Values of the mask that are neither learned nor scored."""

    @model_validator(mode="after")
    def _values_tell_classes(self) -> TfdsMasks:
        check_mask_classes(self.classes, self.ignore_indices, self.first_value)
        return self


class DigitScenes(Source):
    """scikit-learn's handwritten digits, enlarged, on cluttered backgrounds, with their boxes.

    They are drawn when the source is opened; nothing is downloaded.
    """

    kind: Literal["digit_scenes"]
    """Kind of format."""
    size: tuple[Count, Count] = (128, 128)
    """Height and width of the scenes, pixels."""
    channels: Literal[1, 3] = 3
    """1: gray, 3: RGB."""
    train: Count = 2_000
    """Number of training scenes."""
    validation: Count = 200
    """Number of validation scenes."""
    test: Count = 400
    """Number of test scenes. Splits don't share handwriting."""
    most_digits: Count = 6
    """Largest number of digits in a scene; the smallest is 1."""
    digit_sizes: tuple[Count, Count] = (16, 48)
    """Smallest and largest height of a digit in pixels, including its margin."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of the scenes."""

    @model_validator(mode="after")
    def _digits_fit(self) -> DigitScenes:
        smallest, largest = self.digit_sizes
        if smallest < 8 or not smallest <= largest <= min(self.size):
            raise ValueError(
                "digit_sizes must be [smallest, largest], from 8 up to the scenes' shorter side,"
                f" {min(self.size)}"
            )
        return self


class DigitSceneMasks(DigitScenes):
    """scikit-learn's handwritten digits, enlarged, on cluttered backgrounds, with masks of
    background and ten digits.

    They are drawn when the source is opened; nothing is downloaded.
    """

    masks: Literal[True] = True
    """Always true in segmentation."""


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
    the XML files are the splits; without those, images are held out by `data.test` and
    `data.validation`.
    """
    train: VocSplit | None = None
    """Folders of the training split, instead of `images`, `annotations` and `lists`."""
    validation: VocSplit | None = None
    """Folders of the validation split; omit to hold out some training images."""
    test: VocSplit | None = None
    """Folders of the test split; omit to hold out some images."""
    classes: tuple[str, ...] = ()
    """Class names in the order of their labels; empty: those found in the annotations, in
    alphabetical order.
    """
    one_based: bool = True
    """true: pixels are counted from 1, and xmax and ymax are the last pixels of the object, as in
    Pascal VOC. false: coordinates are counted from 0, and a box is xmax - xmin wide.
    """
    upright: bool | None = None
    """true: boxes refer to the photo rotated upright by its Exif orientation; false: to the stored
    photo. Used only if the size in the XML file fits both, as with squares and rotations by 180°,
    or is missing. null: the stored photo if the size fits both, the upright photo if it is missing.
    """

    @field_validator("classes")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_different(names)

    @property
    def splits(self) -> dict[str, VocSplit]:
        """Return splits with their own folders, by name."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in given.items() if split}

    @property
    def inside(self) -> list[str]:
        """Return paths of folders, relative to `path`."""
        paths = [self.images, self.annotations, self.lists]
        paths += [path for own in self.splits.values() for path in (own.images, own.annotations)]
        return [f"{self.root}/{path}" if self.root else path for path in paths]

    @model_validator(mode="after")
    def _splits_one_way(self) -> Voc:
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


class CocoSplit(Section):
    """A split of a coco source."""

    annotations: str
    """The JSON file, such as annotations/instances_train2017.json, relative to the source's path.
    """
    images: str = ""
    """Folder that file names in the JSON file are relative to, such as train2017; itself relative
    to the source's path.
    """


class Coco(Source):
    """COCO's instances in JSON, with their boxes; crowd regions are neither learned nor scored."""

    kind: Literal["coco"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    train: CocoSplit
    """The training split; without a test split, all images."""
    validation: CocoSplit | None = None
    """The validation split; omit to hold out some training images."""
    test: CocoSplit | None = None
    """The test split; omit to hold out some images."""
    upright: bool = False
    """true: annotations refer to the photo rotated upright by its Exif orientation; false: to the
    stored photo. Used only if the size in the JSON file fits both, as with squares and rotations by
    180°, or is missing.
    """


class CocoMasks(Coco):
    """COCO's instances in JSON, whose polygons and RLEs are painted into a mask with background as
    its first class; crowd regions are neither learned nor scored.
    """

    masks: Literal[True] = True
    """Always true in segmentation."""


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
    """Name of the folders with text files. Apart from it, a text file has the path of its image."""
    names: str = "data.yaml"
    """The YAML file, relative to `path`, with the class names under `names`, and each split's
    folder or list of images under `train`, `val` and `test`. Without it, folders named train, val
    and test are the splits, and classes.txt has the class names.
    """
    classes: tuple[str, ...] = ()
    """Class names in the order of their numbers; empty: those of the file `names`."""
    upright: bool = True
    """true: coordinates are fractions of the photo rotated upright by its Exif orientation, as in
    labelImg and Ultralytics; false: of the stored photo.
    """

    @field_validator("classes")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_different(names)


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


class AutoLabels(Auto):
    """A folder or zip archive of images with one class each, whose format is detected."""

    task = "classification"


class AutoBoxes(Auto):
    """A folder or zip archive of images with boxes, whose format is detected."""

    task = "detection"


class AutoMasks(Auto):
    """A folder or zip archive of images with masks, whose format is detected."""

    task = "segmentation"


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


class MergedLabels(Merge):
    """Several sources of images with one class each. Classes are joined by name, and splits by
    purpose (training, validation, test).
    """

    sources: Annotated[tuple[LabelSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


class MergedBoxes(Merge):
    """Several sources of images with boxes. Classes are joined by name, and splits by purpose
    (training, validation, test).
    """

    sources: Annotated[tuple[BoxSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


class MergedMasks(Merge):
    """Several sources of images with masks. Classes are joined by name, and splits by purpose
    (training, validation, test).
    """

    sources: Annotated[tuple[MaskSource, ...], Field(min_length=2)]
    """The sources, each with its own `kind`."""


# The sources of each kind of annotation.
LabelSource = Annotated[
    Digits
    | Idx
    | Folder
    | Csv
    | OneHot
    | Parquet
    | TfRecord
    | WebDataset
    | TfdsLabels
    | AutoLabels
    | PackedLabels
    | MergedLabels,
    Field(discriminator="kind"),
]
BoxSource = Annotated[
    DigitScenes
    | Voc
    | Coco
    | Yolo
    | ToolSource
    | ParquetBoxes
    | TfRecordBoxes
    | WebDatasetBoxes
    | TfdsObjects
    | AutoBoxes
    | PackedBoxes
    | MergedBoxes,
    Field(discriminator="kind"),
]
MaskSource = Annotated[
    DigitSceneMasks
    | CocoMasks
    | Masks
    | TfRecordMasks
    | WebDatasetMasks
    | TfdsMasks
    | AutoMasks
    | PackedMasks
    | MergedMasks,
    Field(discriminator="kind"),
]
for merged in (MergedLabels, MergedBoxes, MergedMasks):
    merged.model_rebuild()


class Fold(Section):
    """One fold of a cross-validation."""

    of: Annotated[int, Field(ge=2)] = 5
    """Number of folds. They have about equal sizes, also within each class."""
    index: Annotated[int, Field(ge=0)] = 0
    """Index of the fold for validation, from 0; the others are for training."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Fold:
        if self.index >= self.of:
            raise ValueError(
                f"index is {self.index}, but must be below 'of', {self.of}; folds count from 0"
            )
        return self


class Data(Section):
    """Source of the labeled images, and the splits made of it."""

    least_classes: ClassVar[int] = 2
    """Smallest number of classes that can be learned."""

    source: Source
    """The format, by its `kind`, and where the files are."""
    validation: Share = 0.1
    """Share of each class of the training split that is held out to choose the best checkpoint;
    unused if the source has a validation split.
    """
    test: Share = 0.2
    """Share of each class that is held out for testing; unused if the source has a test split."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of held-out splits and of `limit`. It is separate from the pipeline's `seed`, so
    runs with different seeds have the same splits and can form an ensemble.
    """
    fold: Fold | None = None
    """Cross-validation: replaces the validation split; `validation` is ignored."""
    group: Group | None = None
    """Images that belong together, which held-out splits and folds keep in one split. Groups that
    are in several of the source's own splits are reported.
    """
    only: tuple[str, ...] = ()
    """The classes to use, in this order; empty: all."""
    limit: Count | None = None
    """Largest number of training images, balanced over the classes and chosen at random by
    `split_seed`.
    """
    max_bad_share: Share = 0.05
    """Largest share of unreadable records in a split. The run stops if there are more; otherwise
    they are left out and reported.
    """

    @property
    def most_objects(self) -> int | None:
        """Largest number of objects per image; None: unlimited."""
        return None

    @field_validator("only")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_different(names)

    @model_validator(mode="after")
    def _enough_classes(self) -> Data:
        if 0 < len(self.only) < self.least_classes:
            raise misfit(
                "data.only", "data.only: one class can't be told from others; name at least two"
            )
        return self
